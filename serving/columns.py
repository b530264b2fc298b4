"""Columns as a client is given them, and as a server takes them."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from serving.errors import InvalidRequest
from serving.transports import Input

__all__ = ["as_arrays", "completed", "transposed"]


def as_arrays(columns: Mapping[str, Sequence[Any] | np.ndarray]) -> dict[str, np.ndarray]:
    """Arrays of one length, or of one row.

    Raises:
        InvalidRequest: they differ in length, or hold nothing.
    """
    arrays = {}
    for name, values in columns.items():
        try:
            arrays[name] = _array(values)
        except ValueError as error:
            raise InvalidRequest(
                f"{name} holds lists of different lengths: expected as many values in each row"
            ) from error
    for name, array in arrays.items():
        if not array.ndim:
            raise InvalidRequest(f"{name}={array.item()!r}: expected a list of values")
        if array.dtype == object and any(value is None for value in array.flat):
            raise InvalidRequest(
                f"{name} holds None: expected an empty text or 0 where nothing is known, or no "
                f"{name} at all"
            )
    lengths = {name: len(array) for name, array in arrays.items()}
    if not lengths or 0 in lengths.values():
        raise InvalidRequest("the columns hold no rows: expected at least one")
    if len(set(lengths.values()) - {1}) > 1:
        raise InvalidRequest(
            f"columns differ in length: {lengths}; expected one value for each row, or one for all"
        )
    return arrays


def _array(values: Sequence[Any] | np.ndarray) -> np.ndarray:
    array = np.asarray(values)
    if array.dtype.kind in "US":  # fixed-width strings lose trailing NULs
        array = np.asarray(values, dtype=object)
    return array


def transposed(candidates: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Rows of the same columns, as columns.

    Raises:
        InvalidRequest: two rows differ in their columns.
    """
    names = set(candidates[0])
    for index, candidate in enumerate(candidates):
        if set(candidate) != names:
            difference = sorted(set(candidate) ^ names)
            raise InvalidRequest(
                f"candidate {index} and candidate 0 differ in the columns {difference}: "
                "give every candidate the same ones"
            )
    return {name: [candidate[name] for candidate in candidates] for name in candidates[0]}


def completed(
    columns: Mapping[str, np.ndarray], inputs: Mapping[str, Input]
) -> dict[str, np.ndarray]:
    """With what stands for columns that are left out, in as many rows.

    JSON has to name every column, and a server that batches wants all of one length.

    Raises:
        InvalidRequest: a column is none of the signature's, which a server may well overlook.
    """
    unknown = sorted(set(columns) - set(inputs))
    if inputs and unknown:
        raise InvalidRequest(f"unknown columns {unknown}: expected some of {sorted(inputs)}")
    rows = max(len(array) for array in columns.values())
    left_out = {
        name: np.repeat(one.default, rows, axis=0)
        for name, one in inputs.items()
        if name not in columns and one.default is not None and one.default.ndim
    }
    return {**columns, **left_out}
