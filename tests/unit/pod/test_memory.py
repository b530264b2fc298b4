"""What one run leaves for the next."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from heft.pod.memory import Memory


def _keep(memory: Memory, folder: Path, text: str, name: str = "model", **metadata: object) -> None:
    made = folder / "made" / text
    made.mkdir(parents=True)
    (made / "file.txt").write_text(text)
    entry = {"source": f"s3://b/{text}", "type_title": "tfx.Model", "metadata": metadata}
    memory.keep(name, str(made), entry, most=2)


def test_the_latest_is_found_and_older_ones_go(tmp_path: Path) -> None:
    memory = Memory(tmp_path / "memory")
    assert memory.latest("model") == []
    for text in ("first", "second", "third"):
        _keep(memory, tmp_path, text)
    [latest] = memory.latest("model")
    assert (latest.path / "file.txt").read_text() == "third"
    assert [kept.source for kept in memory.entries("model")] == ["s3://b/second", "s3://b/third"]
    assert latest.artifact() == {
        "name": str(latest.path), "uri": str(latest.path), "metadata": {},
        "type": {"schemaTitle": "tfx.Model"},
    }  # fmt: skip


def test_a_node_does_not_meet_what_its_own_run_left(tmp_path: Path) -> None:
    memory = Memory(tmp_path / "memory")
    _keep(memory, tmp_path, "before")
    _keep(memory, tmp_path, "own")
    [latest] = memory.latest("model", but={"s3://b/own"})
    assert latest.source == "s3://b/before"


def test_what_a_killed_pod_left_half_is_not_found(tmp_path: Path) -> None:
    memory = Memory(tmp_path / "memory")
    _keep(memory, tmp_path, "whole")
    [whole] = memory.latest("model")
    half = whole.path.parents[1] / "000000002" / "content"
    half.mkdir(parents=True)
    (half / "file.txt").write_text("half")
    assert memory.latest("model") == [whole]
    _keep(memory, tmp_path, "next")
    assert memory.latest("model")[0].number == 3


def test_pods_that_keep_at_once_lose_nothing(tmp_path: Path) -> None:
    memory = Memory(tmp_path / "memory")

    def keep(number: int) -> None:
        made = tmp_path / "made" / str(number)
        made.mkdir(parents=True)
        entry = {"source": str(number), "type_title": "tfx.Model", "metadata": {}}
        memory.keep("model", str(made), entry, most=100)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(keep, range(40)))
    assert {kept.source for kept in memory.entries("model")} == set(map(str, range(40)))


def test_spans_before_one_are_the_last_that_passed(tmp_path: Path) -> None:
    memory = Memory(tmp_path / "memory")
    for text, span, form in (("a", 3, 1), ("b", 5, 1), ("c", 4, 1), ("d", 5, 1), ("e", 2, 0)):
        made = tmp_path / text
        made.mkdir()
        entry = {
            "source": text, "type_title": "tfx.ExampleAnomalies",
            "metadata": {"span": float(span), "form": float(form)},
        }  # fmt: skip
        memory.keep("passed", str(made), entry, most=20)

    def sources(span: int, spans: int = 5, since: int = 0) -> list[str]:
        found = memory.spans_before("passed", span, spans, since, {"form": 1})
        return [kept.source for kept in found]

    assert sources(6) == ["a", "c", "d"]  # of span 5 the later one, and none of another form
    assert sources(6, spans=2) == ["c", "d"]
    assert sources(5) == ["a", "c"]
    assert sources(6, since=5) == ["d"]
    assert sources(3) == []
