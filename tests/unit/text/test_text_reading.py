"""Pairs by traffic, read by BERT: which, what is said of the others, what is taken over."""

import logging
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from heft import features as f
from heft.errors import ConfigError, DataError, EncoderError
from heft.examples import shard_paths, write_columns
from heft.passes import Passes
from heft.text import reading
from heft.text.attention import PairAttention
from heft.text.encoder import load_encoder
from heft.text.links import PairLinks, Prediction, pair_keys
from heft.text.reading import read_pairs
from heft.text.settings import TextSettings
from heft.text.similarity import cosine_similarity
from heft.text.table import TextTable
from tests.unit.model.conftest import random_table

QUERIES = [b"cordless drill", b"garden hose", b"led bulb"]
TITLES = [b"18-Volt Cordless Drill Kit", b"50 ft. Water Hose", b"LED Bulb, 60 W", b"Oak Table"]
# query, title, impressions; −1 is a text that no vocabulary holds.
TRAFFIC = [(0, 0, 9), (1, 1, 7), (2, 2, 7), (0, 3, 2), (1, 3, 2), (2, 0, 1), (-1, 0, 8), (0, -1, 8)]


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> tuple[TextTable, str]:
    made = replace(random_table(3, 4), query_texts=QUERIES, title_texts=TITLES)
    uri = str(tmp_path_factory.mktemp("table"))
    made.save(uri)
    return made, uri


@pytest.fixture(scope="module")
def train(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("train")
    rows = np.array([pair[:2] for pair in TRAFFIC for _ in range(pair[2])])
    np.random.default_rng(0).shuffle(rows)
    for k, part in enumerate(np.array_split(rows, 2)):
        write_columns({f.QUERY_ID: part[:, 0], f.TITLE_ID: part[:, 1]}, folder / f"part-{k}.gz")
    return str(folder)


@pytest.fixture(scope="module")
def read(
    train: str, table: tuple[TextTable, str], tmp_path_factory: pytest.TempPathFactory
) -> tuple[PairLinks, str]:
    uri = str(tmp_path_factory.mktemp("read") / "links")
    read_pairs(train, table[1], uri, most=4)
    return PairLinks.load(uri), uri


def test_the_pairs_shown_most_have_the_link_that_bert_gives_them(
    read: tuple[PairLinks, str],
) -> None:
    links, uri = read
    # (0, 3) and (1, 3) were shown alike: the lower ids count as more.
    chosen = [(0, 0), (0, 3), (1, 1), (2, 2)]
    assert links.keys.tolist() == pair_keys(*np.array(chosen).T).tolist()
    assert links.facts == {
        "pairs": 6, "impressions": 28, "read": 4, "reused": 0, "impressions_read": 25,
    }  # fmt: skip
    reader = PairAttention(load_encoder(TextSettings()))
    queries, titles = zip(*((QUERIES[q], TITLES[t]) for q, t in chosen), strict=True)
    want = reader.attended(queries, titles).link
    got = links.of(*np.array(chosen).T, np.full(4, np.nan))
    assert got == pytest.approx(want, abs=1e-5)
    assert not list(Path(uri).parent.glob(".reading-*"))


def test_others_are_predicted(read: tuple[PairLinks, str], table: tuple[TextTable, str]) -> None:
    links, _ = read
    queries, titles = np.array([2, -1, 0]), np.array([0, 0, -1])
    cosine = cosine_similarity(table[0], queries, titles)
    mean = np.average(links.of(*np.array([(0, 0), (0, 3), (1, 1), (2, 2)]).T, np.zeros(4)),
                      weights=[9, 2, 7, 7])  # fmt: skip
    assert links.of(queries, titles, cosine) == pytest.approx(mean, abs=1e-6)


def test_a_later_run_reads_what_is_new(
    train: str,
    table: tuple[TextTable, str],
    read: tuple[PairLinks, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    # Ids are another vocabulary's: texts are what is taken over by.
    turned = replace(table[0], query_texts=QUERIES[::-1], queries=table[0].queries[::-1])
    turned.save(str(tmp_path / "table"))
    columns = {f.QUERY_ID: np.array([2, 1, 0]), f.TITLE_ID: np.array([0, 1, 0])}
    write_columns(columns, tmp_path / "train" / "part-0.gz")
    monkeypatch.setattr("heft.passes._SECONDS_BETWEEN_LINES", 0.0)
    arguments = (str(tmp_path / "train"), str(tmp_path / "table"))
    with caplog.at_level(logging.INFO, "heft"):
        found = read_pairs(*arguments, str(tmp_path / "new"), previous_uri=read[1])
    assert (found.facts["read"], found.facts["reused"]) == (1, 2)
    assert any("read pairs: 1 of 1" in line and "pairs/s" in line for line in caplog.messages)
    before = dict(zip(read[0].query_texts, read[0].links, strict=False))
    after = {(q, t): x for q, t, x in
             zip(found.query_texts, found.title_texts, found.links, strict=True)}  # fmt: skip
    assert after[QUERIES[1], TITLES[1]] == before[QUERIES[1]]
    monkeypatch.setattr(reading, "fingerprint", lambda folder: "another encoder's")
    again = read_pairs(*arguments, str(tmp_path / "again"), previous_uri=str(tmp_path / "new"))
    assert (again.facts["read"], again.facts["reused"]) == (3, 0)
    monkeypatch.setattr(reading, "load_encoder", pytest.fail)
    none = read_pairs(*arguments, str(tmp_path / "none"), previous_uri=str(tmp_path / "again"))
    assert (none.facts["read"], none.facts["reused"]) == (0, 3)
    np.testing.assert_array_equal(none.links, again.links)


@pytest.mark.parametrize("most", [1, 40, 10_000])
def test_counting_in_parts_is_counting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    monkeypatch.setattr(reading, "_ROWS_AT_ONCE", 700)
    monkeypatch.setattr(reading, "_BYTES_OF_PART", 2_000)
    rng = np.random.default_rng(1)
    ids = rng.geometric(0.2, (5_000, 2)) - 2
    for k, part in enumerate(np.array_split(ids, 3)):
        write_columns(
            {f.QUERY_ID: part[:, 0], f.TITLE_ID: part[:, 1]}, tmp_path / "in" / f"part-{k}.gz"
        )
    (tmp_path / "work").mkdir()
    shards = shard_paths(str(tmp_path / "in"))
    assert sum(Path(path).stat().st_size for path in shards) > 4_000  # several parts
    found = reading._most_shown(Passes(tmp_path / "work"), shards, most)
    want = Counter((q, t) for q, t in ids.tolist() if q >= 0 and t >= 0)
    first = sorted(want.items(), key=lambda x: (-x[1], x[0]))[:most]
    assert found.keys.tolist() == sorted((q << 32) | t for (q, t), _ in first)
    assert found.counts.sum() == sum(n for _, n in first)
    assert (found.pairs, found.impressions) == (len(want), sum(want.values()))


def test_the_prediction_follows_the_cosine() -> None:
    rng = np.random.default_rng(2)
    cosine = rng.uniform(-0.2, 0.9, 4_000)
    link = 0.2 + 0.4 * cosine**2
    noisy = np.clip(link + rng.normal(0, 0.05, 4_000), 0, 1)
    fitted = Prediction.fit(cosine, noisy, np.ones(4_000))
    inside = (cosine > -0.1) & (cosine < 0.8)
    assert np.abs(fitted.of(cosine) - link)[inside].max() < 0.03
    assert fitted.of(np.array([np.nan])) == pytest.approx(noisy.mean(), abs=1e-6)
    assert fitted.of(np.array([-1.0, 1.0])) == pytest.approx(fitted.links[[0, -1]])
    few = Prediction.fit(cosine[:20], noisy[:20], np.r_[np.ones(19), 81])
    want = (noisy[:19].sum() + 81 * noisy[19]) / 100
    assert few.of(np.array([0.0, 0.9, np.nan])) == pytest.approx(want, abs=1e-6)
    alike = Prediction.fit(np.zeros(200), noisy[:200], np.ones(200))
    assert np.isfinite(alike.of(np.array([-1.0, 0.0, 1.0]))).all()


def test_bad_input(train: str, table: tuple[TextTable, str], tmp_path: Path) -> None:
    out = str(tmp_path / "out")
    with pytest.raises(ConfigError, match="attention_pairs=0: expected at least 1"):
        read_pairs(train, table[1], out, most=0)
    unknown = {f.QUERY_ID: np.full(3, -1), f.TITLE_ID: np.arange(3)}
    write_columns(unknown, tmp_path / "unknown" / "part-0.gz")
    with pytest.raises(DataError, match="no row has both a query and a title of the vocabularies"):
        read_pairs(str(tmp_path / "unknown"), table[1], out)
    beyond = {f.QUERY_ID: np.array([0]), f.TITLE_ID: np.array([4])}
    write_columns(beyond, tmp_path / "beyond" / "part-0.gz")
    with pytest.raises(DataError, match="title id 4, and the table holds the texts of ids up to 3"):
        read_pairs(str(tmp_path / "beyond"), table[1], out)
    gone = replace(table[0], settings=TextSettings(encoder="/no/such/folder"))
    gone.save(str(tmp_path / "gone"))
    with pytest.raises(EncoderError, match="encoder='/no/such/folder': no such folder"):
        read_pairs(train, str(tmp_path / "gone"), out)
    with pytest.raises(DataError, match=r"no links\.json, so no whole set of links"):
        PairLinks.load(out)
