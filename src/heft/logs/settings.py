"""What ingest needs to know about a team's log."""

from itertools import combinations
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from heft import features
from heft.logs.crediting import Rules
from heft.logs.dates import as_end, as_span, end_time
from heft.logs.fields import IMPRESSIONS, STREAMS, Kind, stream_fields
from heft.logs.fields import Field as Column
from heft.logs.privacy import PrivacySettings
from heft.logs.spans import SpanPattern
from heft.settings import Settings

__all__ = ["LogsSettings", "SplitSettings", "StreamSettings"]

Fraction = Annotated[float, Field(ge=0.0, lt=1.0)]


class StreamSettings(Settings):
    """Where one stream lies, and what its columns are called there.

    `columns` maps Heft's name to the log's own name, for the columns whose
    names differ; `context.device` reaches into nested JSON or Parquet.
    """

    path: str
    format: Literal["auto", "parquet", "jsonl", "csv"] = "auto"
    columns: dict[str, str] = Field(default_factory=dict)
    timestamp_unit: Literal["s", "ms", "us", "iso"] = "ms"
    # Of CSV; left out, a tab in files named .tsv, and a comma in others.
    delimiter: str | None = None
    # A CSV value may span lines. Off, a stray quote costs one line and no more.
    quoted_newlines: bool = False

    @model_validator(mode="after")
    def _delimiter_is_one(self) -> Self:
        given = self.delimiter
        if (
            given is not None
            and given != "\t"
            and (len(given) != 1 or not given.isascii() or not given.isprintable() or given == '"')
        ):
            raise ValueError(
                f"delimiter={given!r} cannot divide CSV: expected one character of ASCII such as "
                "',', ';', '|' or a tab, and no quote or line break"
            )
        return self

    @model_validator(mode="after")
    def _path_names_its_span(self) -> Self:
        SpanPattern(self.path).check()
        return self


class SplitSettings(Settings):
    """How requests are divided. Fractions are of the requests in logged order.

    By `time`, the latest `natural` of them are judged, the `tune` before those steer
    training, the rest train. By `request` or `user`, a hash of its id decides instead,
    the same one however long the log grows. Requests whose order was shuffled are taken
    out first: the share `shuffled_for_estimation` goes to `harvest`, the others
    are judged as `shuffled`.
    """

    by: Literal["time", "request", "user"] = "time"
    tune: Fraction = 0.1
    natural: Fraction = 0.2
    shuffled_for_estimation: Annotated[float, Field(ge=0.0, le=1.0)] = 0.5

    @model_validator(mode="after")
    def _leave_something_to_train_on(self) -> Self:
        if self.tune + self.natural >= 1.0:
            raise ValueError(
                f"tune={self.tune} and natural={self.natural} leave nothing to train on: "
                "make their sum less than 1"
            )
        return self


def _stream(name: str) -> StreamSettings:
    return StreamSettings(path=f"{name}/span-{{SPAN}}/*")


class LogsSettings(Settings):
    """All of ingest. Windows are in seconds; a stream a log has not is `null`."""

    root: str
    span: Annotated[Annotated[int, Field(ge=0)] | Literal["latest"], BeforeValidator(as_span)] = (
        "latest"
    )
    # Spans that are read: so many, the last of which is `span`.
    window: int = Field(default=1, ge=1, le=10_000)
    impressions: StreamSettings = _stream("impressions")
    clicks: StreamSettings | None = _stream("clicks")
    conversions: StreamSettings | None = _stream("conversions")
    catalogue: StreamSettings | None = StreamSettings(path="catalogue/*")
    grades: StreamSettings | None = None
    # Until when the log was seen: a day or a time. Left out, until its last event.
    end: Annotated[str, BeforeValidator(as_end)] | None = None
    # Columns of the impressions that say what happened, in place of a stream.
    label_column: str | None = None
    conversion_column: str | None = None
    click_window: float = Field(default=3_600.0, gt=0)
    conversion_window: float = Field(default=604_800.0, gt=0)
    click_attribution: Literal["first", "last"] = "first"
    # Seconds in which a view alone is credited with a conversion.
    view_window: float | None = Field(default=None, gt=0)
    categorical: tuple[str, ...] = ()
    numeric: tuple[str, ...] = ()
    # Dense vectors of the items, and how many numbers each has.
    vectors: dict[str, Annotated[int, Field(ge=1, le=16_384)]] = Field(default_factory=dict)
    # The last items that the user clicked before the impression; at most so many.
    history: int = Field(default=0, ge=0, le=100)
    splits: SplitSettings = SplitSettings()
    # Share of the requests whose unclicked rows stay in `train`.
    negative_rate: float = Field(default=1.0, gt=0, le=1)
    privacy: PrivacySettings = PrivacySettings()
    max_quarantine_rate: Annotated[float, Field(ge=0.0, le=1.0)] = 0.05
    # Share of the impressions whose id another page or item has as well.
    max_conflict_rate: Annotated[float, Field(ge=0.0, le=1.0)] = 0.01
    # Shards of a split. Left out, as many as keep memory bounded, whatever the log's size.
    buckets: int | None = Field(default=None, ge=1, le=10_000)

    @model_validator(mode="after")
    def _extra_columns_have_one_role(self) -> Self:
        listed = {"categorical": self.categorical, "numeric": self.numeric, "vectors": self.vectors}
        for left, right in combinations(listed, 2):
            both = set(listed[left]) & set(listed[right])
            if both:
                raise ValueError(
                    f"{sorted(both)} are in both `{left}` and `{right}`: keep each in one"
                )
        roles = {column.name: column.role for column in features.LOGGED}
        wanted = dict.fromkeys(self.categorical, features.Role.CATEGORICAL)
        wanted |= dict.fromkeys(self.numeric, features.Role.NUMERIC)
        wanted |= dict.fromkeys(self.vectors, features.Role.VECTOR)
        for name, role in wanted.items():
            if roles.get(name, role) is not role:
                raise ValueError(
                    f"{name!r} is a {roles[name]} column and cannot be {role}: "
                    "take it out of the list"
                )
        return self

    @model_validator(mode="before")
    @classmethod
    def _flags_stand_for_streams(cls, raw: Any) -> Any:
        """A stream whose events are flagged in the impressions is not looked for."""
        if not isinstance(raw, dict):
            return raw
        given = dict(raw)
        for flag, stream in (("label_column", "clicks"), ("conversion_column", "conversions")):
            if given.get(flag) is not None and given.setdefault(stream, None) is not None:
                raise ValueError(
                    f"{flag}={given[flag]!r} says what the stream `{stream}` would: "
                    f"set `{stream}: null`, or leave {flag} out"
                )
        return given

    @model_validator(mode="after")
    def _end_is_a_time(self) -> Self:
        if self.end is not None:
            end_time(self.end)
        return self

    @model_validator(mode="after")
    def _windows_need_spans(self) -> Self:
        if self.window > 1 and not SpanPattern(self.impressions.path).has_span:
            raise ValueError(
                f"window={self.window} is of spans, and impressions.path="
                f"{self.impressions.path!r} names none: write {{SPAN}}, or {{YYYY}}, {{MM}} and "
                "{DD}, where they stand in the path"
            )
        return self

    @model_validator(mode="after")
    def _conversions_need_clicks(self) -> Self:
        credited = self.clicks is not None or self.label_column or self.view_window is not None
        if (self.conversions is not None or self.conversion_column) and not credited:
            raise ValueError(
                "conversions are attributed to clicks, and `clicks` is null: "
                "name the clicks stream or a label_column, credit views by a view_window, or "
                "set `conversions: null`"
            )
        return self

    @model_validator(mode="after")
    def _histories_need_clicks(self) -> Self:
        if self.computes_history and self.clicks is None and not self.label_column:
            raise ValueError(
                f"history={self.history} is made of clicks, and `clicks` is null: name the clicks "
                "stream, map the log's own under impressions.columns.history, or set `history: 0`"
            )
        return self

    @model_validator(mode="after")
    def _mapped_columns_exist(self) -> Self:
        for stream in STREAMS:
            settings: StreamSettings | None = getattr(self, stream)
            if settings is None:
                continue
            known = [field.name for field in self.fields_of(stream)]
            unknown = sorted(set(settings.columns) - set(known))
            if unknown:
                raise ValueError(
                    f"{stream}.columns maps {unknown}, which no stream of this kind has: "
                    f"expected some of {known}; list further columns under "
                    "`categorical`, `numeric` or `vectors`"
                )
        return self

    @model_validator(mode="after")
    def _persons_are_named_by_text(self) -> Self:
        fields = {f.name: f.kind for stream in STREAMS for f in self.fields_of(stream)}
        free = (features.QUERY, features.TITLE)
        texts = sorted(n for n, k in fields.items() if k in (Kind.ID, Kind.TEXT) and n not in free)
        odd = sorted(set(self.privacy.pii) - set(texts))
        if odd:
            raise ValueError(
                f"privacy.pii={odd} cannot leave as hashes: expected some of {texts}; a number "
                "is listed under `categorical` for that, and queries are cleaned by "
                "`privacy.redact`"
            )
        return self

    def fields_of(self, stream: str) -> tuple[Column, ...]:
        """The columns of a stream, the configured ones included."""
        mapped = self.history if features.HISTORY in self.impressions.columns else 0
        return stream_fields(
            stream, self.categorical, self.numeric, self.vectors, mapped, tuple(self.flags)
        )

    @property
    def end_ms(self) -> int | None:
        """`end` in ms since the epoch, UTC; None if it was left out."""
        return None if self.end is None else round(end_time(self.end).timestamp() * 1_000)

    @property
    def flags(self) -> dict[str, str]:
        """Labels that the impressions state, and what those columns are called there."""
        named = {features.CLICK: self.label_column, features.CONVERSION: self.conversion_column}
        return {label: own for label, own in named.items() if own is not None}

    @property
    def rules(self) -> Rules:
        """What is credited with what."""
        return Rules(
            self.click_window, self.conversion_window, self.click_attribution, self.view_window
        )

    @property
    def computes_history(self) -> bool:
        """Whether histories are made of the clicks, and not read from the impressions."""
        return self.history > 0 and features.HISTORY not in self.impressions.columns

    def stream(self, name: str) -> StreamSettings | None:
        """The settings of a stream by its name, None if the log has none."""
        found: StreamSettings | None = getattr(self, name)
        if name == IMPRESSIONS and found is not None and self.flags:
            return found.model_copy(update={"columns": {**found.columns, **self.flags}})
        return found
