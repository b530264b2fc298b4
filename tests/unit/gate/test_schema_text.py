"""A schema's text is changed where it must be, and nowhere else."""

import difflib
from pathlib import Path

import pytest
from google.protobuf import text_format
from hypothesis import given
from hypothesis import strategies as st
from tensorflow_metadata.proto.v0 import schema_pb2

from heft.errors import DataError
from heft.gate.schema_text import changed_text, parsed, pieces, printed

REVIEWED = (Path(__file__).parents[3] / "pipeline/schema/clicks/schema.pbtxt").read_text()

ODD = """# A head } with a bracket { and a "quote.
default_environment: "TRAINING"  # alone
feature { # opens
  name: "a}{#\\" b" # a name
  type: BYTES
}
feature: <name: 'second' type: INT int_domain < min: 1 >>  # on one line

# before the third
feature { name: "third" type: FLOAT } string_domain { name: "shared" value: "x" }
# the end"""


def _feature(name: str, **values: object) -> schema_pb2.Feature:
    return schema_pb2.Feature(name=name, **values)


@pytest.mark.parametrize("text", [REVIEWED, ODD, "", "# nothing", "\n\n"])
def test_pieces_make_the_text_again(text: str) -> None:
    assert "".join(piece.lead + piece.body for piece in pieces(text)) == text
    names = [f.name for piece in pieces(text) for f in parsed(piece.body).feature]
    assert names == [feature.name for feature in parsed(text).feature]


def test_no_change_is_no_change() -> None:
    for text in (REVIEWED, ODD):
        assert changed_text(text, {}) == text


def test_one_feature_changes_its_own_lines_alone() -> None:
    [device] = [x for x in parsed(REVIEWED).feature if x.name == "device"]
    device.string_domain.value.extend(["desk", "tv"])
    new = changed_text(REVIEWED, {"device": device})
    changes = [
        line
        for line in difflib.unified_diff(REVIEWED.splitlines(), new.splitlines(), n=0, lineterm="")
        if line[0] in "+-" and line[:3] not in ("+++", "---")
    ]
    assert changes == [
        "+  string_domain {", '+    value: "desk"', '+    value: "tv"', "+  }",
    ]  # fmt: skip


def test_comments_stay_and_a_new_feature_comes_last() -> None:
    new = changed_text(ODD, {"second": _feature("second", type=schema_pb2.FLOAT),
                             "new": _feature("new", type=schema_pb2.INT)})  # fmt: skip
    for comment in ("# A head } with", "# alone", "# opens", "# before the third", "# the end"):
        assert comment in new
    assert [x.name for x in parsed(new).feature] == ['a}{#" b', "second", "third", "new"]
    assert parsed(new).feature[1].type == schema_pb2.FLOAT


def test_a_domain_that_features_share_is_changed_in_its_place() -> None:
    domain = schema_pb2.StringDomain(name="shared", value=["x", "y"])
    new = changed_text(ODD, {}, {"shared": domain})
    assert list(parsed(new).string_domain[0].value) == ["x", "y"]
    assert new.index("string_domain") < new.index("# the end")


NAMES = st.text(st.characters(blacklist_categories=("Cs",)), min_size=1, max_size=8)


@given(
    st.dictionaries(NAMES, st.lists(NAMES, max_size=4, unique=True), max_size=4),
    st.floats(0, 1, width=32),
    st.integers(-(2**62), 2**62),
)
def test_what_is_printed_is_read_again(
    domains: dict[str, list[str]], share: float, least: int
) -> None:
    features = {}
    for name, values in domains.items():
        feature = _feature(name, type=schema_pb2.BYTES)
        feature.presence.min_fraction = share
        feature.value_count.max = 1
        feature.drift_comparator.infinity_norm.threshold = share
        if values:
            feature.string_domain.value.extend(sorted(values))
        else:
            feature.int_domain.min = least
        features[name] = feature
    text = changed_text("# mine\n", features)
    assert text.startswith("# mine\n")
    assert {x.name: x for x in parsed(text).feature} == features
    # And a second time it is what it is.
    assert changed_text(text, features) == text


def test_features_are_printed_as_people_write_them() -> None:
    feature = _feature("price", type=schema_pb2.FLOAT)
    feature.presence.min_fraction = 0.9
    feature.value_count.min = feature.value_count.max = 1
    feature.drift_comparator.jensen_shannon_divergence.threshold = 0.3
    assert printed("feature", feature) == (
        "feature {\n"
        '  name: "price"\n'
        "  type: FLOAT\n"
        "  presence { min_fraction: 0.9 }\n"
        "  value_count { min: 1 max: 1 }\n"
        "  drift_comparator { jensen_shannon_divergence { threshold: 0.3 } }\n"
        "}\n"
    )


def test_the_reviewed_schema_is_written_as_it_would_be_printed() -> None:
    """So that the first change of a feature is no change of its style."""
    features = {x.name: x for x in parsed(REVIEWED).feature}
    assert changed_text(REVIEWED, features) == REVIEWED


def test_a_text_that_is_no_schema_is_one_message() -> None:
    with pytest.raises(DataError, match="the schema is not a schema"):
        parsed("feature {")
    assert text_format.Parse("", schema_pb2.Schema()) == parsed("")
