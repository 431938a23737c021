"""Different ways to write one graph, made one: which scalars are really elements, constants or other scalars."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gradwire_server.engine.checkpoints import Checkpoint, checked
from gradwire_server.engine.compiled import compiled
from gradwire_server.engine.graph.graph import Graph, Shape
from gradwire_server.engine.graph.opcodes import Opcode, marks
from gradwire_server.engine.graph.shapes import size

LONGEST = 16
"""Arrangements (take, reshape and others) that are looked through from an element to the tensor it comes from."""

NONE = -1

_ARRANGEMENTS = (Opcode.TAKE, Opcode.SLICE, Opcode.RESHAPE, Opcode.TRANSPOSE)


class Canonical(NamedTuple):
    """What stands for each node."""

    forward: NDArray[np.int32]
    """[nodes], the node that has each node's value, and is not forwarded itself; mostly the node."""
    base: NDArray[np.int32]
    """[nodes], the tensor that each node is an element of; NONE for other nodes."""
    place: NDArray[np.int64]
    """[nodes], flat index of an element in its tensor; the bits of a scalar constant's number; of a power's exponent;
    0 elsewhere."""
    opcodes: NDArray[np.int8]
    """[nodes], ELEMENT for each element, CONSTANT for elements of constants."""


def canonical(graph: Graph, shape_ids: NDArray[np.int32], table: Sequence[Shape], checkpoint: Checkpoint) -> Canonical:
    """The canonical form of a checked graph.

    Arrangements with constant indices that end in a scalar are an element; an element of what the codec stacked is the
    scalar itself; an element of a constant is a constant; equal elements, and equal scalar constants, are one if they
    have no names.
    """
    opcodes, place = graph.opcodes.copy(), np.zeros(len(graph), np.int64)
    forward, base = np.arange(len(graph), dtype=np.int32), np.full(len(graph), NONE, np.int32)
    powers = graph.opcodes == Opcode.POWER
    place[powers] = (graph.numbers[powers] + 0.0).view(np.int64)  # 0 for -0, which means the same
    elements = _find_elements(graph, shape_ids, table, base, place)
    if len(elements):
        opcodes[elements] = Opcode.ELEMENT
        for tensor, own in checked(_by_base(elements, base, graph.opcodes, _ARRANGEMENTS), checkpoint):
            base[own], place[own] = _root(graph, shape_ids, table, tensor, place[own])
        bases = base[elements]
        same = elements[shape_ids[bases] == 0]
        forward[same] = base[same]
        stacked = elements[graph.opcodes[bases] == Opcode.STACK]
        forward[stacked] = graph.operands[graph.starts[base[stacked]] + place[stacked]]
    scalars = graph.opcodes == Opcode.CONSTANT
    scalars[list(graph.contents)] = False
    place[scalars] = graph.numbers[scalars].view(np.int64)
    for tensor, own in checked(_by_base(elements, base, graph.opcodes, (Opcode.CONSTANT,)), checkpoint):
        content = graph.contents.get(tensor)
        if isinstance(content, np.ndarray):
            place[own], opcodes[own], base[own] = content.reshape(-1)[place[own]].view(np.int64), Opcode.CONSTANT, NONE
            scalars[own] = True
    unnamed = forward == np.arange(len(graph))
    unnamed[list(graph.names)] = False
    _unite(np.flatnonzero(scalars & unnamed), place, base, forward)
    _unite(np.flatnonzero((opcodes == Opcode.ELEMENT) & unnamed), place, base, forward)
    resolve(forward)
    return Canonical(forward, base, place, opcodes)


def _find_elements(
    graph: Graph,
    shape_ids: NDArray[np.int32],
    table: Sequence[Shape],
    base: NDArray[np.int32],
    place: NDArray[np.int64],
) -> NDArray[np.int64]:
    """Scalars that are an element of their operand, ascending, with their base and place set."""
    alike = marks((Opcode.RESHAPE, Opcode.TRANSPOSE, Opcode.SLICE))[graph.opcodes]
    first = graph.opcodes == Opcode.ELEMENT
    place[first] = graph.numbers[first].astype(np.int64)
    first |= alike & (shape_ids == 0)
    taken = np.flatnonzero((graph.opcodes == Opcode.TAKE) & (shape_ids == 0))
    if len(taken):
        # A scalar is taken from a vector, by one index.
        sources, indices = graph.operands[graph.starts[taken]], graph.operands[graph.starts[taken] + 1]
        distinct, which = np.unique(indices, return_inverse=True)
        contents = [graph.contents[index] for index in distinct.tolist()]
        constant = np.array([isinstance(content, np.ndarray) for content in contents])[which]
        numbers = np.array([content if isinstance(content, np.ndarray) else 0 for content in contents], np.int64)[which]
        lengths = np.array([max(1, shape[0]) if shape else 1 for shape in table])[shape_ids[sources]]
        place[taken] = np.where(constant, numbers % lengths, 0)
        first[taken] = constant
    elements = np.flatnonzero(first)
    base[elements] = graph.operands[graph.starts[elements]]
    return elements


def _by_base(
    elements: NDArray[np.int64], base: NDArray[np.int32], opcodes: NDArray[np.int8], wanted: Sequence[Opcode]
) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """Tensors that do something wanted, each with the elements that come from it."""
    found = elements[marks(wanted)[opcodes[base[elements]]]]
    if len(found):
        found = found[np.argsort(base[found], kind="stable")]
        tensors, starts = np.unique(base[found], return_index=True)
        yield from zip(tensors.tolist(), np.split(found, starts[1:]), strict=True)


def _root(
    graph: Graph, shape_ids: NDArray[np.int32], table: Sequence[Shape], tensor: int, place: NDArray[np.int64]
) -> tuple[int, NDArray[np.int64]]:
    """The tensor that elements of ``tensor`` come from, and where they are in it."""
    for _ in range(LONGEST):
        opcode, operands, shape = graph.opcode(tensor), graph.operands_of(tensor), table[shape_ids[tensor]]
        if opcode not in _ARRANGEMENTS or not shape:
            break
        source = table[shape_ids[operands[0]]]
        if opcode == Opcode.TAKE:
            indices: Any = graph.contents[operands[1]]
            if not isinstance(indices, np.ndarray):
                break
            axis = graph.attributes.get(tensor, {}).get("axis", 0)
            inner = size(source[axis + 1 :])
            outer, entry, column = np.unravel_index(place, (size(source[:axis]), indices.size, inner))
            place = (outer * source[axis] + indices.reshape(-1)[entry] % source[axis]) * inner + column
        elif opcode == Opcode.SLICE:
            own = graph.attributes[tensor]
            where = zip(own["starts"], own["steps"], np.unravel_index(place, shape), strict=True)
            place = np.ravel_multi_index([start + step * index for start, step, index in where], source)
        elif opcode == Opcode.TRANSPOSE:
            axes = graph.attributes[tensor]["axes"]
            along = dict(zip(axes, np.unravel_index(place, shape), strict=True))
            place = np.ravel_multi_index([along[axis] for axis in range(len(axes))], source)
        tensor = operands[0]
    return tensor, place


def _unite(
    nodes: NDArray[np.int64], place: NDArray[np.int64], base: NDArray[np.int32], forward: NDArray[np.int32]
) -> None:
    """Forward nodes of one base and place to the first of them."""
    if len(nodes) < 2:
        return
    order = nodes[np.lexsort((place[nodes], base[nodes]))]
    new = np.ones(len(order), np.bool_)
    new[1:] = (np.diff(place[order]) != 0) | (np.diff(base[order]) != 0)
    forward[order] = order[np.maximum.accumulate(np.where(new, np.arange(len(order)), 0))]


@compiled
def resolve(forward: NDArray[np.int32]) -> None:
    """Have each node's forward be the last one of all that follow from it; each is an earlier node or the node."""
    for k in range(len(forward)):
        forward[k] = forward[forward[k]]
