"""Asking a pushed model in this process."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_text  # noqa: F401  registers the tokeniser's ops
from rich.markup import escape
from rich.table import Table

from heft import features as f
from heft.errors import InputError
from heft.ranking_expression import RankingExpression
from heft.serving_settings import RANKINGS_FILE

__all__ = ["ask", "order", "predict_columns", "predictions_table", "pushed_model"]


def pushed_model(run_dir: Path) -> Path:
    """The newest version that a run pushed.

    Raises:
        InputError: the run pushed none.
    """
    versions = [p for p in (run_dir / "serving" / "heft").glob("*") if p.name.isdecimal()]
    if not versions:
        raise InputError(
            f"{run_dir} pushed no model: its report says why ({run_dir / 'report' / 'index.html'})"
        )
    return max(versions, key=lambda path: int(path.name))


def predict_columns(
    path: Path, query: str, titles: Sequence[str], others: dict[str, Any]
) -> dict[str, np.ndarray]:
    """`ctr`, `cvr` and `ctcvr` of each title, (len(titles),): `ask` of `serving_default`.

    Args:
        path: a SavedModel with that signature.
        query: one query, asked of every title.
        titles: at least one.
        others: as of `ask`.

    Raises:
        InputError: as `ask`.
    """
    answers = ask(path, "serving_default", [query] * len(titles), titles, others)
    return {name: answers[name] for name in (f.CTR, f.CVR, f.CTCVR)}


def order(
    by: str, run_dir: Path, answers: Mapping[str, np.ndarray], others: Mapping[str, Any]
) -> np.ndarray:
    """What items are ordered by, (items,).

    Args:
        by: an expression, or the name of one in the run's config, under `serving.rankings`.
        run_dir: of a finished run.
        answers: of the model, each (items,).
        others: further columns, one value for all items.

    Raises:
        InputError: `by` is no expression, or names what is not there.
    """
    named = run_dir / "serving" / RANKINGS_FILE
    rankings = json.loads(named.read_text()) if named.is_file() else {}
    try:
        scores = RankingExpression(rankings.get(by, by))({**others, **answers})
    except ValueError as error:
        known = f"; the run's rankings are {sorted(rankings)}" if rankings else ""
        raise InputError(f"--by {by}: {error}{known}") from None
    return np.broadcast_to(scores, len(answers[f.CTR]))


def predictions_table(
    query: str,
    titles: Sequence[str],
    answers: Mapping[str, np.ndarray],
    by: str,
    scores: np.ndarray,
) -> Table:
    """Titles and what the model says of them, the best first."""
    shown = {name: answers[name] for name in (f.CTR, f.CVR, f.CTCVR)}
    if by not in shown:
        shown[by] = scores
    heads, title = map(escape, shown), f"query: {escape(query)}"
    table = Table("title", *heads, title=title, title_justify="left")
    for row in np.argsort(-scores, kind="stable"):
        figures = (f"{float(values[row]):.4f}" for values in shown.values())
        table.add_row(escape(titles[row]), *figures)
    return table


def ask(
    path: Path, name: str, queries: Sequence[str], titles: Sequence[str], others: dict[str, Any]
) -> dict[str, np.ndarray]:
    """What a signature that takes named columns answers, by output.

    Args:
        path: a SavedModel.
        name: of the signature.
        queries, titles: of n pairs.
        others: further columns, one value for all titles, of a vector a list; what is
            left out takes the value of an unknown.

    Raises:
        InputError: no whole model at `path`, a column it does not have, or a
            value of another type.
    """
    try:
        signatures = tf.saved_model.load(str(path)).signatures
    except OSError as error:
        raise InputError(f"{path} holds no whole SavedModel: run the street again") from error
    if name not in signatures:
        raise InputError(
            f"{path} has no signature {name!r}, only {sorted(signatures)}: it was exported by an "
            "older Heft; run the street again"
        )
    signature = signatures[name]
    wanted = {spec.name: spec for spec in signature.structured_input_signature[1].values()}
    unknown = sorted(set(others) - set(wanted))
    if unknown:
        raise InputError(f"unknown columns {unknown}: expected some of {sorted(wanted)}")
    given = {f.QUERY: list(queries), f.TITLE: list(titles)}
    columns = {
        name: _tensor(spec, given.get(name), others.get(name), len(titles))
        for name, spec in wanted.items()
    }
    return {key: values.numpy() for key, values in signature(**columns).items()}


def _tensor(spec: tf.TensorSpec, given: list[str] | None, other: Any, rows: int) -> tf.Tensor:
    if given is not None:
        return tf.constant(given, spec.dtype)
    value: Any
    text, width = spec.dtype == tf.string, spec.shape[1] if len(spec.shape) == 2 else None
    try:
        if width is None:
            value = _text(other) if text else _number(other)
        else:
            value = _texts(other, width) if text else _numbers(other, width)
    except (ValueError, TypeError) as error:
        kind = "text" if text else "number"
        expected = f"a list of {width} {kind}s" if width else f"a {kind}"
        raise InputError(f"{spec.name}={other!r:.60}: expected {expected}") from error
    return tf.constant([value] * rows, spec.dtype)


def _text(value: Any) -> str:
    return "" if value is None else str(value)


def _number(value: Any) -> float:
    return float("nan") if value is None else float(value)


def _texts(value: Any, width: int) -> list[str]:
    """The first texts of a list, filled up with empty ones."""
    if not isinstance(value, list | tuple | type(None)):
        raise TypeError
    texts = [_text(text) for text in (value or [])[:width]]
    return texts + [""] * (width - len(texts))


def _numbers(value: Any, width: int) -> list[float]:
    numbers = [float("nan")] * width if value is None else [float(number) for number in value]
    if len(numbers) != width:
        raise ValueError
    return numbers
