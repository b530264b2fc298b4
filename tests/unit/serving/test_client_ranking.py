"""The client and a real server: typed errors, what is left out, ranking."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from serving.client import Client
from serving.errors import InvalidRequest, ModelNotFound
from tests.unit.serving.contract import ONE, ROW
from tests.unit.serving.server import Server


@pytest.fixture(scope="module")
def server(exported: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("client"), "--model-base-path", str(exported / "heft"))
    server.start()
    yield server
    server.stop()


def test_errors_of_a_real_server_are_typed(server: Server) -> None:
    for target in (server.rest, server.grpc):
        with Client(target) as client:
            for wrong in ({"title": ["LG"]}, ONE | {"price": ["cheap"]}, ONE | {"colour": ["x"]}):
                with pytest.raises(InvalidRequest):
                    client.predict(wrong)
        with Client(target, "none") as client, pytest.raises(ModelNotFound):
            client.predict(ONE)
        with Client(target, version=7) as client, pytest.raises(ModelNotFound):
            client.states()


def test_what_is_left_out_or_given_once_is_answered_alike_by_rest_and_grpc(server: Server) -> None:
    titles = ["LG C4", "Samsung S90"]
    whole = {name: [value] * 2 for name, value in ROW.items()} | {
        "title": titles, "category": ["", ""], "brand": ["", ""], "price": [0.0, 0.0],
    }  # fmt: skip
    for target in (server.rest, server.grpc):
        with Client(target) as client:
            said = client.predict(whole)["ctr"]
            brief = {"query": [ROW["query"]], "title": titles, "device": [ROW["device"]]}
            assert client.predict(brief)["ctr"] == pytest.approx(said, abs=1e-7)
    assert said[0] != said[1]


def test_candidates_are_ranked_by_an_output_an_expression_or_a_name(server: Server) -> None:
    item = {k: v for k, v in ROW.items() if k not in ("query", "device")}
    candidates = [item | {"price": price, "cost": price / 2} for price in (5, 4000, 1, 300)]
    context = {"device": "mobile"}
    for target in (server.rest, server.grpc):
        with Client(target, rankings={"margin": "ctcvr * (price - cost)"}) as client:
            plain = [{k: v for k, v in c.items() if k != "cost"} for c in candidates]
            ranked = client.rank("tv", plain, context=context)
            assert [r.index for r in ranked] == [2, 0, 3, 1]  # the model likes what is cheap
            assert ranked[0].score == pytest.approx(ranked[0].predictions["ctcvr"])
            by_value = client.rank("tv", plain, by="ctcvr * price", context=context)
            assert [r.index for r in by_value] == [1, 3, 0, 2]
            by_margin = client.rank("tv", candidates, by="margin", context=context)
            assert [r.index for r in by_margin] == [1, 3, 0, 2]
            assert by_margin[0].score == pytest.approx(2000 * by_margin[0].predictions["ctcvr"])
            assert client.rank("tv", []) == []
            # What the ranking does not name is the model's, which does not know it.
            with pytest.raises(InvalidRequest):
                client.rank("tv", candidates, by="ctcvr * price", context=context)
            with pytest.raises(InvalidRequest, match="ctcvrs"):
                client.rank("tv", plain, by="ctcvrs", context=context)
            with pytest.raises(InvalidRequest, match="candidate 1 and candidate 0 differ"):
                client.rank("tv", [plain[0], candidates[1]])
