"""Both models' predictions on every view, compared."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import tensorflow as tf
import tensorflow_text  # noqa: F401  registers the tokeniser's ops

from heft import features as f
from heft.evaluation.comparison import Comparison, compare
from heft.evaluation.views import VIEWS, EvaluationSettings, ViewData
from heft.examples import Feature, read_columns, shard_paths

__all__ = ["VERDICT_FILE", "judge_models", "predict_examples"]

VERDICT_FILE = "verdict.json"
BATCH = 4096

Array = np.ndarray


def judge_models(
    split_uris: Mapping[str, str],
    model_dir: str,
    control_dir: str | None,
    slices: tuple[str, ...],
    settings: EvaluationSettings,
    output_uri: str,
) -> Comparison:
    """Compares the weighted model with its control on the views that the data has.

    Args:
        split_uris: folders of raw examples by split.
        model_dir, control_dir: SavedModels with an `examples` signature.
        slices: string columns to cut the natural view by.
        settings: see `compare`.
        output_uri: folder that `verdict.json` is written to.
    """
    uris = {view: split_uris[view] for view in VIEWS if view in split_uris}
    models = {"weighted": model_dir} | ({"control": control_dir} if control_dir else {})
    # One model in memory at a time: each holds an encoder and a table.
    predictions = {name: _predict_all(path, uris) for name, path in models.items()}
    views = {
        view: _view(view, uri, predictions["weighted"][view], predictions.get("control"), slices)
        for view, uri in uris.items()
    }
    comparison = compare(views, settings)
    path = Path(output_uri) / VERDICT_FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(comparison.to_json())
    return comparison


def predict_examples(
    model: tf.Module, paths: list[str], *, with_position: bool = True
) -> dict[str, Array]:
    """`ctr`, `cvr` and `ctcvr` of every example in `paths`, each (rows,), in order.

    Args:
        model: a SavedModel with an `examples` signature.
        paths: gzipped TFRecord shards.
        with_position: predict for the position that was logged, else for the
            reference position of the model.
    """
    signature = model.signatures["examples"]
    batches = []
    for path in paths:
        rows = tf.data.TFRecordDataset(path, compression_type="GZIP")
        if not with_position:
            rows = rows.map(lambda row: tf.py_function(_without_position, [row], tf.string))
        rows = rows.batch(BATCH)
        batches += [{k: v.numpy() for k, v in signature(examples=batch).items()} for batch in rows]
    return {
        name: np.concatenate([b[name] for b in batches]).astype(np.float64)
        for name in (f.CTR, f.CVR, f.CTCVR)
    }


def read_verdict(uri: str) -> Comparison:
    """What `judge_models` wrote."""
    return Comparison.from_json((Path(uri) / VERDICT_FILE).read_text())


def _predict_all(path: str, uris: Mapping[str, str]) -> dict[str, dict[str, Array]]:
    model = tf.saved_model.load(path)
    # On shuffled pages items are ranked by attractiveness: the weighted model must
    # not profit from knowing where an item stood.
    return {
        view: predict_examples(model, shard_paths(uri), with_position=view != f.SHUFFLED)
        for view, uri in uris.items()
    }


def _without_position(serialised: tf.Tensor) -> bytes:
    example = tf.train.Example.FromString(serialised.numpy())
    example.features.feature.pop(f.POSITION, None)
    return example.SerializeToString()


def _view(
    view: str,
    uri: str,
    weighted: dict[str, Array],
    control: dict[str, dict[str, Array]] | None,
    slices: tuple[str, ...],
) -> ViewData:
    wanted = [Feature(f.QUERY, bytes), Feature(f.REQUEST_ID, bytes)]
    wanted += [Feature(f.CLICK, int), Feature(f.CONVERSION, int), Feature(f.GRADE, float)]
    cut = slices if view == f.NATURAL else ()
    columns = read_columns(shard_paths(uri), wanted + [Feature(name, bytes) for name in cut])
    logged = view != f.GRADED
    return ViewData(
        name=view,
        weighted=weighted,
        control=control[view] if control else None,
        click=columns[f.CLICK] if logged else None,
        conversion=columns[f.CONVERSION] if logged else None,
        grade=None if logged else columns[f.GRADE],
        request=columns[f.REQUEST_ID] if logged else None,
        query=columns[f.QUERY],
        slices={name: columns[name].astype(str) for name in cut},
    )
