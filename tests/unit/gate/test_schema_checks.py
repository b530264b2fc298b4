"""Good data passes; of other data the feature, what was expected, what came, and the rows."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tensorflow_metadata.proto.v0 import schema_pb2

from heft import features as f
from heft.gate.anomaly import HIDDEN, Anomaly
from heft.gate.offences import log_features, with_rows
from heft.gate.schema_checks import check_schema, domain_of, range_of
from heft.gate.settings import LogColumns
from tests.unit.model.rows import schema

from .spans import COLUMNS, Columns, impressions, span_of, texts

ROWS = 200


def _found(
    folder: Path,
    columns: Columns,
    reviewed: schema_pb2.Schema | None = None,
    known: LogColumns = COLUMNS,
    examples: int = 3,
) -> list[Anomaly]:
    span = span_of(folder, columns, natural=0)
    findings = check_schema(
        f.TRAIN, span.statistics[f.TRAIN], reviewed or schema(), tuple(known.pii)
    )
    shards = [f"{span.examples[f.TRAIN]}/a.gz"]
    return with_rows(findings, shards, log_features(known), known.pii, examples)


def _cycled(*values: Any) -> np.ndarray:
    repeated = [values[k % len(values)] for k in range(ROWS)]
    return texts(repeated) if isinstance(values[0], str) else np.array(repeated)


def _feature(reviewed: schema_pb2.Schema, name: str) -> schema_pb2.Feature:
    [own] = [feature for feature in reviewed.feature if feature.name == name]
    return own


def test_good_data_has_no_anomaly(tmp_path: Path) -> None:
    columns = impressions(ROWS, 1)
    assert _found(tmp_path, columns) == []
    columns[f.PRICE][::2] = np.nan  # some prices may be absent
    assert _found(tmp_path, columns) == []


@pytest.mark.parametrize(
    ("feature", "values", "kind", "expected", "came", "rows", "examples"),
    [
        (f.POSITION, _cycled(1, 0, 2, -3), "out of range", "at least 1", "-3 to 2", 100,
         ("0", "-3")),
        (f.CLICK, _cycled(0, 1, 7, 0), "out of range", "0 to 1", "0 to 7", 50, ("7",)),
        (f.PRICE, _cycled(3.0, -2.5).astype(np.float32), "out of range", "at least 0",
         "-2.5 to 3", 100, ("-2.5",)),
        (f.OBSERVATION, _cycled(60.0, float("nan")).astype(np.float32), "missing values",
         "a value in every row", "absent in 100 of 200 rows", 100,
         ("impression_id=i1-1", "impression_id=i1-3", "impression_id=i1-5")),
    ],
)  # fmt: skip
def test_what_the_schema_does_not_allow(
    tmp_path: Path, feature: str, values: np.ndarray, kind: str, expected: str, came: str,
    rows: int, examples: tuple[str, ...],
) -> None:  # fmt: skip
    [found] = _found(tmp_path, impressions(ROWS, 1) | {feature: values})
    assert found == Anomaly("train", feature, kind, expected, came, rows, examples)


def test_a_missing_column_and_one_that_the_schema_does_not_know(tmp_path: Path) -> None:
    columns = impressions(ROWS, 1) | {"margin": _cycled(0.5, 0.25).astype(np.float32)}
    del columns[f.BRAND]
    known = COLUMNS.model_copy(update={"numeric": ("margin",)})
    missing, new = _found(tmp_path, columns, known=known)
    assert (missing.feature, missing.kind, missing.rows) == (f.BRAND, "missing column", ROWS)
    assert (new.feature, new.kind, new.came) == ("margin", "unknown column", "FLOAT")
    assert (new.rows, new.examples) == (ROWS, ("0.5", "0.25"))


def test_texts_outside_of_a_domain_are_redacted(tmp_path: Path) -> None:
    reviewed = schema()
    _feature(reviewed, "device").string_domain.value.extend(["phone", "desk"])
    columns = impressions(ROWS, 1)
    columns["device"][:4] = [b"tv", b"ann@shop.org", b"a\x1b[31m\xe2\x80\xaeb", b"x" * 90]
    [found] = _found(tmp_path, columns, reviewed, examples=9)
    assert (found.kind, found.expected) == ("unexpected values", "one of phone, desk")
    assert found.rows == 4
    assert found.examples == ("tv", "<email>", "a\ufffd[31m\ufffdb", "x" * 59 + "…")


def test_a_domain_that_features_share(tmp_path: Path) -> None:
    reviewed = schema()
    shared = reviewed.string_domain.add(name="places")
    shared.value.extend(f"c{n}" for n in range(7))
    _feature(reviewed, f.CATEGORY).domain = "places"
    assert domain_of(_feature(reviewed, f.CATEGORY), reviewed) == tuple(shared.value)
    columns = impressions(ROWS, 1)
    [found] = _found(tmp_path, columns, reviewed)
    assert found.expected == "one of c0, c1, c2, c3, c4 and 2 more"
    assert found.rows == (columns[f.CATEGORY] == b"c7").sum()


def test_another_type_and_what_tfdv_cannot_do(tmp_path: Path) -> None:
    reviewed = schema()
    _feature(reviewed, "device").type = schema_pb2.INT
    _feature(reviewed, f.PRICE).distribution_constraints.min_domain_mass = 0.9
    device, price = _found(tmp_path, impressions(ROWS, 1), reviewed)
    assert (device.kind, device.expected, device.rows) == ("another type", "INT", ROWS)
    assert "not supported" in price.kind and price.rows is None


def test_a_column_of_persons_shows_no_value_anywhere(tmp_path: Path) -> None:
    reviewed = schema()
    _feature(reviewed, f.USER_ID).string_domain.value.append("nobody")
    _feature(reviewed, "device").string_domain.value.append("desk")
    known = COLUMNS.model_copy(update={"pii": (f.USER_ID, "device", f.IMPRESSION_ID)})
    columns = impressions(ROWS, 1) | {"device": _cycled("secret phone of Ann")}
    columns[f.OBSERVATION][3] = np.nan
    found = _found(tmp_path, columns, reviewed, known)
    assert [one.feature for one in found] == ["device", f.OBSERVATION, f.USER_ID]
    assert found[0].rows == ROWS and found[0].examples == (HIDDEN,)
    text = "\n".join(f"{one} {one.examples}" for one in found)
    assert "Ann" not in text and "u1-0" not in text and "i1-3" not in text


def test_what_cannot_be_read_as_its_column_is_not_counted(tmp_path: Path) -> None:
    """A column whose type is not the one of the log's, such as of another writer."""
    columns = impressions(ROWS, 1) | {"device": _cycled(1, 2)}
    [found] = _found(tmp_path, columns)
    assert (found.feature, found.kind) == ("device", "another type")
    assert found.rows == ROWS and found.examples == ()


def test_ranges_of_every_kind_of_domain() -> None:
    feature = schema_pb2.Feature()
    assert range_of(feature) == (float("-inf"), float("inf"))
    feature.int_domain.max = 3
    assert range_of(feature) == (float("-inf"), 3)
    feature.bool_domain.SetInParent()
    assert range_of(feature) == (0, 1)
