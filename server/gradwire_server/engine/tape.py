"""Tapes: a swarm of scalar operations as the kernel goes through it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gradwire_server.engine.graph import Array
from gradwire_server.engine.kernels import order
from gradwire_server.engine.kernels import tape as kernel
from gradwire_server.engine.kernels.calls import CHUNK
from gradwire_server.engine.kernels.opcodes import TapeOpcode
from gradwire_server.engine.kernels.vectors import LINE

DTYPES = np.dtype(np.float64), np.dtype(np.float32)

WIDE_BYTES = 512 << 10
"""Bytes that the values and gradients of all places may take for the lanes that run together: half of a cache that a
core has of its own."""

NARROWEST, WIDEST = 32, 256
"""Lanes that run together, however many places there are."""

SHORTEST = 16
"""Operations whose arguments stand one after another that are worth a group."""

FEW = np.array([4 if opcode < TapeOpcode.PRODUCT and opcode != TapeOpcode.POWER else 0 for opcode in TapeOpcode])
"""For each opcode, how many operations are not worth a loop."""

PAIRS = TapeOpcode.MUL, TapeOpcode.ADD, TapeOpcode.MAX, TapeOpcode.MAX_SPLIT

ARGUMENTS = np.array(
    [
        -1 if opcode >= TapeOpcode.PRODUCT else 0 if opcode == TapeOpcode.POWER else 2 if opcode in PAIRS else 1
        for opcode in TapeOpcode
    ]
)
"""For each opcode, how many arguments its operations have, as ``order.divide`` is told."""

CHAINED = np.array([not TapeOpcode.EXP <= opcode <= TapeOpcode.SOFTPLUS for opcode in TapeOpcode])
"""For each opcode, whether the kernel does its operations strictly one after another."""


@dataclass(frozen=True, slots=True)
class Tape:
    """What the kernel is told; see there. Places are positions without dead operations, in another order."""

    groups: NDArray[np.int32]
    opcodes: NDArray[np.int8]
    a: NDArray[np.uint32]
    b: NDArray[np.uint32]
    lists: NDArray[np.uint32]
    exponents: Mapping[np.dtype[np.floating], Array]
    constants: NDArray[np.float64]
    elements: int
    """Of operands, whose places come first; then those of constants."""
    results: NDArray[np.int32]
    """Places."""
    operations: NDArray[np.int32]
    """In the order of their places."""
    longest: int
    """The most arguments that an operation has."""
    reached: NDArray[np.bool_]
    """For each place, whether it gets a gradient; none if all do."""

    first: int
    """Place of the first operation."""
    places: int
    """How many there are."""

    def width(self, lanes: int, itemsize: int) -> int:
        """How many lanes run together."""
        if lanes <= NARROWEST:
            return lanes
        fitting = WIDE_BYTES // (2 * self.places * itemsize)
        return min(lanes, WIDEST, max(NARROWEST, 1 << max(0, fitting.bit_length() - 1)))

    def forward(self, operands: Sequence[Array], workspace: Array, lanes: int, out: Array | None = None) -> None:
        """Compute the values of all places into the workspace, [places * lanes], and of results into ``out``."""
        width = self.width(lanes, workspace.itemsize)
        if lanes <= width:
            space, start = workspace.reshape(-1, lanes), 0
            for operand in operands:
                flat = operand.reshape(-1, operand.shape[-1])
                space[start : start + len(flat)] = flat
                start += len(flat)
        else:
            self._fill_parts(operands, workspace, lanes, width)
        kernel.forward(
            self.groups,
            self.opcodes,
            self.a,
            self.b,
            self.lists,
            self.exponents[workspace.dtype],
            self.constants,
            self.results if out is not None else self.results[:0],
            self.first,
            workspace,
            workspace[:0] if out is None else out.reshape(-1),
            lanes,
            width,
        )

    def _fill_parts(self, operands: Sequence[Array], workspace: Array, lanes: int, width: int) -> None:
        for first, space in self._parts(workspace, lanes, width):
            stop = first + space.shape[0] * space.shape[2]
            start = 0
            for operand in operands:
                flat = operand.reshape(-1, operand.shape[-1])
                into = space[:, start : start + len(flat)].swapaxes(0, 1)
                shared = operand.shape[-1] == 1
                into[...] = flat[:, :, np.newaxis] if shared else flat[:, first:stop].reshape(into.shape)
                start += len(flat)

    def backward(self, adjoint: Array, workspace: Array, lanes: int) -> tuple[Array, Array, bool]:
        """Pass the gradients of results back.

        Returns:
            Those of operand elements, [elements, lanes]; those of all places, of the last lanes; and whether all that
            are reached are finite, in every lane.
        """
        dtype, width = workspace.dtype, self.width(lanes, workspace.itemsize)
        back, adjoints = np.empty(self.elements * lanes, dtype), np.empty(self.places * width, dtype)
        finite = kernel.backward(
            self.groups,
            self.opcodes,
            self.a,
            self.b,
            self.lists,
            self.exponents[dtype],
            self.results,
            self.first,
            workspace,
            lanes,
            width,
            np.ascontiguousarray(adjoint).reshape(-1),
            adjoints,
            np.empty(max(CHUNK, self.longest * (LINE // dtype.itemsize)), dtype),
            back,
            self.reached,
        )
        return back.reshape(self.elements, lanes), adjoints, finite

    def _parts(self, workspace: Array, lanes: int, width: int) -> list[tuple[int, Array]]:
        """The workspace as [blocks, places, width], and what remains; each with its first lane."""
        whole = lanes // width * width
        split = self.places * whole
        parts = [(0, workspace[:split].reshape(-1, self.places, width))]
        if lanes > whole:
            parts.append((whole, workspace[split : self.places * lanes].reshape(1, self.places, lanes - whole)))
        return parts


def make_tape(
    opcodes: NDArray[np.int8],
    starts: NDArray[np.int64],
    arguments: NDArray[np.int32],
    exponents: NDArray[np.float64],
    constants: NDArray[np.float64],
    elements: int,
    live: NDArray[np.bool_],
    results: NDArray[np.int32],
) -> Tape:
    """The tape of operations, which each have an exponent; ``live`` and ``results`` are about positions."""
    first = elements + len(constants)
    operations, groups, places = order.arrange(opcodes, starts, arguments, first, live, len(TapeOpcode), CHAINED)
    a, b, lists, standing = order.tabulate(
        operations, opcodes, starts, arguments, places, int(TapeOpcode.PRODUCT), int(TapeOpcode.SUM)
    )
    groups = order.divide(
        groups, opcodes[operations], a, b, lists, standing, first, ARGUMENTS, SHORTEST, FEW, int(TapeOpcode.MIXED)
    )
    powers = np.flatnonzero(opcodes[operations] == TapeOpcode.POWER)
    b[powers] = np.arange(len(powers))
    raised = exponents[operations[powers]]
    return Tape(
        groups=groups,
        opcodes=opcodes[operations],
        a=a,
        b=b,
        lists=lists,
        exponents={dtype: raised.astype(dtype) for dtype in DTYPES},
        constants=constants,
        elements=elements,
        first=first,
        places=first + len(operations),
        results=places[results],
        operations=operations,
        longest=int((starts[operations + 1] - starts[operations]).max(initial=1)),
        reached=np.empty(0, np.bool_),
    )
