"""How alike a query and a title are, read from the table."""

import numpy as np

from heft.text.table import TextTable

__all__ = ["cosine_similarity"]


def cosine_similarity(
    table: TextTable, query_ids: np.ndarray, title_ids: np.ndarray, chunk: int = 65_536
) -> np.ndarray:
    """Cosine of each row's query and title vector, (n,) float32 in [-1, 1].

    NaN where either id is negative, which means that the text is not in the
    vocabulary. Memory is that of `chunk` rows.

    Args:
        table: in whose rows the ids count.
        query_ids, title_ids: (n,) int.
        chunk: rows computed at once.
    """
    result = np.full(len(query_ids), np.nan, np.float32)
    rows = np.flatnonzero((query_ids >= 0) & (title_ids >= 0))
    for start in range(0, len(rows), chunk):
        block = rows[start : start + chunk]
        queries, titles = table.queries[query_ids[block]], table.titles[title_ids[block]]
        lengths = np.linalg.norm(queries, axis=1) * np.linalg.norm(titles, axis=1)
        dots = np.einsum("nd,nd->n", queries, titles)
        result[block] = np.clip(dots / np.maximum(lengths, np.finfo(np.float32).tiny), -1, 1)
    return result
