"""Requests of every kind that nobody should send, and some that one may."""

import base64
import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

import psutil
import urllib3
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

__all__ = ["COLUMNS", "fuzzed", "hostile_bodies"]

COLUMNS = ("query", "title", "category", "brand", "price", "device")
# What may be answered: predictions, refusals, and that there is no such thing.
_STATUS = (200, 400, 404)
_KEYS = ("instances", "inputs", "signature_name", "examples", "context", "b64")
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
_text, _number = st.text(max_size=30) | _scalars, st.floats() | _scalars


def _body(document: Any) -> bytes:
    return json.dumps(document).encode()


@st.composite
def hostile_bodies(draw: st.DrawFn, columns: Sequence[str] = COLUMNS) -> tuple[str, bytes]:
    """A path to POST to, and a body: nearly right, wrong JSON, or no JSON."""
    values = st.recursive(
        _scalars,
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from([*_KEYS, *columns]) | st.text(max_size=8), inner, max_size=4
            )
        ),
        max_leaves=12,
    )
    good = {n: st.floats(width=32) if n == "price" else st.text(max_size=30) for n in columns}
    wrong = {n: _number if n == "price" else _text for n in columns}
    right = draw(st.booleans())
    rows = st.fixed_dictionaries(good if right else wrong)
    path = draw(st.just("/v1/models/heft:predict") | st.sampled_from(_PATHS))
    signature = draw(st.just("") | st.sampled_from(["examples", "classify", "regress", "none", 3]))
    document: dict[str, Any] = {} if signature == "" else {"signature_name": signature}
    match draw(st.integers(0, 5)):
        case 0:
            document["instances"] = draw(st.lists(rows, min_size=int(right), max_size=4))
        case 1:
            size = draw(st.integers(1, 4))
            sizes = {"min_size": size, "max_size": size} if right else {"max_size": 4}
            kinds = good if right else wrong
            lists = {n: st.lists(kind, **sizes) for n, kind in kinds.items()}
            document["inputs"] = draw(st.fixed_dictionaries(lists))
        case 2:
            document[draw(st.sampled_from([*_KEYS, *columns]))] = draw(values)
        case 3:
            document["examples"] = draw(st.lists(values, max_size=3))
        case 4:
            whole = _body(draw(values))
            return path, whole[: draw(st.integers(0, len(whole)))]
        case _:
            return path, draw(st.binary(max_size=200))
    return path, _body(document)


def fuzzed(
    url: str, pid: int, requests: int, columns: Sequence[str] = COLUMNS
) -> tuple[Counter[int], float]:
    """Sends hostile requests to a server of the model `heft`.

    Args:
        url: of its REST face.
        pid: of its process.
        requests: how many.
        columns: of the model.

    Returns:
        Answers by status, 0 for none at all; and how many MiB the server grew by, after the first
        fifth of the requests.

    Raises:
        AssertionError: an answer of another status than a refusal's, or one without words.
    """
    pool = urllib3.PoolManager(retries=False, timeout=30)
    server, statuses, sizes = psutil.Process(pid), Counter[int](), []

    @settings(
        max_examples=requests, deadline=None, database=None, derandomize=True,
        phases=[Phase.generate], suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(request=hostile_bodies(columns))
    def send(request: tuple[str, bytes]) -> None:
        path, body = request
        response = pool.request("POST", f"{url}{path}", body=body)
        statuses[response.status] += 1
        answer = json.loads(response.data)
        assert response.status in _STATUS, (path, body, answer)
        assert ("error" in answer) == (response.status != 200), (path, body, answer)
        if sum(statuses.values()) % 100 == 0:
            sizes.append(server.memory_info().rss)

    send()
    return statuses, (max(sizes[-3:]) - sizes[len(sizes) // 5]) / 2**20
