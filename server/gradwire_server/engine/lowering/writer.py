"""Writing rows: one method for each kind, from views to integers."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from gradwire_server.engine.graph.graph import Array, Shape
from gradwire_server.engine.graph.opcodes import Opcode
from gradwire_server.engine.lowering import rows as r
from gradwire_server.engine.lowering.views import Loop, View, access, nest

FUNCTIONS = frozenset(range(Opcode.SIGMOID, Opcode.POWER + 1)) | {Opcode.SHIFTED_EXP, Opcode.SOFTMAX}
FUNCTION_WORK, COPY_WORK = 6, 2
"""Elementary steps that a function takes for an element, and those of an element that is moved by index."""


def bits(number: float) -> int:
    """A float64 as an integer of the same bits."""
    return int(np.float64(number).view(np.int64))


class Writer:
    """Rows that are being written."""

    def __init__(self) -> None:
        self.rows: list[int] = []
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
        self.rows += [kind, len(integers) + 2, *integers]

    def address(self, array: Array) -> int:
        """The address of an array, which is kept."""
        self.kept.append(array)
        return int(array.ctypes.data)

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
        views: list[View | None] = [v.broadcast(shape) for v in (out, *operands)]
        views += [None] * (4 - len(views))
        loops = nest(shape, views, lanes=lanes)
        wide, of_lanes = 0, 0
        whole = prod(shape)
        if combine == r.ADDED and (out.size < whole or (lanes and out.distance == 0)):
            wide, of_lanes = out.extent, int(out.distance != 0)
            few = not (lanes and out.distance == 0) and whole <= r.PLAINLY * out.size
            if few or (of_lanes and out.extent != out.distance):
                wide = 0
        self._widen(wide, of_lanes)
        refs = [i for view in (out, *operands) for i in view.ref] + [0] * r.REF * (3 - len(operands))
        accesses = [access(loops, slot, view) for slot, view in enumerate(views)]
        self.row(
            r.TENSOR, int(opcode), bits(number), combine, wide, of_lanes, len(loops), *accesses, *refs,
            *_flat(loops, 4),
        )  # fmt: skip
        base = opcode - Opcode.BACK if opcode >= Opcode.BACK else opcode
        self.work += whole * (FUNCTION_WORK if base in FUNCTIONS else 1)

    def fill(self, view: View, count: int, number: float, *, lanes: bool) -> None:
        """``count`` elements, for each lane if there are any, set to a number."""
        self.row(r.FILL, count, int(lanes), bits(number), *view.ref)
        self.work += count / 4

    def look(self, view: View, count: int, status: int, *, lanes: bool) -> None:
        """A look at whether elements are finite."""
        self.row(r.FINITE, count, int(lanes), status, *view.ref)
        self.work += count / 4

    def elements(self, kind: int, offsets: Sequence[int] | Array, place: int, scalars: View, tensor: View) -> None:
        """Scalars that are elements of a tensor, or go into one; or their gradients."""
        listed = np.array(offsets, np.int64)
        self.row(kind, self.address(listed), len(listed), place, *scalars.ref, *tensor.ref)
        self.work += COPY_WORK * len(listed)

    def constants(self, numbers: Array, place: int, scalars: View) -> None:
        """Numbers that are the same in each lane."""
        self.row(r.CONSTANTS, self.address(numbers), len(numbers), place, *scalars.ref)
        self.work += len(numbers)

    def rows_by_index(self, kind: int, node: int, out: View, table: View, indices: View, *, lanes: bool) -> None:
        """Rows of a table by index, or their gradients."""
        count = prod(table.shape)
        size = count // table.shape[0] if table.shape[0] else prod(table.shape[1:])
        if kind == r.SCATTER:
            self._widen(count, 0)
        self.row(
            kind, node, table.shape[0], indices.size, int(lanes), size, *out.ref, *table.ref, *indices.ref
        )  # fmt: skip
        self.work += COPY_WORK * out.size + indices.size

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


def _flat(loops: Sequence[Loop], operands: int) -> list[Any]:
    return [i for loop in loops for i in (loop.length, int(loop.lanes), *loop.strides, *[0] * (r.NEST - 2 - operands))]
