"""Going on from an earlier model: what is kept, what is new, and what does not fit."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest

from heft.errors import ConfigError, TrainingError
from heft.model.materials import TrainingRun, base_weights
from heft.model.network import InputSizes, build_core
from heft.model.settings import ModelSettings
from heft.model.warm_start import (
    WARM_START_DIR,
    Lineage,
    check_base,
    load_base,
    save_base,
    warm_start,
)
from heft.text.table import TextTable
from tests.unit.model.conftest import SIZES, ClickLog, click_log, core_inputs, fit

SETTINGS = ModelSettings(hidden=(8,), body="dcn_v2")
BRANDS = ("acme", "zeta", "café", "\udcff")
LINEAGE = Lineage("abc", SIZES.dense, {"brand_id": BRANDS})


def _core(table: TextTable, seed: int, brands: int, settings: ModelSettings = SETTINGS):
    keras.utils.set_random_seed(seed)
    sizes = InputSizes({"brand_id": brands + 1}, SIZES.numeric)
    core = build_core(table, sizes, settings)
    rng = np.random.default_rng(seed)
    core.set_weights([w + 0.1 * np.abs(rng.normal(size=w.shape)) for w in core.get_weights()])
    return core


@pytest.fixture
def base(table: TextTable, tmp_path: Path):
    core = _core(table, 1, len(BRANDS))
    save_base(core, LINEAGE, tmp_path / "base")
    return core


def test_the_same_vocabulary_predicts_the_same(base, table: TextTable, tmp_path: Path) -> None:
    core = _core(table, 2, len(BRANDS))
    inputs = core_inputs(table, click_log(50, 1))
    assert np.abs(core(inputs).numpy() - base(inputs).numpy()).max() > 0.1
    loaded = load_base(tmp_path / "base")
    assert warm_start(core, LINEAGE, loaded) == {"brand_id": 0}
    np.testing.assert_array_equal(core(inputs).numpy(), base(inputs).numpy())


def test_old_values_keep_their_row_wherever_it_is_now_and_new_ones_begin_anew(
    base, table: TextTable, tmp_path: Path
) -> None:
    now = ("zeta", "new one", "\udcff", "acme", "newer")
    core = _core(table, 2, len(now))
    made = core.get_layer("brand_id_embedding").get_weights()[0].copy()
    lineage = replace(LINEAGE, vocabularies={"brand_id": now})
    assert warm_start(core, lineage, load_base(tmp_path / "base")) == {"brand_id": 2}
    rows = core.get_layer("brand_id_embedding").get_weights()[0]
    old = base.get_layer("brand_id_embedding").get_weights()[0]
    np.testing.assert_array_equal(rows[[0, 2, 3, 5]], old[[1, 3, 0, 4]])
    np.testing.assert_array_equal(rows[[1, 4]], made[[1, 4]])


@pytest.mark.parametrize(
    ("lineage", "settings", "said"),
    [
        (replace(LINEAGE, encoder="other"), SETTINGS, "encoder abc then and other now"),
        (replace(LINEAGE, dense=("price_z",)), SETTINGS, "dense inputs"),
        (replace(LINEAGE, vocabularies={"shop_id": BRANDS}), SETTINGS, "categorical columns"),
        (LINEAGE, ModelSettings(hidden=(16,), body="dcn_v2"), "layer click_0"),
        (LINEAGE, ModelSettings(hidden=(8,)), "layer click_cross_0"),
        (LINEAGE, ModelSettings(architecture="mmoe", hidden=(8,)), "layer click_0"),
    ],
)
def test_a_base_of_another_signature_is_refused(
    base, table: TextTable, tmp_path: Path, lineage: Lineage, settings: ModelSettings, said: str
) -> None:
    core = _core(table, 2, len(BRANDS), settings)
    with pytest.raises(TrainingError, match=rf"{said}.*leave out model.warm_start"):
        warm_start(core, lineage, load_base(tmp_path / "base"))


def test_a_folder_without_a_base_says_so(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="no weights to begin with"):
        load_base(tmp_path)


def _exported(core, folder: Path, *names: str) -> Path:
    for name in names:
        save_base(core, LINEAGE, folder / WARM_START_DIR / name)
    return folder


def test_a_value_that_was_away_comes_back_as_it_was(base, table: TextTable, tmp_path: Path) -> None:
    rows = dict(zip(BRANDS, base.get_layer("brand_id_embedding").get_weights()[0], strict=False))
    folder, days = tmp_path / "base", [("zeta",), ("new", "zeta"), ("café", "new")]
    for day, values in enumerate(days):
        core, before = _core(table, day + 2, len(values)), load_base(folder)
        lineage = replace(LINEAGE, vocabularies={"brand_id": values})
        fresh = warm_start(core, lineage, before)
        assert fresh == {"brand_id": int(values[0] == "new")}
        folder = tmp_path / f"day-{day}"
        save_base(core, lineage, folder, before)
        rows.setdefault("new", core.get_layer("brand_id_embedding").get_weights()[0][0])
        if day == 0:
            del rows["new"]
    found = core.get_layer("brand_id_embedding").get_weights()[0]
    np.testing.assert_array_equal(found[0], rows["café"])
    np.testing.assert_array_equal(found[1], rows["new"])
    assert set(load_base(folder).retired["brand_id"][0]) == {"acme", "zeta", "\udcff"}


def test_a_base_model_is_looked_at_before_anything_is_trained(base, tmp_path: Path) -> None:
    model = _exported(base, tmp_path / "model", "weighted")
    check_base(model, ["weighted"], replace(LINEAGE, vocabularies={"brand_id": ()}))
    both = ["weighted", "control"]
    with pytest.raises(ConfigError, match="no weights of a control.*model.control"):
        check_base(model, both, LINEAGE)
    for other, said in (
        ({"encoder": "other"}, "encoder abc then and other now"),
        ({"dense": ("price_z",)}, "dense inputs"),
        ({"vocabularies": {"shop_id": ()}}, "categorical columns .*brand_id.* then"),
        ({"vectors": {"image_vector": 8}}, "vectors {} then and {'image_vector': 8} now"),
        ({"history": True}, "history False then and True now"),
    ):
        with pytest.raises(ConfigError, match=said):
            check_base(model, ["weighted"], replace(LINEAGE, **other))
    with pytest.raises(ConfigError, match="holds no weights of a weighted model"):
        check_base(tmp_path, ["weighted"], LINEAGE)


def test_the_last_blessed_model_comes_before_the_one_that_the_settings_name(
    base, table: TextTable, tmp_path: Path
) -> None:
    other = _core(table, 3, len(BRANDS))
    named = str(_exported(base, tmp_path / "named", "weighted"))
    blessed = str(_exported(other, tmp_path / "blessed", "weighted"))
    inputs = core_inputs(table, click_log(20, 1))

    def begins_with(settings: ModelSettings, last: str | None):
        run = TrainingRun([], [], "", "", "", "", "", "", base_model=last)
        prepare = base_weights(run, settings, "weighted", LINEAGE)
        if prepare is None:
            return None
        core = _core(table, 2, len(BRANDS))
        prepare(core)
        return core(inputs).numpy()

    both = SETTINGS.model_copy(update={"warm_start": True, "base_model": named})
    np.testing.assert_array_equal(begins_with(both, blessed), other(inputs).numpy())
    np.testing.assert_array_equal(begins_with(both, None), base(inputs).numpy())
    fine = SETTINGS.model_copy(update={"base_model": named})
    np.testing.assert_array_equal(begins_with(fine, blessed), base(inputs).numpy())
    assert begins_with(SETTINGS, None) is None


@pytest.mark.parametrize("share", [1.0, 0.25])
def test_a_share_of_what_it_began_with_stays(
    write_log: Callable[..., ClickLog], table: TextTable, tmp_path: Path, share: float
) -> None:
    log = write_log(700, seed=2)
    asked = ModelSettings(hidden=(8,), epochs=1, warm_share=share)
    begun: list[np.ndarray] = []

    def prepare(core: keras.Model) -> None:
        # Whatever it begins with: here, what it was made with.
        begun.extend(core.get_weights())

    alone = fit(log.shards, log.shards, table, tmp_path / "a", asked)
    kept = fit(log.shards, log.shards, table, tmp_path / "b", asked, prepare=prepare)
    learned = alone.core.get_weights()
    assert max(np.abs(x - y).max() for x, y in zip(begun, learned, strict=True)) > 0.01
    for old, new, found in zip(begun, learned, kept.core.get_weights(), strict=True):
        np.testing.assert_allclose(found, old + share * (new - old), atol=1e-6)
    inputs = core_inputs(table, log)
    # What is exported is the core, what is calibrated the model over it.
    np.testing.assert_allclose(
        kept.model.get_layer("core")(inputs).numpy(), kept.core(inputs).numpy(), atol=1e-6
    )
