"""What items are ordered by: arithmetic over what a model answers and what is known of them."""

import ast
import sys
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

__all__ = ["RankingExpression"]

_OPERATORS: dict[type[ast.AST], Callable[..., Any]] = {
    ast.Add: np.add, ast.Sub: np.subtract, ast.Mult: np.multiply, ast.Div: np.divide,
    ast.Pow: np.power, ast.UAdd: np.positive, ast.USub: np.negative,
}  # fmt: skip
# Name → function and how many arguments it takes.
_FUNCTIONS: dict[str, tuple[Callable[..., Any], int]] = {
    "abs": (np.abs, 1), "exp": (np.exp, 1), "log": (np.log, 1), "log1p": (np.log1p, 1),
    "sqrt": (np.sqrt, 1), "min": (np.minimum, 2), "max": (np.maximum, 2),
}  # fmt: skip
_LONGEST = 1_000  # characters
_LARGEST = sys.float_info.max
_EXPECTED = (
    "expected names, numbers, + - * / **, parentheses and "
    f"{', '.join(f'{name}()' for name in _FUNCTIONS)}, such as 'ctcvr * price'"
)


class RankingExpression:
    """A parsed expression, such as `ctcvr * price` or `ctr * log1p(margin)`.

    Attributes:
        text: as it was written.
        names: the columns and outputs that it reads.

    Raises:
        ValueError: it is none.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        try:
            if len(text) > _LONGEST:
                raise SyntaxError
            self._tree = ast.parse(text.strip(), mode="eval").body
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            raise ValueError(f"{text[:100]!r} is no ranking expression: {_EXPECTED}") from None
        self.names = frozenset(_names(self._tree, text))

    def __call__(self, columns: Mapping[str, Any]) -> np.ndarray:
        """The value of each item.

        Args:
            columns: those of `names`, numbers (items,) or one number for all.

        Returns:
            (items,) float64; what cannot be computed, such as a division by zero, or is
            infinite, is -inf, so that it is ordered last.

        Raises:
            ValueError: a column is missing, or is not of numbers.
        """
        missing = sorted(self.names - set(columns))
        if missing:
            raise ValueError(
                f"{self.text!r} names {missing}: expected some of {sorted(map(str, columns))}"
            )
        values = {name: _numbers(name, columns[name], self.text) for name in self.names}
        with np.errstate(all="ignore"):
            result = np.asarray(_value(self._tree, values), np.float64)
        return np.where(np.isfinite(result), result, -np.inf)


def _names(node: ast.AST, text: str) -> set[str]:
    """The names in a tree, of which every node is allowed."""
    match node:
        case ast.Constant(value=int() | float() as number) if (
            not isinstance(number, bool) and abs(number) <= _LARGEST
        ):
            return set()
        case ast.Name(id=name):
            return {name}
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
            return _names(left, text) | _names(right, text)
        case ast.UnaryOp(op=op, operand=operand) if type(op) in _OPERATORS:
            return _names(operand, text)
        case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]) if (
            name in _FUNCTIONS and len(arguments) == _FUNCTIONS[name][1]
        ):
            return set[str]().union(*(_names(argument, text) for argument in arguments))
    raise ValueError(f"{text!r}: {ast.unparse(node)!r} cannot be part of it; {_EXPECTED}")


def _numbers(name: str, values: Any, text: str) -> np.ndarray:
    try:
        return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"{text!r}: the column {name!r} is not a number") from None


def _value(node: ast.AST, values: Mapping[str, np.ndarray]) -> Any:
    match node:
        case ast.Constant(value=number):
            return np.float64(number)  # type: ignore[arg-type]  # `_names` let numbers alone in
        case ast.Name(id=name):
            return values[name]
        case ast.BinOp(left=left, op=op, right=right):
            return _OPERATORS[type(op)](_value(left, values), _value(right, values))
        case ast.UnaryOp(op=op, operand=operand):
            return _OPERATORS[type(op)](_value(operand, values))
        case ast.Call(func=ast.Name(id=name), args=arguments):
            return _FUNCTIONS[name][0](*(_value(argument, values) for argument in arguments))
    raise AssertionError(ast.dump(node))
