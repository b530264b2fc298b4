"""The model that `model.base_model` names, found and looked at before anything runs."""

from pathlib import Path

from heft import features as f
from heft.errors import ConfigError
from pipeline.config import PipelineConfig

__all__ = ["with_base_model"]


def with_base_model(config: PipelineConfig) -> PipelineConfig:
    """The same config with `model.base_model` as the path of one SavedModel.

    A run's folder stands for what it pushed last: the cache has to see when that is another.

    Raises:
        InputError: no model there, or one of another encoder or with other columns.
    """
    if config.model.base_model is None:
        return config
    # TensorFlow, which takes its time to import.
    from heft.model.warm_start import Lineage, check_base
    from heft.text.checkpoint import find_checkpoint, fingerprint

    path = _saved_model(config.model.base_model)
    columns = config.transform
    lineage = Lineage(
        fingerprint(find_checkpoint(config.text.encoder).folder),
        f.LEXICAL
        + tuple(f.numeric_value(name) for name in columns.numeric)
        + tuple(f.vector_present(name) for name in columns.vectors),
        {f.categorical_id(name): () for name in columns.categorical},
        {f.vector_value(name): config.logs.vectors[name] for name in columns.vectors},
        config.model.history,
    )
    check_base(path, ("weighted", "control") if config.model.control else ("weighted",), lineage)
    model = config.model.model_copy(update={"base_model": str(path)})
    return config.model_copy(update={"model": model})


def _saved_model(named: str) -> Path:
    from heft.model.predict import pushed_model

    path = Path(named).absolute()
    if (path / "saved_model.pb").is_file():
        return path
    if not path.is_dir():
        raise ConfigError(
            f"model.base_model={named!r}: no folder there; expected a run's folder, or a "
            "SavedModel that Heft exported"
        )
    return pushed_model(path)
