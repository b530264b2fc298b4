"""A run's configuration: one YAML file, every key known."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import yaml
from pydantic import Field, ValidationError, model_validator

from heft.errors import ConfigError
from heft.evaluation import EvaluationSettings
from heft.evaluation.tagging import SliceSettings
from heft.features import DERIVED_SLICES, HISTORY, Role, logged_columns
from heft.gate.settings import GateSettings
from heft.importance.settings import ImportanceSettings
from heft.kubeflow_settings import KubeflowSettings
from heft.logs.settings import LogsSettings
from heft.model.settings import ModelSettings
from heft.notify import NotifySettings
from heft.selection.settings import RankingSettings
from heft.serving_check import ServingCheckSettings
from heft.serving_settings import ServingSettings
from heft.settings import Settings
from heft.simulate.settings import SimulationSettings
from heft.streaming.settings import StreamingSettings
from heft.text.settings import TextSettings
from heft.transform import TransformSettings
from heft.tuning.settings import TuneSettings
from pipeline.beam_settings import BeamSettings
from pipeline.config_faults import explain
from pipeline.metadata import MetadataSettings
from pipeline.thresholds import Thresholds

__all__ = ["PipelineConfig", "Thresholds", "load"]

_SEEDED = ("simulate", "importance", "ranking", "model", "tune")
_LISTED_UNDER = {Role.CATEGORICAL: "categorical", Role.NUMERIC: "numeric", Role.VECTOR: "vectors"}


class PipelineConfig(Settings):
    """Everything a run depends on.

    `simulate` makes the logs first; leave it out for logs of your own. In
    `logs.root`, `simulate.data` and `schema_dir`, `{run}` stands for the run's
    folder and `{data}` for the folder of downloaded data sets.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    seed: int = Field(0, ge=0)
    simulate: SimulationSettings | None = None
    logs: LogsSettings
    schema_dir: str | None = None
    gate: GateSettings = GateSettings()
    transform: TransformSettings = TransformSettings()
    text: TextSettings = TextSettings()
    importance: ImportanceSettings = ImportanceSettings()
    ranking: RankingSettings = RankingSettings()
    model: ModelSettings = ModelSettings()
    tune: TuneSettings = TuneSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    slices: tuple[str, ...] = ()
    slice_bands: SliceSettings = SliceSettings()
    thresholds: Thresholds = Thresholds()
    serving_check: ServingCheckSettings = ServingCheckSettings()
    serving: ServingSettings = ServingSettings()
    stream: StreamingSettings = StreamingSettings()
    notify: NotifySettings | None = None
    beam: BeamSettings = BeamSettings()
    metadata: MetadataSettings = MetadataSettings()
    kubeflow: KubeflowSettings | None = None

    @model_validator(mode="after")
    def _columns_are_read(self) -> Self:
        """What the model and the slices use must be what ingest writes."""
        logged = logged_columns(self.logs.categorical, self.logs.numeric, self.logs.vectors)
        for role, named in (
            (Role.CATEGORICAL, self.transform.categorical),
            (Role.NUMERIC, self.transform.numeric),
            (Role.VECTOR, self.transform.vectors),
            (Role.CATEGORICAL, _logged(self.slices)),
            (Role.CATEGORICAL, _logged(self.evaluation.fairness.columns)),
        ):
            known = sorted(column.name for column in logged if column.role is role)
            unknown = sorted(set(named) - set(known))
            if unknown:
                raise ValueError(
                    f"{role} columns {unknown} are used and not read: expected some of {known}; "
                    f"list further ones under logs.{_LISTED_UNDER[role]}"
                )
        return self

    @model_validator(mode="after")
    def _dimensions_stay(self) -> Self:
        """A share of the variance is another number of components tomorrow."""
        if not (self.model.warm_start or self.model.base_model):
            return self
        for name in ("title_dimensions", "query_dimensions", "product_dimensions"):
            if isinstance(kept := getattr(self.text, name), float):
                raise ValueError(
                    f"text.{name}={kept} with model.warm_start or model.base_model: its "
                    "number of components changes with the log, and with it the inputs; expected a "
                    "whole number"
                )
        return self

    @model_validator(mode="after")
    def _history_is_logged(self) -> Self:
        if self.model.history and not self.logs.history:
            raise ValueError(
                "model.history=true and logs.history=0: say under logs.history how many clicks "
                "of a user to look back at, such as 5"
            )
        return self

    @model_validator(mode="after")
    def _negatives_are_sampled_once(self) -> Self:
        """What ingest leaves out is made up for by weights, and by nothing else beside them."""
        if self.logs.negative_rate < 1:
            others = {
                "model.negative_rate": self.model.negative_rate,
                "importance.sampling_rate": self.importance.sampling_rate,
            }
            for name, rate in others.items():
                if rate < 1:
                    raise ValueError(
                        f"{name}={rate} is for a log that was sampled before it came, and "
                        f"logs.negative_rate={self.logs.negative_rate} is made up for by itself: "
                        "leave one of them out"
                    )
        return self

    def with_corrections(self) -> Self:
        """With the correction that sampled negatives need, where ingest samples them."""
        corrections = self.importance.corrections
        if self.logs.negative_rate == 1 or "negative_sampling" in corrections:
            return self
        importance = self.importance.model_copy(
            update={"corrections": {**corrections, "negative_sampling": {}}}
        )
        return self.model_copy(update={"importance": importance})

    @model_validator(mode="after")
    def _encoder_stays_where_weights_are_handed_on(self) -> Self:
        if self.text.finetune and (self.model.warm_start or self.model.base_model is not None):
            raise ValueError(
                "text.finetune with model.warm_start or model.base_model: the weights are for the "
                "vectors of another encoder; fine-tune once with `heft finetune`, name the folder "
                "as text.encoder, and go on from there"
            )
        return self

    @property
    def all_slices(self) -> tuple[str, ...]:
        """The columns to report by: the configured ones, and those that follow from training."""
        named = (*self.slices, *self.evaluation.fairness.columns, *DERIVED_SLICES)
        return tuple(dict.fromkeys(named))

    @property
    def widths(self) -> dict[str, int]:
        """How many values a row has of each column that is a list."""
        history = {HISTORY: self.logs.history} if self.logs.history else {}
        return {name: self.logs.vectors[name] for name in self.transform.vectors} | history


def _logged(slices: Sequence[str]) -> tuple[str, ...]:
    """Without those that follow from training and are in no log."""
    return tuple(name for name in slices if name not in DERIVED_SLICES)


def load(
    path: str | Path,
    *,
    run_dir: str | Path | None = None,
    data_dir: str | Path = "../shared/data",
    overlays: Sequence[str | Path] = (),
    overrides: dict[str, Any] | None = None,
) -> PipelineConfig:
    """Reads and checks a config file.

    Args:
        path: a YAML file.
        run_dir: what `{run}` stands for; `runs/<name>` by default.
        data_dir: what `{data}` stands for.
        overlays: YAML files laid over it, the later over the earlier; lists are replaced.
        overrides: values by dotted key, such as {"model.epochs": 2}; they win.

    Raises:
        ConfigError: no such file, not YAML, an unknown key or an impossible value.
    """
    raw = _read(Path(path))
    laid = {str(overlay): _read(Path(overlay)) for overlay in overlays}
    for overlay in laid.values():
        raw = _laid_over(raw, overlay)
    for key, value in (overrides or {}).items():
        _set(raw, key, value)
    name = raw.get("name", Path(path).stem)
    places = {"{run}": str(run_dir or Path("runs") / str(name)), "{data}": str(data_dir)}
    raw = _fill({"name": name, **raw}, places)
    for section in _SEEDED:
        if isinstance(raw.get(section), dict) or (section != "simulate" and section not in raw):
            raw[section] = {"seed": raw.get("seed", 0), **raw.get(section, {})}
    text = raw.get("text")
    if isinstance(text, dict) and isinstance(text.get("finetune"), dict):
        text["finetune"] = {"seed": raw.get("seed", 0), **text["finetune"]}
    try:
        return PipelineConfig.model_validate(raw).with_corrections()
    except ValidationError as error:
        raise ConfigError(f"{path}: {explain(error, laid, PipelineConfig)}") from error


def _laid_over(raw: dict[str, Any], overlay: dict[str, Any]) -> dict[str, Any]:
    """Groups of settings are joined; any other value of `overlay` takes the place of the old."""
    merged = dict(raw)
    for key, value in overlay.items():
        old = raw.get(key)
        both = isinstance(old, dict) and isinstance(value, dict)
        merged[key] = _laid_over(old, value) if both else value
    return merged


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise ConfigError(f"no config file at {path}: expected a YAML file there")
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not YAML: {error}") from error
    if not isinstance(raw, dict):
        raise ConfigError(f"{path} holds {type(raw).__name__}: expected a mapping of settings")
    return raw


def _set(raw: dict[str, Any], key: str, value: Any) -> None:
    *parents, last = key.split(".")
    node = raw
    for parent in parents:
        node = node.setdefault(parent, {})
        if not isinstance(node, dict):
            raise ConfigError(f"{key!r} cannot be set: {parent!r} is not a group of settings")
    node[last] = value


def _fill(value: Any, places: dict[str, str]) -> Any:
    if isinstance(value, dict):
        return {k: _fill(v, places) for k, v in value.items()}
    if isinstance(value, str):
        for mark, place in places.items():
            value = value.replace(mark, place)
    return value
