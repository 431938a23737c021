"""What an entry of the table is made of, and the helpers that entries share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from gradwire_server.engine.checkpoints import Checkpoint, checked, unhurried
from gradwire_server.engine.graph.graph import Array, Attributes, Shape, Ties


class Facts(NamedTuple):
    """What is known of a node besides its operands."""

    number: Any
    """Exponent of a power, or flat place of an element; of several elements at once, [elements]."""
    attributes: Attributes
    """Axes, permutation, shape and the like, in normal form."""
    ties: Ties
    checkpoint: Checkpoint = unhurried
    """Called between the parts of long work; may raise."""


class Part(NamedTuple):
    """A contribution that is 0 but for a few elements."""

    places: Array
    """Flat places of the elements; () or [elements]."""
    numbers: Array
    """What the elements get, in the shape of ``places``."""


Contribution = Array | Part | None
"""What a node adds to the gradient of an operand, in the operand's shape; None for row indices, which have none."""


class Rule(NamedTuple):
    """The meaning of an op, for one example.

    ``value(facts, operands)`` is the value of a node. ``vjp(facts, g, operands, out)``, the vector-Jacobian product, is
    what the node contributes to the gradients of its operands, in their order: the node's own gradient ``g``, in the
    shape of its value ``out``, times the local derivatives.
    """

    value: Callable[[Facts, Sequence[Array]], Array]
    vjp: Callable[[Facts, Array, Sequence[Array], Array], Iterable[Contribution]]


def stop(g: Array, product: Array) -> Array:
    """A product with ``g``, but 0 where ``g`` is 0, whatever that was multiplied with."""
    return np.where(g == 0, 0, product)


def each(facts: Facts, operands: Sequence[Array]) -> Iterable[Array]:
    """The operands, of which there may be a million, with checkpoints."""
    return checked(operands, facts.checkpoint, 16)


def total(a: Array, axes: tuple[int, ...]) -> Array:
    """The sum of ``a`` over axes, which stay at size 1; float32 adds up in float64."""
    sums: Array = np.add.reduce(a, axis=axes, keepdims=True, dtype=np.float64)
    return sums.astype(a.dtype)


def unbroadcast(a: Array, shape: Shape) -> Array:
    """The sum of ``a`` over the axes along which a tensor of ``shape`` was broadcast to the shape of ``a``."""
    if a.shape == shape:
        return a
    padded = (1,) * (a.ndim - len(shape)) + shape
    return total(a, tuple(axis for axis, length in enumerate(padded) if length == 1 != a.shape[axis])).reshape(shape)
