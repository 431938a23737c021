"""Tapes: a swarm of scalar operations as the kernel goes through it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gradwire_server.engine.graph import Array
from gradwire_server.engine.kernels import order
from gradwire_server.engine.kernels import tape as kernel
from gradwire_server.engine.kernels.tape import TapeOpcode
from gradwire_server.engine.kernels.vectors import LINE

DTYPES = np.dtype(np.float64), np.dtype(np.float32)

WIDE_BYTES = 512 << 10
"""Bytes that the values and gradients of all places may take for the lanes that run together: half of a cache that a
core has of its own."""

NARROWEST, WIDEST = 32, 256
"""Lanes that run together, however many places there are."""

FEW = 4
"""Operations of a group that is not worth a loop."""

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

    def forward(self, operands: Sequence[Array], workspace: Array, lanes: int) -> None:
        """Compute the values of all places into the workspace, [places * lanes]."""
        width = self.width(lanes, workspace.itemsize)
        if lanes <= width:
            space, start = workspace.reshape(-1, lanes), 0
            for operand in operands:
                flat = operand.reshape(-1, operand.shape[-1])
                space[start : start + len(flat)] = flat
                start += len(flat)
            if start < self.first:
                space[start : self.first] = self.constants[:, np.newaxis]
        else:
            self._fill_parts(operands, workspace, lanes, width)
        exponents = self.exponents[workspace.dtype]
        kernel.forward(
            self.groups,
            self.opcodes,
            self.a,
            self.b,
            self.lists,
            exponents,
            self.first,
            workspace,
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
            space[:, start : self.first] = self.constants[:, np.newaxis]

    def take(self, places: NDArray[np.integer], workspace: Array, lanes: int) -> Array:
        """The values of these places, [places, lanes]."""
        width = self.width(lanes, workspace.itemsize)
        if lanes <= width:
            found: Array = workspace.reshape(-1, lanes)[places]
            return found
        parts = [space[:, places].swapaxes(0, 1) for _, space in self._parts(workspace, lanes, width)]
        return np.concatenate([part.reshape(len(part), part.shape[1] * part.shape[2]) for part in parts], axis=1)

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
            self.first,
            workspace,
            lanes,
            width,
            self.results,
            np.ascontiguousarray(adjoint).reshape(-1),
            adjoints,
            np.empty(max(kernel.CHUNK, self.longest * (LINE // dtype.itemsize)), dtype),
            self.elements,
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
    a, b, lists = order.tabulate(operations, opcodes, starts, arguments, places, int(TapeOpcode.PRODUCT))
    powers = np.flatnonzero(opcodes[operations] == TapeOpcode.POWER)
    b[powers] = np.arange(len(powers))
    raised = exponents[operations[powers]]
    return Tape(
        groups=_mixed(groups),
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


def _mixed(groups: NDArray[np.int32]) -> NDArray[np.int32]:
    """The groups, with those after one another that are small made one."""
    opcodes, begins, ends = groups.T
    small = (ends - begins <= FEW) & (opcodes < TapeOpcode.PRODUCT) & (opcodes != TapeOpcode.POWER)
    joined = small[1:] & small[:-1]
    heads = np.flatnonzero(np.concatenate(([True], ~joined))) if len(groups) else np.empty(0, np.intp)
    result = groups[heads]
    result[:, 2] = np.append(groups[heads[1:], 1], ends[-1:])
    several = np.diff(np.append(heads, len(groups))) > 1
    result[several, 0] = TapeOpcode.MIXED
    return result
