"""Rooms: the storage of one request at a time, with the blocks that threads run with."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from gradwire_server.engine2.graph.graph import Array
from gradwire_server.engine2.lowering import rows as r
from gradwire_server.engine2.lowering.buffers import Own
from gradwire_server.engine2.lowering.code import Code
from gradwire_server.engine2.machine import kernels
from gradwire_server.engine2.run.layout import Layout


def address(array: Array) -> int:
    """Where the elements of an array are."""
    found: int = array.__array_interface__["data"][0]
    return found


class Room:
    """Storage for requests of one layout.

    Args:
        code: What runs.
        layout: How.
        dtype: Float dtype of requests.
        seed: Gradient of the loss in itself.
        divisor: What sums over examples are divided by.
    """

    def __init__(self, code: Code, layout: Layout, dtype: np.dtype[np.floating], seed: float, divisor: float) -> None:
        self._code = code
        self.one = kernels.ones(dtype)
        sizes, tile = code.sizes, layout.tile
        self._kept: list[Array] = []
        constants = code.constants.copy()
        constants[0] = seed
        with np.errstate(over="ignore"):
            constants = constants.astype(dtype)
        shared = {
            Own.SHARED: self._new(sizes.shared, dtype),
            Own.SHARED_GRADIENTS: self._new(sizes.shared_gradients, dtype),
            Own.SHARED_PASSIVE: self._new(sizes.shared_passive, dtype),
            Own.CONSTANTS: self._keep(constants),
            Own.INTEGERS: self._keep(code.integers),
        }
        self.stop = np.zeros(1, np.int64)
        """Set to 1, it stops the machine."""
        self.sums = np.zeros((max(1, layout.chunks), sizes.sums))
        self.losses = np.zeros(max(1, layout.chunks))
        self.flags = np.zeros(layout.tiles, np.int64)
        """[tiles], what was found in each; see ``rows``."""
        self.faults = np.zeros((max(1, layout.chunks), 4), np.int64)
        """[chunks, 4], node, example, position and value of a row index that is out of range."""
        self.work = np.zeros(r.W_SIZE, np.int64)
        self.work[[r.W_EXAMPLES, r.W_TILE, r.W_TILES, r.W_CHUNKS]] = (
            layout.examples, layout.tile, layout.tiles, layout.chunks
        )  # fmt: skip
        self.work[[r.W_SUMS, r.W_SUMS_BUFFER]] = sizes.sums, Own.SUMS
        self.work[[r.W_TOTALS, r.W_LOSSES, r.W_FLAGS, r.W_FAULTS]] = (
            address(self.sums), address(self.losses), address(self.flags), address(self.faults)
        )  # fmt: skip
        self.work[r.W_YIELD] = kernels.yielding()
        for number, section in enumerate(code.sections):
            self.work[r.W_SECTIONS + 2 * number : r.W_SECTIONS + 2 * number + 2] = section.begin, section.end
        self.work_address = address(self.work)
        self.blocks: list[Array] = []
        """What each thread runs with."""
        for _ in range(layout.threads):
            own = {
                Own.VALUES: self._new(sizes.values * tile, dtype),
                Own.GRADIENTS: self._new(sizes.gradients * tile, dtype),
                Own.PASSIVE: self._new(sizes.passive * tile, dtype),
                Own.EXTRA: self._new(sizes.extra * tile, dtype),
                Own.SUMS: self._new(sizes.sums, dtype),
            }
            scratch = self._new(sizes.scratch, dtype), self._new(sizes.wide + tile * sizes.wide_of_lane, np.float64)
            self.blocks.append(self._block({**shared, **own}, scratch, dtype, divisor))
        self.addresses = [address(block) for block in self.blocks]

    def _new(self, elements: int, dtype: np.dtype[np.floating] | type) -> int:
        return self._keep(np.empty(elements, dtype))

    def _keep(self, array: Array) -> int:
        self._kept.append(array)
        return address(array)

    def _block(
        self, buffers: Mapping[Own, int], scratch: tuple[int, int], dtype: np.dtype[np.floating], divisor: float
    ) -> Array:
        code = self._code
        block = np.zeros(r.C_BUFFERS + 2 * len(code.modes), np.int64)
        block[: r.C_BUFFERS] = kernels.table(dtype)
        block[[r.C_CODE, r.C_SCRATCH, r.C_WIDE, r.C_STOP]] = address(code.rows), *scratch, address(self.stop)
        block[r.C_DIVISOR] = np.float64(divisor).view(np.int64)
        block[r.C_BUFFERS + 1 :: 2] = code.modes
        for own, at in buffers.items():
            block[r.C_BUFFERS + 2 * own] = at
        return block

    def attach(self, number: int, at: int) -> None:
        """Let a buffer be at an address."""
        for block in self.blocks:
            block[r.C_BUFFERS + 2 * number] = at

    def lead_fault(self) -> Array:
        """Node, example, position and value of a row index that is out of range for all examples."""
        block = self.blocks[0]
        return block[[r.C_NODE, r.C_EXAMPLE, r.C_POSITION, r.C_INDEX]]

    def begin(self) -> None:
        """Have all chunks to be done."""
        self.work[[r.W_NEXT, r.W_READY, r.W_DONE, r.W_STATUS]] = 0
        self.stop[0] = 0
        self.faults[:, 0] = 0
