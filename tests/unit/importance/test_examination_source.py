"""`importance.examination` names the source, and no other takes its place."""

from dataclasses import replace

import numpy as np
import pytest
from pydantic import ValidationError

from heft import features as f
from heft.errors import DataError
from heft.importance.settings import ImportanceSettings
from heft.importance.weigh import estimate_examination
from tests.unit.importance.planted_clicks import make_clicks

PAGES, _ = make_clicks(600)
LOG = replace(PAGES, pair=np.arange(len(PAGES)) % 997)
SHUFFLED = {f.POSITION: PAGES.position, f.CLICK: PAGES.label}


def _settings(source: str) -> ImportanceSettings:
    return ImportanceSettings.model_validate(
        {"debias": "inverse_propensity", "examination": source}
    )


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("auto", "query-item pairs"),  # fewer than minimum_shuffled_clicks
        ("shuffled_pages", "shuffled pages"),
        ("pairs", "query-item pairs"),
        ("regression_em", "regression-EM"),
        ("dual_learning", "dual learning"),
    ],
)
def test_examination_comes_from_the_source_that_is_named(name: str, source: str) -> None:
    found = estimate_examination(LOG, SHUFFLED, _settings(name))
    assert found.source == source
    assert found.values[0] == 1


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("shuffled_pages", "^examination: shuffled_pages needs a harvest split"),
        ("pairs", "^0 of 6000 rows have a position"),
        ("regression_em", "^0 of 6000 rows have a position"),
        ("dual_learning", "^0 of 6000 rows have a position"),
    ],
)
def test_a_named_source_without_its_data_is_refused(name: str, message: str) -> None:
    train = replace(PAGES, position=0 * PAGES.position)
    with pytest.raises(DataError, match=message):
        estimate_examination(train, None, _settings(name))


def test_too_few_shuffled_clicks_are_refused_where_shuffled_pages_are_named() -> None:
    few = {f.POSITION: np.array([1, 2]), f.CLICK: np.array([1, 0])}
    with pytest.raises(DataError, match="^1 clicks on shuffled pages"):
        estimate_examination(LOG, few, _settings("shuffled_pages"))


def test_a_source_beside_logged_propensities_is_refused() -> None:
    with pytest.raises(ValidationError, match="examination='pairs' is an estimate and propensity"):
        ImportanceSettings(propensity="logged", examination="pairs")
    with pytest.raises(ValidationError, match="'shuffled_pages', 'pairs', 'regression_em' or"):
        _settings("guess")
