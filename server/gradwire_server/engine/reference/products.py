"""The matrix product: of vectors, of matrices, and of stacks of them, which broadcast."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gradwire_server.engine.checkpoints import checked
from gradwire_server.engine.graph.graph import Array, Shape
from gradwire_server.engine.graph.opcodes import Opcode
from gradwire_server.engine.graph.shapes import size
from gradwire_server.engine.reference.rule import Facts, Rule, stop, unbroadcast

AT_ONCE = 1 << 28
"""Multiplications of a product that are left to one call, about a hundredth of a second."""


SMALL = 1 << 20
"""Elements of a gradient that is made for all matrices of a stack before it is summed."""


def _matmul(facts: Facts, operands: Sequence[Array]) -> Array:
    a, b = operands
    return _product(facts, a, b) if a.ndim > 1 else np.matmul(a, b)


def _matmul_vjp(facts: Facts, g: Array, operands: Sequence[Array], out: Array) -> list[Array]:
    a, b = operands
    # A vector is a row on the left and a column on the right.
    rows = a if a.ndim > 1 else a[np.newaxis]
    columns = b if b.ndim > 1 else b[:, np.newaxis]
    g = g if b.ndim > 1 else g[..., np.newaxis]
    g = g if a.ndim > 1 else g[..., np.newaxis, :]
    to_rows = _gradient(facts, g, _transposed(columns), rows.shape)
    to_columns = _gradient(facts, _transposed(g), rows, _transposed(columns).shape)
    return [to_rows.reshape(a.shape), _transposed(to_columns).reshape(b.shape)]


def _gradient(facts: Facts, g: Array, factor: Array, shape: Shape) -> Array:
    """g @ factor, summed over the stacks to which an operand of ``shape`` was broadcast."""
    stack = np.broadcast_shapes(g.shape[:-2], factor.shape[:-2])
    if stack == shape[:-2] or size(stack) * size(shape[-2:]) <= SMALL:
        return unbroadcast(_stopped_product(facts, g, factor), shape)
    sums = np.zeros((1,) * (len(stack) + 2 - len(shape)) + shape)
    g, factor = (np.broadcast_to(x, stack + x.shape[-2:]) for x in (g, factor))
    for place in np.ndindex(stack):
        own = tuple(min(i, length - 1) for i, length in zip(place, sums.shape, strict=False))
        sums[own] += _stopped_product(facts, g[place], factor[place])
    return sums.reshape(shape).astype(g.dtype)


def _transposed(a: Array) -> Array:
    return a.swapaxes(-1, -2)


def _product(facts: Facts, a: Array, b: Array) -> Array:
    """a @ b, some rows after others."""
    facts.checkpoint()
    work = a.size * (b.shape[-1] if b.ndim > 1 else 1)
    parts = np.array_split(a, max(1, min(a.shape[-2], work // AT_ONCE)), axis=-2)
    axis = -2 if b.ndim > 1 else -1
    return np.concatenate([np.matmul(part, b) for part in checked(parts, facts.checkpoint, 1)], axis)


def _stopped_product(facts: Facts, g: Array, factor: Array) -> Array:
    """g @ factor, in which a term whose element of ``g`` is 0 counts 0, also if the other one is not finite."""
    if np.isfinite(factor).all():
        return _product(facts, g, factor)
    columns = checked(range(g.shape[-1]), facts.checkpoint, 1)
    terms = (stop(g[..., [j]], g[..., [j]] * factor[..., [j], :]) for j in columns)
    return sum(terms, np.zeros((), g.dtype))


PRODUCTS = {Opcode.MATMUL: Rule(_matmul, _matmul_vjp)}
