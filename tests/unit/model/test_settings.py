"""Settings that cannot be trained with are refused before anything runs."""

import pytest
from pydantic import ValidationError

from heft.model.settings import ModelSettings


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"hidden": [0]}, "hidden"),
        ({"hidden": [16, -3]}, "hidden"),
        ({"student": {"hidden": [0]}}, "student"),
        ({"seed": -1}, "seed"),
        ({"seed": 2**40}, "seed"),
        ({"l2": float("inf")}, "l2"),
        ({"clip_norm": float("inf")}, "clip_norm"),
        ({"cvr_weight": float("nan")}, "cvr_weight"),
        ({"weights": "learned", "jit": True}, "weights=learned and jit=true.*expected jit: false"),
    ],
)
def test_what_training_would_stumble_over_is_refused(given: dict, said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        ModelSettings.model_validate(given)
