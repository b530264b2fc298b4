"""The production ranker: a weak text model, as shops have before they have logs."""

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import sparse
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler, normalize

__all__ = ["ranker_scores"]

_FEWEST_PAIRS = 20
_TOPICS = 32


def ranker_scores(
    queries: pd.Series,
    titles: pd.Series,
    grades: npt.NDArray[np.int64],
    trainable: npt.NDArray[np.bool_],
    share: float,
    rng: np.random.Generator,
) -> npt.NDArray[np.float64]:
    """Scores of query-title pairs, in standard deviations, all arguments of shape (pairs,).

    A ridge regression of the grade on four features (TF-IDF cosine, cosine of
    latent topics, share of query words and of query character trigrams in the
    title), fitted on a sample of `share` of the `trainable` pairs, 20 at least.
    """
    pool = np.flatnonzero(trainable)
    count = min(max(round(share * len(pool)), _FEWEST_PAIRS), len(pool))
    sample = rng.choice(pool, size=count, replace=False)
    features = _features(queries, titles)
    model = Ridge(alpha=1.0).fit(features[sample], grades[sample])
    scores = model.predict(features)
    # Rounded, so that the last bits of linear algebra do not decide an order.
    rounded: npt.NDArray[np.float64] = np.round(scores / max(float(scores.std()), 1e-9), 5)
    return rounded


def _features(queries: pd.Series, titles: pd.Series) -> npt.NDArray[np.float64]:
    """Text features of the pairs, standardised, shape (pairs, 4)."""
    query_codes, query_texts = pd.factorize(queries)
    title_codes, title_texts = pd.factorize(titles)
    texts = [*title_texts, *query_texts]
    words = TfidfVectorizer(sublinear_tf=True, token_pattern=r"\w+").fit_transform(texts)
    # A latent space needs more texts and words than topics.
    topics = min(_TOPICS, min(words.shape) - 1)
    columns = []
    if topics > 0:
        latent = TruncatedSVD(topics, random_state=0).fit_transform(words)
        latent = normalize(latent)
        split = len(title_texts)
        columns.append((latent[split:][query_codes] * latent[:split][title_codes]).sum(axis=1))
    binary = CountVectorizer(binary=True, token_pattern=r"\w+").fit_transform(texts)
    trigrams = CountVectorizer(binary=True, analyzer="char_wb", ngram_range=(3, 3))
    shares = (binary, trigrams.fit_transform(texts))
    columns.append(_products(words, query_codes, title_codes, len(title_texts)))
    for matrix in shares:
        length = np.asarray(matrix.sum(axis=1)).ravel()[len(title_texts) :][query_codes]
        common = _products(matrix, query_codes, title_codes, len(title_texts))
        columns.append(common / np.maximum(length, 1))
    scaled: npt.NDArray[np.float64] = StandardScaler().fit_transform(np.column_stack(columns))
    return scaled


def _products(
    matrix: sparse.csr_matrix,
    query_codes: npt.NDArray[np.int64],
    title_codes: npt.NDArray[np.int64],
    titles: int,
) -> npt.NDArray[np.float64]:
    """Scalar products of query rows with title rows; title rows come first."""
    left, right = matrix[titles + query_codes], matrix[title_codes]
    return np.asarray(left.multiply(right).sum(axis=1), dtype=np.float64).ravel()
