"""What the Evaluator held a model back for, in sentences."""

from typing import Any

from tensorflow_model_analysis.api import model_eval_lib

from heft.report.wording import metric_label, number, signed

__all__ = ["failed_thresholds"]

# The ends of intervals that thresholds on slices look at.
_ENDS = {"_at_most": "at most", "_at_least": "at least"}


def failed_thresholds(evaluation: str) -> list[str]:
    """A sentence for each threshold that was not met, as TFMA recorded them; never empty.

    Args:
        evaluation: folder that the Evaluator wrote, of a model it did not bless.
    """
    result = model_eval_lib.load_validation_result(evaluation)
    if result.missing_thresholds:
        return ["The Evaluator had no thresholds to judge by: set thresholds in the config."]
    failures = [
        _sentence(failure, _slice(part.slice_key))
        for part in result.metric_validations_per_slice
        for failure in part.failures
    ]
    return failures or ["The Evaluator did not bless the model."]


def _sentence(failure: Any, where: str) -> str:
    key, value = failure.metric_key, failure.metric_value.double_value.value
    name, is_what = key.name, "is"
    for ending, said in _ENDS.items():
        if name.endswith(ending):
            name, is_what = name.removesuffix(ending), f"is surely {said}"
    opening = f"Evaluator: {metric_label(f'{key.output_name}_{name}')} on {where}"
    if failure.message:
        return f"{opening}: {' '.join(failure.message.split())}"
    if key.is_diff:
        return (
            f"{opening} changed by {signed(value)} against the last blessed model; "
            f"{_change(failure.metric_threshold.change_threshold)}."
        )
    expected = _range(failure.metric_threshold.value_threshold)
    return f"{opening} {is_what} {number(value)}; expected {expected}."


def _slice(key: Any) -> str:
    parts = [
        f"{part.column}={part.bytes_value.decode(errors='replace')}"
        for part in key.single_slice_keys
    ]
    return ", ".join(parts) or "all impressions"


def _range(threshold: Any) -> str:
    low, high = (
        getattr(threshold, end).value if threshold.HasField(end) else None
        for end in ("lower_bound", "upper_bound")
    )
    if low is not None and high is not None:
        return f"{low:g} to {high:g}"
    return f"at least {low:g}" if low is not None else f"at most {high:g}"


def _change(threshold: Any) -> str:
    return f"expected a loss of at most {abs(threshold.absolute.value):g}"
