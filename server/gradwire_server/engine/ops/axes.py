"""Axes as callers write them, in normal form."""

from __future__ import annotations

from collections.abc import Sequence

from gradwire_server.engine.graph import Shape
from gradwire_server.engine.ops.op import OperandError
from gradwire_server.engine.shapes import text


def normal_axes(axes: Sequence[int], shape: Shape) -> tuple[int, ...]:
    """The axes counted from the front, in the order given; raises OperandError."""
    rank = len(shape)
    normal: list[int] = []
    for position, axis in enumerate(axes):
        if not -rank <= axis < rank:
            raise OperandError(
                f"axis {axis} is out of range for shape {text(shape)} with {rank} axes", f"axes[{position}]"
            )
        if axis % rank in normal:
            raise OperandError(f"axis {axis} is given twice; give each axis once", f"axes[{position}]")
        normal.append(axis % rank)
    return tuple(normal)
