"""Rooms: the storage of one request at a time, with the blocks that threads run with."""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np

from gradwire_server.engine.graph.graph import Array
from gradwire_server.engine.lowering import rows as r
from gradwire_server.engine.lowering.addresses import OFFSET, address
from gradwire_server.engine.lowering.buffers import MODES, OF_ALL, OF_LANES, Own, Role
from gradwire_server.engine.lowering.code import Code
from gradwire_server.engine.machine import kernels
from gradwire_server.engine.run.layout import Layout

Integers: TypeAlias = "array[int]"

ROOM_BYTES = 16 << 10
"""Rough memory of a room besides its arrays of numbers."""

_PROGRESS = slice(0, r.W_WEIGHTS_DONE + 1)
_NOTHING_DONE = array("q", bytes(8 * _PROGRESS.stop))
"""NEXT, READY, DONE, STATUS, WEIGHT and WEIGHTS_DONE."""


class Room:
    """Storage for requests of one layout.

    Args:
        code: What runs.
        layout: How.
        slots: Places in a block of the arrays of a request.
        dtype: Float dtype of requests.
        seed: Gradient of the loss in itself.
        divisor: What sums over examples are divided by.
    """

    def __init__(
        self,
        code: Code,
        layout: Layout,
        slots: Sequence[int],
        dtype: np.dtype[np.floating],
        seed: float,
        divisor: float,
    ) -> None:
        self._code, self._slots = code, np.array(slots, np.int64)
        self._objects = r.C_BUFFERS + 2 * len(code.modes)
        """Where a block has the arrays of a request, to its end."""
        self.nbytes = layout.memory - layout.results + code.nbytes + ROOM_BYTES
        """Bytes that it takes, with the code that it is for."""
        self.one = kernels.ones(dtype)
        sizes, tile = code.sizes, layout.tile
        self._kept: list[Array] = []
        with np.errstate(over="ignore"):
            constants = code.data.constants.astype(dtype)
            constants[0] = seed
        shared: dict[int, int] = {
            **{buffer: self._new(sizes.own[buffer], dtype) for buffer in OF_ALL},
            Own.CONSTANTS: self._keep(constants),
            Own.INTEGERS: self._keep(code.data.integers),
        }
        self.stop = np.zeros(1, np.int64)
        """Set to 1, it stops the machine."""
        sums = sizes.own[Own.SUMS] + (0 if layout.direct else sizes.source_sums)
        self.sums = np.zeros((max(1, layout.chunks), sums))
        self._direct = layout.direct
        self.losses = array("d", bytes(8 * max(1, layout.chunks)))
        self.flags = np.zeros(layout.tiles, np.int64)
        """[tiles], what was found in each; see ``rows``."""
        self.work = _integers(self._work(layout, sums))
        """The block that threads share."""
        self.work_address = self.work.buffer_info()[0]
        kept = {
            number: self._new(layout.examples * sizes.kept[own.node], dtype)
            for number, own in enumerate(code.attached, start=len(MODES))
            if own.role in (Role.KEPT, Role.KEPT_GRADIENT)
        }
        self.blocks: list[Integers] = []
        """What each thread runs with."""
        for _ in range(layout.threads):
            own: dict[int, int] = {
                **{buffer: self._new(sizes.own[buffer] * tile, dtype) for buffer in OF_LANES},
                Own.SUMS: self._new(sums, dtype),
            }
            scratch = self._new(sizes.scratch, dtype), self._new(sizes.wide + tile * sizes.wide_of_lane, np.float64)
            block = self._block({**shared, **own, **kept}, scratch, dtype, divisor)
            if not layout.direct:
                self._place_sums(block, own[Own.SUMS], dtype.itemsize)
            self.blocks.append(_integers(block))
            self.blocks[-1][r.C_OBJECTS] += self.blocks[-1].buffer_info()[0]
        self.addresses = [block.buffer_info()[0] for block in self.blocks]

    def _work(self, layout: Layout, sums: int) -> Array:
        work = np.zeros(r.W_SIZE, np.int64)
        work[[r.W_EXAMPLES, r.W_TILE, r.W_TILES, r.W_CHUNKS]] = (
            layout.examples, layout.tile, layout.tiles, layout.chunks
        )  # fmt: skip
        work[[r.W_SUMS, r.W_SUMS_BUFFER]] = sums, Own.SUMS
        work[[r.W_TOTALS, r.W_LOSSES, r.W_FLAGS]] = (
            address(self.sums), self.losses.buffer_info()[0], address(self.flags)
        )  # fmt: skip
        work[r.W_YIELD] = kernels.yielding()
        for number, section in enumerate(self._code.sections):
            work[r.W_SECTIONS + 2 * number : r.W_SECTIONS + 2 * number + 2] = section.begin, section.end
        work[r.W_WEIGHTS] = self._code.sections[-1].rows
        return work

    def _place_sums(self, block: Array, base: int, itemsize: int) -> None:
        """Have a thread add up gradients in sources among its own sums."""
        begins = {node: begin for node, begin, _ in self._code.sums}
        for number, attached in enumerate(self._code.attached, start=len(MODES)):
            if attached.role is Role.SUM:
                block[r.C_BUFFERS + 2 * number] = base + begins[attached.node] * itemsize

    def _new(self, elements: int, dtype: np.dtype[np.floating] | type) -> int:
        return self._keep(np.empty(elements, dtype))

    def _keep(self, array: Array) -> int:
        self._kept.append(array)
        return address(array)

    def _block(
        self, buffers: Mapping[int, int], scratch: tuple[int, int], dtype: np.dtype[np.floating], divisor: float
    ) -> Array:
        code = self._code
        objects = self._objects
        block = np.zeros(objects + len(self._slots), np.int64)
        block[: r.C_BUFFERS] = kernels.table(dtype)
        block[[r.C_OFFSET, r.C_SLOTS, r.C_OBJECT_COUNT]] = OFFSET, address(self._slots), len(self._slots)
        block[r.C_OBJECTS] = 8 * objects
        block[[r.C_CODE, r.C_SCRATCH, r.C_WIDE, r.C_STOP]] = address(code.rows), *scratch, address(self.stop)
        block[r.C_DIRECT] = self._direct
        block[r.C_DIVISOR] = np.float64(divisor).view(np.int64)
        block[r.C_BUFFERS + 1 : objects : 2] = code.modes
        for own, at in buffers.items():
            block[r.C_BUFFERS + 2 * own] = at
        return block

    def attach(self, handles: list[int]) -> None:
        """Give each thread the arrays of a request, in the order of their slots."""
        given = array("q", handles)
        for block in self.blocks:
            block[self._objects :] = given

    def free(self) -> None:
        """Give up the storage; nothing can run in it any more."""
        self._kept.clear()

    def begin(self) -> None:
        """Have all chunks to be done."""
        self.work[_PROGRESS] = _NOTHING_DONE


def _integers(block: Array) -> Integers:
    """A block whose integers Python sets without NumPy, which takes several times as long."""
    return array("q", block.tobytes())
