"""Requests of every kind that nobody should send, and some that one may."""

import base64
import json
from typing import Any

from hypothesis import strategies as st

__all__ = ["hostile_bodies"]

_COLUMNS = ("query", "title", "category", "brand", "price", "device")
_KEYS = ("instances", "inputs", "signature_name", "examples", "context", "b64", *_COLUMNS)
_PATHS = (
    *(f"/v1/models/heft{place}:{method}" for place in ("", "/versions/1", "/versions/2")
      for method in ("predict", "classify", "regress")),
    "/v1/models/heft/labels/canary:predict", "/v1/models/none:predict", "/v1/models/heft",
    "/v1/models/heft:explain", "/v1//", "/v1/models/%00:predict",
    "/v1/models/heft/versions/-1:predict", f"/v1/models/heft/versions/{2**63}:predict",
)  # fmt: skip

_scalars = (
    st.none() | st.booleans() | st.integers() | st.integers(2**62, 2**80)
    | st.floats() | st.text(max_size=20) | st.sampled_from(["tv", "lamp", ""])
    | st.binary(max_size=8).map(lambda raw: {"b64": base64.b64encode(raw).decode()})
)  # fmt: skip
_values = st.recursive(
    _scalars,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(_KEYS) | st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=12,
)
_text, _number = st.text(max_size=30) | _scalars, st.floats() | _scalars
_rows = st.fixed_dictionaries({n: _number if n == "price" else _text for n in _COLUMNS})


def _body(document: Any) -> bytes:
    return json.dumps(document).encode()


@st.composite
def hostile_bodies(draw: st.DrawFn) -> tuple[str, bytes]:
    """A path to POST to, and a body: nearly right, wrong JSON, or no JSON."""
    path = draw(st.sampled_from(_PATHS) | st.just("/v1/models/heft:predict"))
    signature = draw(st.sampled_from(["", "examples", "classify", "regress", "none", 3]))
    document: dict[str, Any] = {} if signature == "" else {"signature_name": signature}
    match draw(st.integers(0, 5)):
        case 0:
            document["instances"] = draw(st.lists(_rows, max_size=4))
        case 1:
            columns = {
                n: st.lists(_number if n == "price" else _text, max_size=4) for n in _COLUMNS
            }
            document["inputs"] = draw(st.fixed_dictionaries(columns))
        case 2:
            document[draw(st.sampled_from(_KEYS))] = draw(_values)
        case 3:
            document["examples"] = draw(st.lists(_values, max_size=3))
        case 4:
            whole = _body(draw(_values))
            return path, whole[: draw(st.integers(0, len(whole)))]
        case _:
            return path, draw(st.binary(max_size=200))
    return path, _body(document)
