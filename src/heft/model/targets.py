"""The columns of `y_true`: what the loss and the weighting know of a row besides its inputs."""

__all__ = ["AGE", "CLICK", "CONVERSION", "PAIRS", "POSITION", "SLICE", "WIDTH"]

PAIRS = slice(0, 4)  # click w⁺, click w⁻, conversion w⁺, conversion w⁻
CLICK, CONVERSION = 4, 5  # labels as logged
AGE = 6  # log(1 + seconds a conversion could have been seen) / 16
POSITION = 7  # from 1; 0 where unknown
SLICE = 8  # id of the first categorical column; 0 where there is none
WIDTH = 9
