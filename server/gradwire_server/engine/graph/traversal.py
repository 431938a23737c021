"""Passes over the nodes of a graph, one after another, as no operation on arrays can make them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gradwire_server.engine.compiled import compiled
from gradwire_server.engine.graph.opcodes import Opcode

POWER = int(Opcode.POWER)

ANY = -1
"""Arity of operations that take one operand or more."""


@compiled
def ancestors(starts: NDArray[np.int64], operands: NDArray[np.int32], marked: NDArray[np.bool_]) -> None:
    """Mark every node that a marked one depends on; ``marked``: [nodes]."""
    for k in range(len(starts) - 2, -1, -1):
        if marked[k]:
            for i in range(starts[k], starts[k + 1]):
                marked[operands[i]] = True


@compiled
def descendants(starts: NDArray[np.int64], operands: NDArray[np.int32], marked: NDArray[np.bool_]) -> None:
    """Mark every node that depends on a marked one; ``marked``: [nodes]."""
    for k in range(len(starts) - 1):
        for i in range(starts[k], starts[k + 1]):
            if marked[operands[i]]:
                marked[k] = True


@compiled
def differentiated(
    opcodes: NDArray[np.int8],
    starts: NDArray[np.int64],
    operands: NDArray[np.int32],
    forward: NDArray[np.int32],
    passive: NDArray[np.int64],
    marked: NDArray[np.bool_],
) -> None:
    """Mark every node that passes a gradient on to a marked one; what stands for another node does if that does.

    Args:
        opcodes: [nodes].
        starts: [nodes + 1], where the operands of each node begin.
        operands: [edges].
        forward: [nodes], the node, or an earlier one that it stands for.
        passive: [opcodes], how many operands, from the first on, get no gradient.
        marked: [nodes].
    """
    for k in range(len(starts) - 1):
        if forward[k] != k:
            marked[k] |= marked[forward[k]]
            continue
        for i in range(starts[k] + passive[opcodes[k]], starts[k + 1]):
            if marked[operands[i]]:
                marked[k] = True


@compiled
def receiving(
    opcodes: NDArray[np.int8],
    starts: NDArray[np.int64],
    operands: NDArray[np.int32],
    passive: NDArray[np.int64],
    marked: NDArray[np.bool_],
) -> None:
    """Mark every node that a marked one passes a gradient on to; the arguments are those of ``differentiated``."""
    for k in range(len(starts) - 2, -1, -1):
        if marked[k]:
            for i in range(starts[k] + passive[opcodes[k]], starts[k + 1]):
                marked[operands[i]] = True


@compiled
def infer_elementwise(
    opcodes: NDArray[np.int8],
    starts: NDArray[np.int64],
    operands: NDArray[np.int32],
    numbers: NDArray[np.float64],
    shape_ids: NDArray[np.int32],
    known: NDArray[np.bool_],
    arities: NDArray[np.int8],
    first: int,
) -> int:
    """Give shapes to elementwise operations on scalars and float tensors of one shape, up to the first other operation.

    Args:
        opcodes: [nodes].
        starts: [nodes + 1], where the operands of each node begin.
        operands: [edges], indices that may be out of range.
        numbers: [nodes], exponents of powers.
        shape_ids: [nodes], 0 for scalars, above for other float tensors, below for what no such operation takes.
        known: [nodes], whether the shape id is there already.
        arities: [opcodes], how many operands each elementwise operation takes, or ANY; 0 for other opcodes.
        first: First node to look at; nodes before it have their shape ids.

    Returns:
        The node that is none, with nothing said about it, or the number of nodes.
    """
    for k in range(first, len(opcodes)):
        if known[k]:
            continue
        code, arity, shape = opcodes[k], starts[k + 1] - starts[k], 0
        if arity < 1 or (arity != arities[code] and arities[code] != ANY):
            return k
        if code == POWER and not np.isfinite(numbers[k]):
            return k
        for i in range(starts[k], starts[k + 1]):
            if operands[i] < 0 or operands[i] >= k:
                return k
            other = shape_ids[operands[i]]
            if other < 0 or (other > 0 < shape != other):
                return k
            shape = max(shape, other)
        shape_ids[k] = shape
    return len(opcodes)
