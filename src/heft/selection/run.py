"""FeatureRanker's work: weighted examples and embeddings in, a ranking and a map out."""

import logging
import shutil
import tempfile
from pathlib import Path

import tensorflow_transform as tft

from heft import features as f
from heft.examples import Feature, shard_paths
from heft.model.materials import input_sizes
from heft.passes import MakePipeline, Passes, local_pipeline
from heft.selection.map import draw_map
from heft.selection.ranking import FeatureRanking, rank_rows
from heft.selection.rows import sample_rows
from heft.selection.settings import RankingSettings
from heft.selection.shap_summary import summarise_shap
from heft.selection.weight_slices import weigh_slices
from heft.text.table import TextTable
from heft.transform import TransformSettings, transformed_features

__all__ = ["rank_features"]

_log = logging.getLogger(__name__)


def rank_features(
    train_uri: str,
    transform_uri: str,
    table_uri: str,
    transform: TransformSettings,
    settings: RankingSettings,
    output_uri: str,
    make_pipeline: MakePipeline = local_pipeline,
    scratch: str | None = None,
) -> FeatureRanking:
    """Ranks what a model may see by what it has to do with clicks and conversions.

    Memory: the sample of `settings.rows` rows, and their columns as float64, 64 at a time.

    Args:
        train_uri: folder of the weighted train split.
        transform_uri: Transform's output.
        table_uri: the embedding table that the text ids point to.
        transform: the columns.
        settings: how much is looked at, and how.
        output_uri: folder to write `ranking.json`, `weight_slices.json` and `shap.json` to, and
            `map.json` if a map is drawn.
        make_pipeline: makes the Beam pipelines to run on.
        scratch: a folder that all workers reach, left as it was found; beside the output
            if None.

    Raises:
        DataError: there is no row, or a feature is not a finite number.
    """
    graph = tft.TFTransformOutput(transform_uri)
    sizes = input_sizes(graph, transform)
    table = TextTable.load(table_uri)
    wanted = {
        f.QUERY_ID, f.TITLE_ID, f.CLICK, f.CONVERSION, f.POSITION, *sizes.dense,
        *sizes.categorical, *sizes.vectors,
    }  # fmt: skip
    features = [x for x in transformed_features(graph) if x.name in wanted]
    for task in f.TASKS:
        features += [Feature(w(task), float, 0.0) for w in (f.positive_weight, f.negative_weight)]
    parent = Path(scratch) if scratch else Path(output_uri).absolute().parent
    parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=".ranking-", dir=parent))
    try:
        passes = Passes(folder, make_pipeline)
        shards = shard_paths(train_uri)
        sampled = sample_rows(passes, shards, features, settings.rows, settings.seed)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    ranking = rank_rows(sampled, sizes, table, settings)
    if settings.map_titles:
        first = next(iter(transform.categorical), None)
        values = graph.vocabulary_by_name(first) if first else []
        drawn = draw_map(
            sampled.columns,
            table,
            settings,
            sampled.columns[f.categorical_id(first)] if first else None,
            tuple(value.decode(errors="replace") for value in values),
        )
        if drawn is not None:
            drawn.save(output_uri)
    names = {
        name: [value.decode(errors="replace") for value in graph.vocabulary_by_name(name)]
        for name in transform.categorical
    }
    weigh_slices(sampled, transform.categorical, names).save(output_uri)
    if explained := summarise_shap(sampled, sizes, table, settings.seed):
        explained.save(output_uri)
    ranking.save(output_uri)
    _log.info(
        "%d features ranked on %d of %d rows", len(ranking.features), ranking.rows, ranking.of
    )
    return ranking
