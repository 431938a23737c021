"""Values on the way through a model of another framework: expressions, arrays that depend on no source, and gaps."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from gradwire._errors import InvalidGraphError
from gradwire._expressions import functions as gw
from gradwire._expressions.expression import Expression, as_expression

Value: TypeAlias = Any
"""An ``Expression``, an array, ``Indices`` or ``Missing``."""


class Unsupported(Exception):  # noqa: N818  (it ends in a list of what is missing, not in a traceback)
    """A primitive, or a use of one, that no expression stands for; its text is listed beside the name."""


class Missing:
    """The result of what cannot be imported; what is made of it is missing too, and counts no more."""


@dataclass(frozen=True, slots=True)
class Indices:
    """Row indices, an input of int64, in the shape that they have in the model; negative ones count from the end."""

    node: Expression
    shape: tuple[int, ...]
    offset: int = 0
    """What has been added to all of them."""
    size: int = 0
    """What has been added to negative ones, the size of an axis."""

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.shape)

    @property
    def numbers(self) -> Expression:
        """The integers as floats, as requests bring them."""
        if self.size:
            raise Unsupported("of row indices of which negative ones count from the end")
        own = as_expression(self.node)
        return gw.reshape(gw.add(own, self.offset) if self.offset else own, self.shape)

    def rows(self, size: int) -> Expression:
        """What ``take`` understands, along an axis of this size: negative ones count from the end."""
        if self.offset or self.size != size:
            raise Unsupported(
                "by row indices that are computed, or whose negative ones do not count from the end, as by mode='clip'"
            )
        return self.node

    def reshaped(self, shape: Sequence[int]) -> Indices:
        """The indices in another shape of as many elements, of which one size may be -1."""
        known = math.prod(size for size in shape if size != -1)
        sizes = tuple(self.node.size // known if size == -1 and known else size for size in shape)
        if math.prod(sizes) != self.node.size:
            raise Unsupported(f"of row indices, from shape {self.shape} to {tuple(shape)}")
        return replace(self, shape=sizes)


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
