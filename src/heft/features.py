"""Every column name that crosses a boundary between nodes.

Three generations of columns exist. *Logged* columns are what ingest writes:
one `tf.Example` per impression. *Transformed* columns are what Transform adds
for the model. *Weighted* columns are what ImportanceEstimator adds.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

__all__ = [
    "CTR",
    "CVR",
    "LOGGED",
    "OOV",
    "TASKS",
    "Column",
    "Role",
    "categorical_id",
    "label_of",
    "logged_columns",
    "negative_weight",
    "numeric_value",
    "positive_weight",
    "score_column",
    "vector_present",
    "vector_value",
]  # fmt: skip


class Role(StrEnum):
    """What a column is for."""

    KEY = "key"
    TEXT = "text"
    CATEGORICAL = "categorical"
    NUMERIC = "numeric"
    VECTOR = "vector"
    LABEL = "label"
    TIME = "time"
    CONTEXT = "context"


@dataclass(frozen=True)
class Column:
    """One logged column. A `default` of None means the feature may be absent."""

    name: str
    dtype: type
    role: Role
    default: bytes | int | float | None
    doc: str


# Keys
IMPRESSION_ID = "impression_id"
REQUEST_ID = "request_id"
USER_ID = "user_id"
ITEM_ID = "item_id"
# Text
QUERY = "query"
TITLE = "title"
# How the impression came about
HISTORY = "history"
POSITION = "position"
TIMESTAMP = "timestamp"
RANDOMISED = "randomised"
PROPENSITY = "propensity"
# What is known of the item
CATEGORY = "category"
BRAND = "brand"
PRICE = "price"
# What happened
CLICK = "click"
CLICK_DELAY = "click_delay"
CONVERSION = "conversion"
CONVERSION_DELAY = "conversion_delay"
CONVERSION_VALUE = "conversion_value"
OBSERVATION = "observation"
SAMPLING = "sampling"
GRADE = "grade"

LOGGED: tuple[Column, ...] = (
    Column(IMPRESSION_ID, bytes, Role.KEY, b"", "one item shown once"),
    Column(REQUEST_ID, bytes, Role.KEY, b"", "one result page"),
    Column(USER_ID, bytes, Role.KEY, b"", "who saw it"),
    Column(ITEM_ID, bytes, Role.KEY, b"", "what was shown"),
    Column(QUERY, bytes, Role.TEXT, b"", "what was asked"),
    Column(TITLE, bytes, Role.TEXT, b"", "the item's title, from the catalogue"),
    Column(HISTORY, bytes, Role.CONTEXT, None,
           "titles that the user clicked before on other pages, the newest first; if configured"),
    Column(POSITION, int, Role.CONTEXT, None, "rank on the page, from 1; absent in `graded`"),
    Column(TIMESTAMP, int, Role.TIME, 0, "milliseconds since the epoch, UTC"),
    Column(RANDOMISED, int, Role.CONTEXT, 0, "1 if the page's order was shuffled"),
    Column(PROPENSITY, float, Role.CONTEXT, None, "logged propensity in (0, 1], if any"),
    Column(CATEGORY, bytes, Role.CATEGORICAL, b"", "from the catalogue"),
    Column(BRAND, bytes, Role.CATEGORICAL, b"", "from the catalogue"),
    Column(PRICE, float, Role.NUMERIC, None, "from the catalogue, shop currency"),
    Column(CLICK, int, Role.LABEL, 0, "1 if clicked within the click window"),
    Column(CLICK_DELAY, float, Role.TIME, -1.0, "seconds from the impression, -1 if none"),
    Column(CONVERSION, int, Role.LABEL, 0, "1 if converted within the conversion window"),
    Column(CONVERSION_DELAY, float, Role.TIME, -1.0, "seconds from the click, -1 if none"),
    Column(CONVERSION_VALUE, float, Role.LABEL, 0.0, "shop currency"),
    Column(OBSERVATION, float, Role.TIME, 0.0,
           "seconds a conversion could have been seen: from the click (impression, if none) "
           "to the end of the data, at most the conversion window"),
    Column(SAMPLING, float, Role.CONTEXT, None,
           "probability with which the row stayed in the log; if negatives are sampled down"),
    Column(GRADE, float, Role.LABEL, None, "human relevance, 0 to the maximum; only in `graded`"),
)  # fmt: skip

# Splits ingest writes. Training reads the first two and estimation `harvest`;
# the other three are the views a model is judged on.
TRAIN, TUNE, HARVEST = "train", "tune", "harvest"
NATURAL, SHUFFLED, GRADED = "natural", "shuffled", "graded"
SPLITS = (TRAIN, TUNE, HARVEST, NATURAL, SHUFFLED, GRADED)

# Added to the views: slices that follow from what training saw.
QUERY_FREQUENCY, ITEM_NOVELTY = "query_frequency", "item_novelty"
DERIVED_SLICES = (QUERY_FREQUENCY, ITEM_NOVELTY)

# Transformed
QUERY_ID = "query_text_id"
TITLE_ID = "title_text_id"
HISTORY_IDS = "history_text_ids"
REQUEST_KEY = "request_key"
USER_KEY = "user_key"
LEXICAL = (
    "lexical_token_overlap",
    "lexical_trigram_query",
    "lexical_trigram_jaccard",
    "lexical_last_word",
    "lexical_query_length",
    "lexical_title_length",
)
SPOKEN = "spoken"  # link of query and title, by BERT's attention: for estimators only
OOV = -1  # id of a text that is not in the vocabulary: encoded in the graph

# Tasks. CVR is learned through the product (ESMM), so its label is the
# conversion over all impressions.
CTR, CVR = "ctr", "cvr"
CTCVR = "ctcvr"
TASKS = (CTR, CVR)


def label_of(task: str) -> str:
    """The label column of a task."""
    return {CTR: CLICK, CVR: CONVERSION}[task]


def categorical_id(name: str) -> str:
    """Transformed vocabulary index of a categorical column."""
    return f"{name}_id"


def numeric_value(name: str) -> str:
    """Transformed z-score of a numeric column."""
    return f"{name}_z"


def vector_value(name: str) -> str:
    """Transformed z-scores of a vector column, 0 where it is missing."""
    return f"{name}_vector"


def vector_present(name: str) -> str:
    """Transformed: 1 where there is a vector, 0 where it is missing."""
    return f"{name}_present"


def positive_weight(task: str) -> str:
    """How much a sample counts as a positive of `task`."""
    return f"{task}_positive_weight"


def negative_weight(task: str) -> str:
    """How much a sample counts as a negative of `task`."""
    return f"{task}_negative_weight"


def score_column(estimator: str, task: str) -> str:
    """The raw score an estimator gave a sample."""
    return f"score_{task}_{estimator}"


def logged_columns(
    categorical: tuple[str, ...], numeric: tuple[str, ...], vectors: Iterable[str] = ()
) -> tuple[Column, ...]:
    """`LOGGED`, plus the configured columns it does not know."""
    known = {column.name for column in LOGGED}
    extra = [Column(n, bytes, Role.CATEGORICAL, b"", "configured") for n in categorical]
    extra += [Column(n, float, Role.NUMERIC, None, "configured") for n in numeric]
    extra += [Column(n, float, Role.VECTOR, None, "configured") for n in vectors]
    return LOGGED + tuple(column for column in extra if column.name not in known)
