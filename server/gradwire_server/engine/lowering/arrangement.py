"""Rows of ops that move elements; where they can be views, there are none."""

from __future__ import annotations

from gradwire_server.engine.graph.opcodes import Opcode
from gradwire_server.engine.lowering import rows as r
from gradwire_server.engine.lowering.stage import Stage


def reshape(stage: Stage, node: int) -> None:
    """The operand's elements, copied only if they do not stand one after another."""
    [a] = stage.operands(node)
    shape = stage.checked.shape(node)
    if a.contiguous:
        stage.alias(node, a.reshaped(shape))
        return
    out = stage.new(node)
    stage.tensor(Opcode.COPY, out.reshaped(a.shape), a, shape=a.shape)


def reshape_back(stage: Stage, node: int) -> None:
    """The gradient in the shape of the operand, if elements were copied."""
    [operand] = stage.checked.graph.operands_of(node)
    if stage.owns(node):
        shape = stage.checked.shape(operand)
        stage.back(operand, Opcode.COPY, stage.gradient(node).reshaped(shape), shape=shape)


def transpose(stage: Stage, node: int) -> None:
    """The operand's elements."""
    [a] = stage.operands(node)
    stage.alias(node, a.permuted(stage.checked.graph.attributes[node]["axes"]))


def take(stage: Stage, node: int) -> None:
    """Rows of a table; those at equal distances, the same in every request, are a view."""
    table, indices = stage.operands(node)
    chosen = stage.constant_rows(stage.checked.graph.operands_of(node)[1], table.shape[0])
    if chosen is not None:
        first, step = chosen
        shape, strides = indices.shape + table.shape[1:], (table.strides[0] * step,) * len(indices.shape)
        offset = table.offset + table.strides[0] * first
        stage.alias(node, table._replace(shape=shape, strides=strides + table.strides[1:], offset=offset))
        return
    stage.notes[node] = [stage.gathered(table)]
    stage.writer.rows_by_index(r.GATHER, stage.new(node), stage.notes[node][0], indices, lanes=stage.lanes)


def take_back(stage: Stage, node: int) -> None:
    """The gradients of rows, added to those of the table."""
    table, indices = stage.checked.graph.operands_of(node)
    if not stage.owns(node):
        return
    g, into = stage.gradient(node), stage.gradient(table)
    if into.contiguous:
        stage.writer.rows_by_index(r.SCATTER, g, into, stage.values[indices], lanes=stage.lanes)
        return
    own = stage.temporary(into.shape)
    stage.writer.fill(own, own.size, 0.0, lanes=stage.lanes)
    stage.writer.rows_by_index(r.SCATTER, g, own, stage.values[indices], lanes=stage.lanes)
    stage.back(table, Opcode.COPY, own, shape=own.shape)


def stack(stage: Stage, node: int) -> None:
    """Scalars, from their places."""
    places = stage.places_of(stage.checked.graph.operands_of(node))
    out = stage.new(node)
    stage.writer.elements(r.STACK, places, 0, stage.all_places(), out)


def stack_back(stage: Stage, node: int) -> None:
    """Gradients, added to those of the scalars."""
    places = stage.places_of(stage.checked.graph.operands_of(node))
    stage.writer.elements(r.STACK_BACK, places, 0, stage.opposite(stage.all_places()), stage.gradient(node))


def no_rows(stage: Stage, node: int) -> None:
    """A view gets its gradient where it is."""


PATTERNS = {
    Opcode.RESHAPE: (reshape, reshape_back),
    Opcode.TRANSPOSE: (transpose, no_rows),
    Opcode.TAKE: (take, take_back),
    Opcode.STACK: (stack, stack_back),
}
"""Forward and backward rows by opcode."""
