"""What is wrong with a config, in sentences."""

from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError

__all__ = ["explain"]

_NOT_SET = object()
_SECRET = (("notify", "url"),)  # keys whose value is not to be shown


def explain(error: ValidationError, overlays: dict[str, Any], settings: type[BaseModel]) -> str:
    """One line per fault: the key, what is wrong, what was received, what is known."""
    lines = []
    for fault in error.errors():
        key = ".".join(str(part) for part in fault["loc"])
        if fault["type"] == "extra_forbidden":
            lines.append(f"unknown key {key!r}{_known(fault['loc'], settings)}")
        elif fault["type"] == "missing":
            lines.append(f"missing key {key!r}")
        elif not key or isinstance(fault["input"], dict) or fault["loc"] in _SECRET:
            said = fault["msg"].removeprefix("Value error, ")
            lines.append(": ".join(part for part in (key, said) if part))
        else:
            lines.append(f"{key}={fault['input']!r}: {fault['msg'].removeprefix('Value error, ')}")
        lines[-1] += _origin(fault["loc"], overlays)
    return "; ".join(lines)


def _origin(location: tuple[int | str, ...], overlays: dict[str, Any]) -> str:
    """The overlay that set what is wrong, if one did."""
    for name, overlay in reversed(overlays.items()):
        node: Any = overlay
        for part in location:
            node = node.get(part, _NOT_SET) if isinstance(node, dict) else _NOT_SET
        if location and node is not _NOT_SET:
            return f" (in {name})"
    return ""


def _known(location: tuple[int | str, ...], settings: type[BaseModel]) -> str:
    model: Any = settings
    parts = iter(location[:-1])
    for part in parts:
        field = model.model_fields.get(part) if hasattr(model, "model_fields") else None
        if field is None:
            return ""
        candidates = [field.annotation, *getattr(field.annotation, "__args__", ())]
        if named := next((c for c in candidates if get_origin(c) is dict), None):
            next(parts, None)  # a name of the user's own
            candidates = list(get_args(named))
        model = next((c for c in candidates if hasattr(c, "model_fields")), None)
    return f": expected one of {sorted(model.model_fields)}" if model is not None else ""
