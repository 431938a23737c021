"""Rows of ops that move elements; where they can be views, there are none."""

from __future__ import annotations

from collections.abc import Sequence

from gradwire_server.engine.graph.graph import Attributes
from gradwire_server.engine.graph.opcodes import Opcode
from gradwire_server.engine.lowering import rows as r
from gradwire_server.engine.lowering.stage import Stage
from gradwire_server.engine.lowering.views import View


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
    """Entries of a table along an axis; those at equal distances, the same in every request, are a view."""
    table, indices = stage.operands(node)
    axis = _axis(stage, node)
    chosen = stage.constant_rows(stage.checked.graph.operands_of(node)[1], table.shape[axis])
    if chosen is not None:
        first, step = chosen
        taken = (table.strides[axis] * step,) * len(indices.shape)
        stage.alias(
            node,
            table._replace(
                shape=table.shape[:axis] + indices.shape + table.shape[axis + 1 :],
                strides=table.strides[:axis] + taken + table.strides[axis + 1 :],
                offset=table.offset + table.strides[axis] * first,
            ),
        )
        return
    stage.notes[node] = [stage.gathered(table)]
    stage.writer.by_index(r.GATHER, stage.new(node), stage.notes[node][0], axis, indices, lanes=stage.lanes)


def take_back(stage: Stage, node: int) -> None:
    """The gradients of entries, added to those of the table."""
    table, indices = stage.checked.graph.operands_of(node)
    if not stage.owns(node):
        return
    g, into, axis = stage.gradient(node), stage.gradient(table), _axis(stage, node)
    if into.contiguous:
        stage.writer.by_index(r.SCATTER, g, into, axis, stage.values[indices], lanes=stage.lanes)
        return
    own = stage.temporary(into.shape)
    _scatter(stage, g, own, axis, stage.values[indices])
    stage.back(table, Opcode.COPY, own, shape=own.shape)


def scatter_add(stage: Stage, node: int) -> None:
    """Entries of the operand, added to zeros by index."""
    entries, indices = stage.operands(node)
    _scatter(stage, stage.gathered(entries), stage.new(node), _axis(stage, node), indices)


def scatter_add_back(stage: Stage, node: int) -> None:
    """The gradient where each entry was added."""
    entries, indices = stage.checked.graph.operands_of(node)
    own = stage.temporary(stage.checked.shape(entries))
    axis, g = _axis(stage, node), stage.gradient(node)
    stage.writer.by_index(r.GATHER, own, g, axis, stage.values[indices], lanes=stage.lanes)
    stage.back(entries, Opcode.COPY, own, shape=own.shape)


def _axis(stage: Stage, node: int) -> int:
    axis: int = stage.checked.graph.attributes.get(node, {}).get("axis", 0)
    return axis


def _scatter(stage: Stage, entries: View, table: View, axis: int, indices: View) -> None:
    stage.writer.fill(table, table.size, 0.0, lanes=stage.lanes)
    stage.writer.by_index(r.SCATTER, entries, table, axis, indices, lanes=stage.lanes)


def concatenate(stage: Stage, node: int) -> None:
    """Each operand in its part of the result."""
    views = stage.operands(node)
    for view, part in zip(views, _parts(stage, node, stage.new(node)), strict=True):
        stage.tensor(Opcode.COPY, part, view, shape=view.shape)


def concatenate_back(stage: Stage, node: int) -> None:
    """The gradient's part of each operand."""
    parts = _parts(stage, node, stage.gradient(node))
    for operand, part in zip(stage.checked.graph.operands_of(node), parts, strict=True):
        if stage.wants(operand):
            stage.back(operand, Opcode.COPY, part, shape=part.shape)


def _parts(stage: Stage, node: int, whole: View) -> list[View]:
    """Views of the parts that operands have in the result of a concatenation, or in its gradient."""
    axis, begin, parts = _axis(stage, node), 0, []
    for operand in stage.checked.graph.operands_of(node):
        shape = stage.checked.shape(operand)
        parts.append(whole._replace(shape=shape, offset=whole.offset + begin * whole.strides[axis]))
        begin += shape[axis]
    return parts


def slice_(stage: Stage, node: int) -> None:
    """A view; where it goes backwards, a copy."""
    [a], attributes = stage.operands(node), stage.checked.graph.attributes[node]
    own = _sliced(a, attributes)
    if min(attributes["steps"], default=1) > 0:
        stage.alias(node, own)
    else:
        stage.tensor(Opcode.COPY, stage.new(node), own, shape=own.shape)


def slice_back(stage: Stage, node: int) -> None:
    """The gradient in the order of the operand's elements, added to those that are in the result."""
    if not stage.owns(node):
        return
    [operand], attributes = stage.checked.graph.operands_of(node), stage.checked.graph.attributes[node]
    g, into = stage.gradient(node), _sliced(stage.gradient(operand), attributes)
    backwards = [axis for axis, step in enumerate(attributes["steps"]) if step < 0]
    g, into = _flipped(g, backwards), _flipped(into, backwards)
    stage.count(Opcode.COPY, into, g, shape=g.shape)


def _sliced(view: View, attributes: Attributes) -> View:
    starts, sizes, steps = (attributes[name] for name in ("starts", "sizes", "steps"))
    begin = sum(start * stride for start, stride in zip(starts, view.strides, strict=True)) if 0 not in sizes else 0
    strides = tuple(step * stride for step, stride in zip(steps, view.strides, strict=True))
    return view._replace(shape=tuple(sizes), strides=strides, offset=view.offset + begin)


def _flipped(view: View, axes: Sequence[int]) -> View:
    """The view with these axes backwards."""
    if 0 in view.shape:
        return view
    last = sum((view.shape[axis] - 1) * view.strides[axis] for axis in axes)
    strides = tuple(-stride if axis in axes else stride for axis, stride in enumerate(view.strides))
    return view._replace(strides=strides, offset=view.offset + last)


def stop_gradient(stage: Stage, node: int) -> None:
    """The operand's elements. Nobody adds to the gradient of a node that gets none, so that both can be one storage."""
    [a] = stage.operands(node)
    stage.alias(node, a)


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
    Opcode.SCATTER_ADD: (scatter_add, scatter_add_back),
    Opcode.CONCATENATE: (concatenate, concatenate_back),
    Opcode.SLICE: (slice_, slice_back),
    Opcode.STOP_GRADIENT: (stop_gradient, no_rows),
    Opcode.STACK: (stack, stack_back),
}
"""Forward and backward rows by opcode."""
