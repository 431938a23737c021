"""Which elements of its operands an operation made an infinity or NaN from."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import Any

import numpy as np

from gradwire_server.engine.graph.graph import Array, Shape, Ties
from gradwire_server.engine.graph.opcodes import Opcode
from gradwire_server.engine.reference.elementwise import ELEMENTWISE
from gradwire_server.engine.reference.rule import Contribution, Facts, Part
from gradwire_server.engine.reference.table import RULES

Shown = list[float | None]
"""For each of the first operands, one of its elements; None for an operand without elements."""

SHOWN = 16
"""Operands that are looked at; sums can have a million."""


def of_value(opcode: Opcode, facts: Facts, operands: Sequence[Array], out: Array, position: Shape) -> Shown:
    """What the value's element at ``position`` was made from.

    If it was made from several elements of an operand, the first one that is not finite, or else the largest.
    """
    if opcode in ELEMENTWISE:
        return _aligned(operands, out.shape, position)
    # A NaN that goes back from there, by factors that are all 1, gets to what was read.
    one = out.dtype.type(1)
    ones = [a if a.dtype == np.int64 else np.broadcast_to(one, a.shape) for a in operands]
    g = np.zeros_like(out)
    g[position] = np.nan
    facts = facts._replace(ties=Ties.SPLIT)
    contributions = RULES[opcode].vjp(facts, g, ones, np.broadcast_to(one, out.shape))
    return _picked(operands, [_reached(a, c) for a, c in islice(zip(operands, contributions, strict=True), SHOWN)])


def of_gradient(
    opcode: Opcode, facts: Facts, g: Array, operands: Sequence[Array], out: Array, slot: int, position: Shape
) -> Shown:
    """What the gradient of operand ``slot`` at ``position`` was made from.

    Where the gradient is a sum over broadcast axes, those of its first term that is not finite, or else of the
    largest. Of operands that are not read element by element, other ones than ``slot`` show their largest element.
    """
    here = np.zeros(operands[slot].shape, np.bool_)
    here[position] = True
    if opcode not in ELEMENTWISE:
        masks = [here if i == slot else np.ones(a.shape, np.bool_) for i, a in enumerate(operands[:SHOWN])]
        return _picked(operands, masks)
    # Operands that are broadcast beforehand get the terms of the sum.
    whole = [np.broadcast_to(a, out.shape) for a in operands]
    terms: Any = next(islice(RULES[opcode].vjp(facts, g, whole, out), slot, None))
    return _aligned(operands, out.shape, _worst(terms, np.broadcast_to(here, out.shape)))


def _aligned(operands: Sequence[Array], shape: Shape, place: Shape) -> Shown:
    """The elements that broadcasting to ``shape`` brings together at ``place``."""
    return [float(np.broadcast_to(operand, shape)[place]) for operand in operands[:SHOWN]]


def _reached(operand: Array, contribution: Contribution) -> Array:
    """Where a contribution is NaN; everywhere if nowhere."""
    reached = np.zeros(operand.shape, np.bool_)
    if isinstance(contribution, Part):
        reached.reshape(-1)[contribution.places] = True
    elif contribution is not None:
        reached = np.isnan(contribution)
    return reached if reached.any() else ~reached


def _picked(operands: Sequence[Array], masks: Sequence[Array]) -> Shown:
    """The element to show of those where the mask of an operand holds."""
    pairs = zip(operands[:SHOWN], masks, strict=True)
    return [float(operand[_worst(operand, mask)]) if operand.size else None for operand, mask in pairs]


def _worst(array: Array, mask: Array) -> Shape:
    """The place, where ``mask`` holds, of the first element that is not finite, or else of the largest."""
    weights = np.where(np.isnan(array), np.inf, np.abs(array))
    return tuple(map(int, np.unravel_index(np.where(mask, weights, -1).argmax(), array.shape)))
