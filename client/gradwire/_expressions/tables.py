"""Tables where expressions find what is made of them. Files that make it fill them when they are imported."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from gradwire._errors import InvalidGraphError, ValueNeededError

UFUNCS: dict[np.ufunc, Callable[..., object]] = {}
"""What NumPy's functions of single elements build."""

FUNCTIONS: dict[Any, Callable[..., object]] = {}
"""What its other functions build."""

SHAPES: dict[Any, Callable[..., object]] = {}
"""What asks for the shape only, and builds nothing."""

NEEDING_VALUES: dict[Any, str] = {}
"""Functions of NumPy that need values, and what to write instead."""

METHODS: dict[str, Callable[..., Any]] = {}
"""What operators and methods of expressions call, by its name."""

SHOWN: dict[str, Callable[[Any], str | None]] = {}
"""How a notebook shows an expression, by media type; None where it has the text alone."""


def apply_ufunc(ufunc: np.ufunc, method: str, inputs: Sequence[object], kwargs: Mapping[str, object]) -> Any:  # noqa: ANN401  (an expression)
    """What ``Expression.__array_ufunc__`` does."""
    if ufunc in NEEDING_VALUES:
        raise needs_values(f"np.{ufunc.__name__}", NEEDING_VALUES[ufunc])
    function = UFUNCS.get(ufunc)
    if function is None or method != "__call__" or kwargs:
        call = f"np.{ufunc.__name__}" + ("" if method == "__call__" else f".{method}")
        raise unsupported(call + (f" with {', '.join(kwargs)}" if kwargs else ""))
    return function(*inputs)


def apply_function(func: Callable[..., object], args: Sequence[Any], kwargs: Mapping[str, Any]) -> object:
    """What ``Expression.__array_function__`` does."""
    if func in NEEDING_VALUES:
        raise needs_values(f"np.{func.__name__}", NEEDING_VALUES[func])
    function = FUNCTIONS.get(func) or SHAPES.get(func)
    if function is None:
        raise unsupported(f"np.{func.__name__}")
    try:
        return function(*args, **kwargs)
    except InvalidGraphError:
        raise
    except TypeError as error:
        raise InvalidGraphError(f"np.{func.__name__} on an expression: {error}") from error


def needs_values(call: str, instead: str) -> ValueNeededError:
    """The error of a call of NumPy that would have to look at numbers."""
    return ValueNeededError(f"{call} of an expression, which has no value until it is evaluated: {instead}")


def unsupported(call: str) -> InvalidGraphError:
    """The error of a call of NumPy that builds nothing."""
    names = sorted({ufunc.__name__ for ufunc in UFUNCS} | {function.__name__ for function in FUNCTIONS})
    return InvalidGraphError(f"{call} cannot build a graph; of NumPy's functions these can: {', '.join(names)}")
