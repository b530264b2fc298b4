"""Fine-tuning on clicks: its loss, its batches, what it writes, and that it learns."""

import json
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from safetensors.numpy import load_file

from heft import features as f
from heft.errors import DataError, EncoderError
from heft.text.checkpoint import find_checkpoint, fingerprint
from heft.text.clicked import ShownPairs, count_shown
from heft.text.contrastive import Batches, contrastive_loss
from heft.text.encoder import load_encoder
from heft.text.finetune import Step, fine_tune
from heft.text.finetune_settings import FinetuneSettings
from heft.text.lora import adapter_weights, add_adapters, parent_of, write_checkpoint
from heft.text.settings import TextSettings
from tests.unit.text.small_bert import write_small_bert

COLOURS = ("red", "blue", "green", "black", "white", "yellow", "purple", "orange")
TOOLS = ("drill", "hammer", "saw", "lamp", "chair", "table", "hose", "ladder", "paint", "brush")
SETTINGS = FinetuneSettings(
    steps=24, batch_size=16, learning_rate=0.02, evaluate_every=8, holdout=0.3, seed=1
)


def planted() -> ShownPairs:
    """People ask for a colour and a tool, and click what has the colour, whatever it is."""
    queries = [f"{colour} {tool}".encode() for colour, tool in product(COLOURS, TOOLS)]
    titles = [f"{tool} in {colour}".encode() for tool, colour in product(TOOLS, COLOURS)]
    rng = np.random.default_rng(0)
    query = np.repeat(np.arange(len(queries)), 8)
    title = np.concatenate([np.sort(rng.permutation(len(titles))[:8]) for _ in queries])
    colour = [text.split()[0] for text in queries]
    right = np.array([titles[t].endswith(colour[q]) for q, t in zip(query, title, strict=True)])
    return ShownPairs(queries, titles, query, title, 9.0 * right, 10 - 9.0 * right)


@pytest.fixture(scope="module")
def parent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_bert(tmp_path_factory.mktemp("bert") / "parent")


@pytest.fixture(scope="module")
def tuned(parent: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("tuned") / "encoder"
    return fine_tune(planted(), TextSettings(encoder=str(parent)), SETTINGS, folder)


def test_it_learns_what_queries_it_never_saw_want(tuned: Any) -> None:
    assert tuned.curve[0] < 0.92
    assert tuned.curve[tuned.steps] > 0.97
    assert tuned.curve[tuned.steps] == max(tuned.curve.values())
    assert sorted(tuned.curve) == [0, 8, 16, 24]


def test_the_folder_is_a_checkpoint_that_knows_its_parent(tuned: Any, parent: Path) -> None:
    found = find_checkpoint(str(tuned.folder))
    assert parent_of(tuned.folder) == fingerprint(parent) != fingerprint(tuned.folder)
    assert parent_of(parent) is None
    assert found.vocabulary() == find_checkpoint(str(parent)).vocabulary()
    before, after = (load_file(p / "model.safetensors") for p in (parent, tuned.folder))
    assert before.keys() == after.keys()
    changed = {name for name in before if not np.array_equal(before[name], after[name])}
    assert changed == {
        f"encoder.layer.{layer}.attention.self.{kind}.weight"
        for layer, kind in product((0, 1), ("query", "value"))
    }
    facts = json.loads((tuned.folder / "heft_finetune.json").read_text())
    assert facts["settings"]["steps"] == 24
    assert not list(tuned.folder.parent.glob(".*")), "nothing half written is left"


@pytest.mark.parametrize("prefix", ["", "bert."])
def test_what_is_read_back_is_what_was_trained(tmp_path: Path, prefix: str) -> None:
    parent = write_small_bert(tmp_path / "parent", prefix=prefix, seed=3)
    encoder = load_encoder(TextSettings(encoder=str(parent), max_tokens=32))
    targets = ("query", "key", "value", "attention_output")
    texts = tf.constant(["red drill", "hammer in blue", "x"])
    before = encoder(texts).numpy()
    add_adapters(encoder.backbone, 4, targets, seed=0)
    np.testing.assert_allclose(encoder(texts), before, atol=1e-6)  # B is 0
    rng = np.random.default_rng(0)
    for weight in adapter_weights(encoder.backbone, targets):
        weight.assign(0.3 * rng.normal(size=weight.shape))
    trained = encoder(texts).numpy()
    assert np.abs(trained - before).max() > 0.05
    write_checkpoint(encoder.backbone, targets, parent, tmp_path / "new", {})
    again = load_encoder(TextSettings(encoder=str(tmp_path / "new"), max_tokens=32))
    np.testing.assert_allclose(again(texts), trained, atol=1e-5)


def test_tensors_of_other_names_are_an_error(tmp_path: Path, parent: Path) -> None:
    encoder = load_encoder(TextSettings(encoder=str(parent), max_tokens=32))
    add_adapters(encoder.backbone, 4, ("query",), seed=0)
    strange = write_small_bert(tmp_path / "strange", prefix="model.")
    with pytest.raises(EncoderError, match=r"no tensor encoder\.layer\.0\.attention\.self\.query"):
        write_checkpoint(encoder.backbone, ("query",), strange, tmp_path / "new", {})
    assert not (tmp_path / "new").exists()


class _Killed(Exception):
    pass


def test_one_that_was_killed_goes_on_and_ends_the_same(
    tuned: Any, parent: Path, tmp_path: Path
) -> None:
    text, seen = TextSettings(encoder=str(parent)), list[Step]()

    def run(stop: int) -> Any:
        def tell(step: Step) -> None:
            seen.append(step)
            if step.done == stop:
                raise _Killed

        return fine_tune(planted(), text, SETTINGS, tmp_path / "new", tmp_path / "state", tell)

    with pytest.raises(_Killed):
        run(20)
    assert not (tmp_path / "new").exists()
    found = run(-1)
    assert [step.done for step in seen] == [*range(1, 21), *range(17, 25)]
    assert seen[-1].seconds_left == 0
    assert found.curve == pytest.approx(tuned.curve, abs=1e-6)
    one, other = (load_file(p / "model.safetensors") for p in (found.folder, tuned.folder))
    for name, values in one.items():
        np.testing.assert_allclose(values, other[name], atol=1e-5)
    assert not (tmp_path / "state").exists()


def test_nothing_better_leaves_the_parents_weights(parent: Path, tmp_path: Path) -> None:
    """A rate that wrecks the encoder: the state before any step is kept."""
    wild = SETTINGS.model_copy(update={"learning_rate": 30.0, "steps": 4, "evaluate_every": 2})
    found = fine_tune(planted(), TextSettings(encoder=str(parent)), wild, tmp_path / "new")
    best = max(found.curve, key=lambda k: (found.curve[k], -k))
    assert found.steps == best
    if best == 0:
        before, after = (load_file(p / "model.safetensors") for p in (parent, found.folder))
        for name, values in before.items():
            np.testing.assert_allclose(after[name], values, atol=1e-7)


def test_the_loss_is_the_one_of_the_formula() -> None:
    rng = np.random.default_rng(4)
    query, title = rng.normal(size=(2, 5, 3))
    page = rng.normal(size=(5, 2, 3))
    share = np.log(rng.dirichlet(np.ones(5)))
    negative, there = rng.random((5, 5)) < 0.6, rng.random((5, 2)) < 0.7
    want = 0.0
    for i in range(5):
        own = query[i] @ title[i] / 0.2
        others = [query[i] @ title[j] / 0.2 - share[j] for j in range(5) if negative[i, j]]
        corrected = own - share[i]
        want += np.log(np.exp([corrected, *others]).sum()) - corrected
        pages = [query[i] @ page[i, k] / 0.2 for k in range(2) if there[i, k]]
        want += np.log(np.exp([own, *pages]).sum()) - own
    got = contrastive_loss(*map(tf.constant, (query, title, page, share, negative, there)), 0.2)
    np.testing.assert_allclose(got, want / 5, rtol=1e-9)


def test_batches_draw_by_mass_and_know_their_negatives() -> None:
    pairs = planted()
    mass = pairs.positive * np.where(pairs.query == 3, 5, 1)
    pairs = ShownPairs(*[*vars(pairs).values()][:4], mass, pairs.negative)
    settings = FinetuneSettings(batch_size=32, page_negatives=2, seed=5)
    batches = Batches(pairs, settings)
    clicked = {(q, t) for q, t, m in zip(pairs.query, pairs.title, mass, strict=True) if m > 0}
    shown = set(zip(pairs.query, pairs.title, strict=True))
    drawn: dict[tuple[int, int], int] = {}
    for step in range(300):
        batch = batches.batch(step)
        for row, (q, t) in enumerate(zip(batch.query, batch.title, strict=True)):
            assert (q, t) in clicked
            drawn[q, t] = drawn.get((q, t), 0) + 1
            for k in range(2):
                assert batch.page_there[row, k]
                assert (q, batch.page[row, k]) in shown - clicked
            if step < 5:
                seen: set[int] = set()
                for column, other in enumerate(batch.title):
                    want = (q, other) not in clicked and other not in seen
                    assert batch.negative[row, column] == want
                    seen.add(other)
    expected = {(q, t): m for q, t, m in zip(pairs.query, pairs.title, mass, strict=True) if m}
    total, count = sum(expected.values()), 300 * 32
    for pair, m in expected.items():
        want = count * m / total
        assert abs(drawn.get(pair, 0) - want) < 5 * np.sqrt(want)
    shares = np.bincount(pairs.title, mass, len(pairs.title_texts)) / mass.sum()
    again = batches.batch(7)
    np.testing.assert_allclose(again.log_share, np.log(shares[again.title]), rtol=1e-5)
    np.testing.assert_array_equal(again.title, Batches(pairs, settings).batch(7).title)


def test_a_query_whose_titles_were_all_clicked_has_no_page_negatives() -> None:
    pairs = ShownPairs([b"a"], [b"x", b"y"], np.zeros(2, int), np.arange(2), np.ones(2), np.ones(2))
    batch = Batches(pairs, FinetuneSettings(batch_size=4)).batch(0)
    assert not batch.page_there.any()
    assert not batch.negative.any()


@pytest.mark.parametrize("weighted", [True, False])
def test_pairs_are_summed_by_clicks_or_by_weights(
    weighted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("heft.text.clicked._MERGED_AT_ONCE", 10)
    rng = np.random.default_rng(1)
    batches, want = [], dict[tuple[int, int], np.ndarray]()
    for _ in range(7):
        batch = {
            f.QUERY_ID: rng.integers(-1, 3, 6), f.TITLE_ID: rng.integers(-1, 4, 6),
            f.CLICK: rng.integers(0, 2, 6),
            f.positive_weight(f.CTR): rng.random(6), f.negative_weight(f.CTR): rng.random(6) - 0.5,
        }  # fmt: skip
        batches.append(batch)
        for row in range(6):
            q, t = batch[f.QUERY_ID][row], batch[f.TITLE_ID][row]
            click = batch[f.CLICK][row]
            own = np.array([click, 1 - click], float)
            if weighted:
                own = np.array(
                    [batch[w(f.CTR)][row] for w in (f.positive_weight, f.negative_weight)]
                )
            if q >= 0 and t >= 0:
                want[q, t] = want.get((q, t), np.zeros(2)) + own
    found = count_shown(batches, [b"q"] * 3, [b"t"] * 4, weighted=weighted)
    assert list(zip(found.query, found.title, strict=True)) == sorted(want)
    sums = np.array([want[key] for key in sorted(want)])
    np.testing.assert_allclose(np.stack([found.positive, found.negative], 1), np.maximum(sums, 0))


def test_queries_are_held_out_whole_and_the_same_whatever_else_is_there() -> None:
    pairs = planted()
    learned, held = pairs.split(0.3, seed=1)
    assert not set(learned.query) & set(held.query)
    assert len(learned.query) + len(held.query) == len(pairs.query)
    some = pairs.of(pairs.query < 40)
    assert set(some.split(0.3, seed=1)[1].query) == {q for q in held.query if q < 40}
    nobody = pairs.of(pairs.positive == 0)
    with pytest.raises(DataError, match="no click on their pages"):
        nobody.split(0.3, seed=1)
