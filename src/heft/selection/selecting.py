"""From a ranking to what a model sees."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from heft.errors import ConfigError
from heft.model.network import InputSizes
from heft.selection.ranking import COMPONENT, COSINE, EMBEDDING, NUMBER, FeatureRanking
from heft.selection.settings import SelectionSettings
from heft.text.reduction import Projection, Reduction
from heft.text.table import TextTable

__all__ = ["Selection", "select"]

_SOURCES = ("query", "title", "product")


@dataclass(frozen=True)
class Selection:
    """What was chosen.

    Attributes:
        kept: features the model sees, the best first; `cosine` is always there.
        dropped: those it does not.
        dimensions: of embeddings, that joined the components.
    """

    kept: tuple[str, ...]
    dropped: tuple[str, ...]
    dimensions: tuple[tuple[str, int], ...]

    def sizes(self, sizes: InputSizes) -> InputSizes:
        """The columns of the network without those that were dropped."""
        gone = set(self.dropped)
        return replace(
            sizes,
            lexical=tuple(n for n in sizes.lexical if n not in gone),
            numeric=tuple(n for n in sizes.numeric if n not in gone),
            categorical={n: rows for n, rows in sizes.categorical.items() if n not in gone},
            vectors={n: width for n, width in sizes.vectors.items() if n not in gone},
        )

    def table(self, table: TextTable) -> TextTable:
        """The table with the components that are kept and the dimensions that joined them."""
        gone = set(self.dropped)
        parts = {}
        for source in _SOURCES:
            whole: Projection = getattr(table.reduction, source)
            rows = [
                k for k in range(len(whole.components)) if f"{source}_component_{k}" not in gone
            ]
            joined = [k for own, k in self.dimensions if own == source]
            parts[source] = _projection(whole, rows, joined)
        return replace(table, reduction=Reduction(**parts))


def select(
    ranking: FeatureRanking, settings: SelectionSettings, sizes: InputSizes, fingerprint: str
) -> Selection:
    """Chooses features by their place in `ranking`; the best number always stays.

    Args:
        ranking: of FeatureRanker.
        settings: what to keep.
        sizes: of a network that sees everything.
        fingerprint: of the encoder whose vectors the network sees.

    Raises:
        ConfigError: the ranking is of another encoder or other columns.
    """
    if ranking.encoder != fingerprint:
        raise ConfigError(
            f"model.selection: the ranking is of encoder {ranking.encoder[:12]} and the embeddings "
            f"of {fingerprint[:12]}; run FeatureRanker on these embeddings"
        )
    ordered = sorted(ranking.features, key=lambda x: (-x.score(settings.task, settings.by), x.name))
    columns = {*sizes.dense, *sizes.categorical, *sizes.vectors}
    if missing := columns - {feature.name for feature in ordered}:
        raise ConfigError(
            f"model.selection: the ranking does not have {sorted(missing)}; run FeatureRanker with "
            "the same transform"
        )
    asked = [x for x in ordered if x.name in columns or (x.kind == COMPONENT and x.name != COSINE)]
    least = -np.inf if settings.minimum is None else settings.minimum
    good = [x.name for x in asked if x.score(settings.task, settings.by) >= least]
    # Without a number there is no dense input.
    best = next(x.name for x in asked if x.kind == NUMBER)
    kept = list(dict.fromkeys([*good[: settings.top], best]))
    embeddings = [x for x in ordered if x.kind == EMBEDDING][: settings.embedding_dimensions]
    return Selection(
        kept=(COSINE, *kept, *(x.name for x in embeddings)),
        dropped=tuple(x.name for x in asked if x.name not in set(kept)),
        dimensions=tuple((x.source, x.index) for x in embeddings),
    )


def _projection(whole: Projection, rows: Sequence[int], joined: Sequence[int]) -> Projection:
    """Some components, and single dimensions, which are an affine map as well."""
    single = np.zeros((len(joined), whole.components.shape[1]), np.float32)
    single[np.arange(len(joined)), list(joined)] = 1
    explained = np.concatenate([whole.explained[list(rows)], np.zeros(len(joined))])
    components = np.concatenate([whole.components[list(rows)], single])
    return Projection(np.asarray(whole.mean), components, explained)
