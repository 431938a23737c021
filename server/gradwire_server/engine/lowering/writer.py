"""Writing rows: one method for each kind, from views to integers."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from functools import lru_cache
from math import prod
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gradwire_server.engine.checkpoints import BETWEEN_CHECKPOINTS, Checkpoint
from gradwire_server.engine.graph.graph import Array, Shape
from gradwire_server.engine.graph.opcodes import FUNCTIONS, Opcode
from gradwire_server.engine.lowering import rows as r
from gradwire_server.engine.lowering.addresses import address
from gradwire_server.engine.lowering.views import Loop, View, access, nest

COSTLY = FUNCTIONS | {Opcode.POWER, Opcode.SHIFTED_EXP, Opcode.SOFTMAX}
FUNCTION_WORK, COPY_WORK = 6, 2
"""Elementary steps that a function takes for an element, and those of an element that is moved by index."""


def bits(number: float) -> int:
    """A float64 as an integer of the same bits."""
    return int(np.float64(number).view(np.int64))


class Writer:
    """Rows that are being written; a node of many operands has many."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._checkpoint = checkpoint
        self.rows = array("q")
        self.count = 0
        self.kept: list[Array] = []
        """Arrays whose addresses are in rows."""
        self.wide = 0
        """Elements of float64 that sums of a row take, however many lanes there are."""
        self.wide_of_lane = 0
        """Elements of float64 that sums of a row take for each lane."""
        self.scratch = 5 * 512
        """Elements that a row takes for numbers on their way."""
        self.work = 0.0
        """Elementary steps of one lane, of the rows written since this was last set."""

    def __len__(self) -> int:
        return len(self.rows)

    def row(self, kind: int, *integers: int) -> None:
        """Write a row."""
        self.count += 1
        if self.count % BETWEEN_CHECKPOINTS == 0:
            self._checkpoint()
        self.rows.fromlist([kind, len(integers) + 2, *integers])

    def address(self, kept: Array) -> int:
        """The address of an array, which is kept."""
        self.kept.append(kept)
        return address(kept)

    def tensor(
        self,
        opcode: int,
        out: View,
        *operands: View,
        shape: Shape,
        lanes: bool,
        combine: int = r.STORED,
        number: float = 0.0,
    ) -> None:
        """A result of up to three operands, all broadcast to a shape; a result that is not stored may be smaller."""
        operand_layouts = tuple([(view.shape, view.strides, view.distance) for view in (out, *operands)])
        walk = _walk(shape, operand_layouts, lanes=lanes, added=combine == r.ADDED)
        self._widen(walk.wide, walk.wide_of_lanes)
        refs = [i for view in (out, *operands) for i in view.ref]
        refs += [0] * r.REF * (3 - len(operands))
        self.row(
            r.TENSOR, int(opcode), bits(number) if number else 0, combine, walk.wide, walk.wide_of_lanes, walk.rank,
            *walk.accesses, *refs, *walk.loops,
        )  # fmt: skip
        base = opcode - Opcode.BACK if opcode >= Opcode.BACK else opcode
        self.work += walk.size * (FUNCTION_WORK if base in COSTLY else 1)

    def fill(self, view: View, count: int, number: float, *, lanes: bool) -> None:
        """``count`` elements, for each lane if there are any, set to a number."""
        self.row(r.FILL, count, int(lanes), bits(number), *view.ref)
        self.work += count / 4

    def look(self, view: View, count: int, status: int, *, lanes: bool) -> None:
        """A look at whether elements are finite, if there are any."""
        if count:
            self.row(r.FINITE, count, int(lanes), status, *view.ref)
            self.work += count / 4

    def elements(self, kind: int, offsets: NDArray[np.int64], place: int, scalars: View, tensor: View) -> None:
        """Scalars that are elements of a tensor, or go into one; or their gradients."""
        self.row(kind, self.address(offsets), len(offsets), place, *scalars.ref, *tensor.ref)
        self.work += COPY_WORK * len(offsets)

    def constants(self, numbers: Array, place: int, scalars: View) -> None:
        """Numbers that are the same in each lane."""
        self.row(r.CONSTANTS, self.address(numbers), len(numbers), place, *scalars.ref)
        self.work += len(numbers)

    def by_index(self, kind: int, entries: View, table: View, axis: int, indices: View, *, lanes: bool) -> None:
        """Entries of a table along an axis, by index: taken from there, or added to it."""
        before, count, after = table.shape[:axis], table.shape[axis], table.shape[axis + 1 :]
        if kind == r.SCATTER:
            self._widen(count * prod(after), 0)
        self.row(
            kind, prod(before), count, indices.size, int(lanes), prod(after), *entries.ref, *table.ref, *indices.ref
        )
        self.work += COPY_WORK * entries.size + indices.size

    def scan(self, out: View, operand: View, axis: int, *, lanes: bool, backward: bool) -> None:
        """Sums of elements up to each along an axis, or from each on; both views have elements one after another."""
        before, count, after = out.shape[:axis], out.shape[axis], prod(out.shape[axis + 1 :])
        self._widen(after, 0)
        self.row(r.SCAN, int(backward), prod(before), count, int(lanes), after, *out.ref, *operand.ref)
        self.work += COPY_WORK * out.size

    def product(
        self, sizes: Sequence[tuple[int, bool]], strides: Sequence[int], views: Sequence[View], stacks: Sequence[Loop],
        *, added: bool, gradient: int,
    ) -> None:  # fmt: skip
        """A stack of matrix products; ``views`` and strides are of the result and both factors."""
        flat = [int(i) for size in sizes for i in size]
        refs = [i for view in views for i in view.ref]
        self.row(
            r.PRODUCT, int(added), gradient, *flat, len(stacks), *strides, *refs, *_flat(stacks, 3)
        )  # fmt: skip
        m, n, k = (size for size, _ in sizes)
        self.work += prod(loop.length for loop in stacks) * (m * n * (1 + k / 10) + min(m * k, k * n))

    def _widen(self, count: int, of_lanes: int) -> None:
        if of_lanes:
            self.wide_of_lane = max(self.wide_of_lane, count)
        else:
            self.wide = max(self.wide, count)


class _Walk(NamedTuple):
    """How a step on tensors goes through its operands, wherever these are."""

    size: int
    """Results for an example, before any are added up."""
    wide: int
    """Elements of float64 that collect results."""
    wide_of_lanes: int
    """Whether each lane has so many."""
    rank: int
    accesses: tuple[int, ...]
    """How the result and three operands are read."""
    loops: tuple[int, ...]


@lru_cache(maxsize=4096)
def _walk(
    shape: Shape, layouts: tuple[tuple[Shape, tuple[int, ...], int], ...], *, lanes: bool, added: bool
) -> _Walk:  # fmt: skip
    """Loops of a step; ``layouts`` has shape, strides and distance of the result and of each operand.

    Graphs of many nodes have few kinds of steps, and finding loops takes longer than anything else about a row.
    """
    out, *operands = (View(0, 0, distance, own, strides) for own, strides, distance in layouts)
    views: list[View | None] = [view.broadcast(shape) for view in (out, *operands)]
    views += [None] * (4 - len(views))
    loops = nest(shape, views, lanes=lanes)
    wide, of_lanes = 0, 0
    whole = prod(shape)
    if added and (out.size < whole or (lanes and out.distance == 0)):
        wide, of_lanes = out.extent, int(out.distance != 0)
        few = not (lanes and out.distance == 0) and whole <= r.PLAINLY * out.size
        if few or (of_lanes and out.extent != out.distance):
            wide = 0
    accesses = tuple(access(loops, slot, view) for slot, view in enumerate(views))
    return _Walk(whole, wide, of_lanes, len(loops), accesses, tuple(_flat(loops, 4)))


def _flat(loops: Sequence[Loop], operands: int) -> list[Any]:
    return [i for loop in loops for i in (loop.length, int(loop.lanes), *loop.strides, *[0] * (r.NEST - 2 - operands))]
