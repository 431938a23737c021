"""Values on the way through a model of another framework: expressions, arrays that depend on no source, and gaps."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from gradwire._errors import InvalidGraphError
from gradwire._expressions import functions as gw
from gradwire._expressions.expression import Expression

Value: TypeAlias = Any
"""An ``Expression``, an array, ``Indices`` or ``Missing``."""


class Unsupported(Exception):  # noqa: N818  (it ends in a list of what is missing, not in a traceback)
    """A primitive, or a use of one, that no expression stands for; its text is listed beside the name."""


class Missing:
    """The result of what cannot be imported; what is made of it is missing too, and counts no more."""


class Gaps:
    """What a model needs and cannot have, by name, with how often."""

    def __init__(self, *, plain: bool = False) -> None:
        self.found: Counter[str] = Counter()
        self.plain = plain
        """Whether a function is differentiated by JAX as expressions are: without derivatives of its own."""

    def note(self, name: str, why: str = "") -> None:
        """Count one."""
        self.found[f"{name} ({why})" if why else name] += 1

    def check(self, what: str) -> None:
        """Refuse the model where anything is missing, with all of it.

        Raises:
            InvalidGraphError: Something is.
        """
        if self.found:
            listed = ", ".join(f"{name} x {count}" for name, count in sorted(self.found.items()))
            raise InvalidGraphError(f"{what} needs what cannot be imported: {listed}; write it with other functions")


def evaluate(gaps: Gaps, name: str, rule: Callable[..., Value] | None, *arguments: Value) -> Value:
    """What a rule makes, or ``Missing``, and then the name is noted.

    Args:
        gaps: Where it is noted.
        name: Of the primitive.
        rule: None if there is none.
        *arguments: Of the rule.
    """
    try:
        if rule is not None:
            return rule(*arguments)
        gaps.note(name)
    except (Unsupported, InvalidGraphError) as error:
        gaps.note(name, str(error))
    return Missing()


def is_known(value: Value) -> bool:
    """Whether it is an array, which depends on no source."""
    return not isinstance(value, Expression | Missing) and hasattr(value, "dtype")


def moved(node: Expression, places: NDArray[Any], beside: float = 0.0) -> Expression:
    """Elements of a tensor by their places in row-major order, and a number where the place is -1."""
    flat = gw.ravel(node)
    if (places < 0).any():
        flat = gw.concatenate([flat, np.full(1, beside)])
    return gw.take(flat, places)


def places_of(shape: Iterable[int]) -> NDArray[np.int64]:
    """The place of each element in row-major order."""
    sizes = tuple(shape)
    return np.arange(int(np.prod(sizes, dtype=np.int64))).reshape(sizes)
