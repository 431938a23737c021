"""Ops that move elements."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gradwire_server.engine.graph.graph import Array, Shape
from gradwire_server.engine.graph.opcodes import Opcode
from gradwire_server.engine.reference.rule import Facts, Part, Rule


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
    wrong = (indices < -len(a)) | (indices >= len(a))
    if wrong.any():
        position = tuple(map(int, np.unravel_index(np.argmax(wrong), wrong.shape)))
        raise IndexRangeError(position, int(indices[position]), len(a))
    return a.take(indices, axis=0)


def _take_vjp(facts: Facts, g: Array, operands: Sequence[Array], out: Array) -> list[Array | None]:
    a, indices = operands
    # What is taken again adds up; float32 does so in float64.
    sums = np.zeros(a.shape, np.float64)
    np.add.at(sums, indices, g)
    return [sums.astype(g.dtype), None]


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
    Opcode.ELEMENT: Rule(_element, _element_vjp),
    Opcode.STACK: Rule(_stack, _stack_vjp),
}
