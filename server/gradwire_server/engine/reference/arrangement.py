"""Ops that move elements."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from gradwire_server.engine.graph.graph import Array, Shape
from gradwire_server.engine.graph.opcodes import Opcode
from gradwire_server.engine.reference.rule import Facts, Part, Rule, each


class IndexRangeError(Exception):
    """A row index that is out of range."""

    def __init__(self, position: Shape, index: int, rows: int) -> None:
        super().__init__(position, index, rows)
        self.position = position
        """Position of the first such index among the indices."""
        self.index = index
        self.rows = rows


def _reshape(facts: Facts, operands: Sequence[Array]) -> Array:
    return operands[0].reshape(facts.attributes["shape"])


def _reshape_vjp(facts: Facts, g: Array, operands: Sequence[Array], out: Array) -> list[Array]:
    return [g.reshape(operands[0].shape)]


def _transpose(facts: Facts, operands: Sequence[Array]) -> Array:
    return operands[0].transpose(facts.attributes["axes"])


def _transpose_vjp(facts: Facts, g: Array, operands: Sequence[Array], out: Array) -> list[Array]:
    return [g.transpose(np.argsort(facts.attributes["axes"]))]


def _take(facts: Facts, operands: Sequence[Array]) -> Array:
    a, indices = operands
    axis = facts.attributes.get("axis", 0)
    _check(indices, a.shape[axis])
    return a.take(indices, axis=axis)


def _take_vjp(facts: Facts, g: Array, operands: Sequence[Array], out: Array) -> list[Array | None]:
    a, indices = operands
    axis = facts.attributes.get("axis", 0)
    return [_scattered(g, indices, axis, a.shape[axis]), None]


def _scatter_add(facts: Facts, operands: Sequence[Array]) -> Array:
    entries, indices = operands
    axis, size = facts.attributes["axis"], facts.attributes["size"]
    _check(indices, size)
    return _scattered(entries, indices, axis, size)


def _scatter_add_vjp(facts: Facts, g: Array, operands: Sequence[Array], out: Array) -> list[Array | None]:
    return [g.take(operands[1], axis=facts.attributes["axis"]), None]


def _check(indices: Array, size: int) -> None:
    """Raise IndexRangeError for the first index that an axis of this size does not have."""
    wrong = (indices < -size) | (indices >= size)
    if wrong.any():
        position = tuple(map(int, np.unravel_index(np.argmax(wrong), wrong.shape)))
        raise IndexRangeError(position, int(indices[position]), size)


def _scattered(entries: Array, indices: Array, axis: int, size: int) -> Array:
    """Zeros to which entries are added by index, along an axis; those with one index in float64, in their order."""
    before, after = entries.shape[:axis], entries.shape[axis + indices.ndim :]
    sums = np.zeros((*before, size, *after), np.float64)
    where: Any = (*[slice(None)] * axis, indices)
    np.add.at(sums, where, entries)
    return sums.astype(entries.dtype)


def _concatenate(facts: Facts, operands: Sequence[Array]) -> Array:
    return np.concatenate([*each(facts, operands)], facts.attributes["axis"])


def _concatenate_vjp(facts: Facts, g: Array, operands: Sequence[Array], out: Array) -> list[Array]:
    axis = facts.attributes["axis"]
    return np.split(g, np.cumsum([a.shape[axis] for a in operands])[:-1], axis)


def _slice(facts: Facts, operands: Sequence[Array]) -> Array:
    part: Array = operands[0][_slices(facts)]
    return part


def _slice_vjp(facts: Facts, g: Array, operands: Sequence[Array], out: Array) -> list[Array]:
    whole = np.zeros(operands[0].shape, g.dtype)
    whole[_slices(facts)] = g
    return [whole]


def _slices(facts: Facts) -> tuple[slice, ...]:
    """The elements in NumPy's terms, where a stop of -1 would mean the last one."""
    own = zip(*(facts.attributes[name] for name in ("starts", "sizes", "steps")), strict=True)
    stops = [(start, start + size * step, step) for start, size, step in own]
    return tuple(slice(start, None if stop < 0 else stop, step) for start, stop, step in stops)


def _stop_gradient(facts: Facts, operands: Sequence[Array]) -> Array:
    return operands[0]


def _stop_gradient_vjp(facts: Facts, g: Array, operands: Sequence[Array], out: Array) -> list[Array]:
    return [np.zeros_like(g)]


def _element(facts: Facts, operands: Sequence[Array]) -> Array:
    return operands[0].reshape(-1)[_places(facts)]


def _element_vjp(facts: Facts, g: Array, operands: Sequence[Array], out: Array) -> list[Part]:
    return [Part(_places(facts), g)]


def _places(facts: Facts) -> Array:
    return np.asarray(facts.number).astype(np.int64)


def _stack(facts: Facts, operands: Sequence[Array]) -> Array:
    # The interpreter gathers scalars into one vector.
    return operands[0]


def _stack_vjp(facts: Facts, g: Array, operands: Sequence[Array], out: Array) -> list[Array]:
    return [g]


ARRANGEMENT = {
    Opcode.RESHAPE: Rule(_reshape, _reshape_vjp),
    Opcode.TRANSPOSE: Rule(_transpose, _transpose_vjp),
    Opcode.TAKE: Rule(_take, _take_vjp),
    Opcode.SCATTER_ADD: Rule(_scatter_add, _scatter_add_vjp),
    Opcode.CONCATENATE: Rule(_concatenate, _concatenate_vjp),
    Opcode.SLICE: Rule(_slice, _slice_vjp),
    Opcode.STOP_GRADIENT: Rule(_stop_gradient, _stop_gradient_vjp),
    Opcode.ELEMENT: Rule(_element, _element_vjp),
    Opcode.STACK: Rule(_stack, _stack_vjp),
}
