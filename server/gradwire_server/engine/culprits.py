"""Which elements of its operands an operation made an infinity or NaN from.

Arrays here are of one lane.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any

import numpy as np

from gradwire_server.engine.graph import Array, Shape
from gradwire_server.engine.instruction import Instruction
from gradwire_server.engine.ops.op import Looked
from gradwire_server.engine.shapes import unbroadcast

SHOWN = 16
"""Operands that are looked at; sums can have a million."""


def of_value(instruction: Instruction, operands: Sequence[Array], out: Array, position: Shape) -> list[float | None]:
    """For each of the first operands, the element that the result's element at ``position`` was made from.

    If that read several, the first one that is not finite, or else the largest; None of an operand without elements.
    """
    place = (*position, 0)
    if instruction.op.elementwise:
        return _aligned(operands, out.shape, place)
    return _picked(operands, _read(instruction, operands, out, place))


def of_gradient(
    instruction: Instruction, operands: Sequence[Array], out: Array, adjoint: Array, slot: int, position: Shape
) -> list[float | None]:
    """For each of the first operands, the element that the gradient of operand ``slot`` at ``position`` was made from.

    Where the gradient is a sum over broadcast axes, those of its first term that is not finite, or else of the
    largest. What an op reads that is not elementwise is not known: the largest element of each other operand.
    """
    here = np.zeros(operands[slot].shape, np.bool_)
    here[(*position, 0)] = True
    if not instruction.op.elementwise:
        masks = [here if i == slot else np.ones(a.shape, np.bool_) for i, a in enumerate(operands[:SHOWN])]
        return _picked(operands, masks)
    step = instruction.step._replace(written=frozenset())
    terms: Any = next(islice(instruction.op.vjp(step, adjoint, operands, out, operands), slot, None))
    place = _worst(np.broadcast_to(terms, out.shape), np.broadcast_to(here, out.shape))
    return _aligned(operands, out.shape, place)


def _aligned(operands: Sequence[Array], shape: Shape, place: Shape) -> list[float | None]:
    """The elements that NumPy's broadcasting to ``shape`` brings together at ``place``."""
    return [float(np.broadcast_to(operand, shape)[place]) for operand in operands[:SHOWN]]


def _picked(operands: Sequence[Array], masks: Sequence[Array]) -> list[float | None]:
    """Of each of the first operands, the element to show of those that its mask holds for."""
    pairs = zip(operands[:SHOWN], masks, strict=False)
    return [float(operand[_worst(operand, mask)]) if operand.size else None for operand, mask in pairs]


def _read(instruction: Instruction, operands: Sequence[Array], out: Array, place: Shape) -> list[Array]:
    """For each operand, which elements the result's element at ``place`` reads: where its derivative carries a NaN."""
    one = out.dtype.type(1)
    ones = [a if a.dtype == np.int64 else np.broadcast_to(one, a.shape) for a in operands]
    adjoint = np.zeros_like(out)
    adjoint[place] = np.nan
    out = np.broadcast_to(one, out.shape)
    contributions: Iterable[Any] = instruction.op.vjp(instruction.step, adjoint, ones, out, operands)
    masks = []
    for operand, contribution in zip(operands, contributions, strict=True):
        own = contribution.contribution if isinstance(contribution, Looked) else contribution
        carried = np.isnan(0 if own is None else unbroadcast(own, operand.shape))
        masks.append(np.broadcast_to(carried | ~carried.any(), operand.shape))
    return masks


def _worst(array: Array, mask: Array) -> Shape:
    """The place, where ``mask`` holds, of the first element that is not finite, or else of the largest."""
    weights = np.where(np.isnan(array), np.inf, np.abs(array))
    weights[~mask] = -1
    return tuple(int(i) for i in np.unravel_index(weights.argmax(), array.shape))
