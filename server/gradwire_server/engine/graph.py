"""Graphs: a loss of one example as a list of small boxes, in topological order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

Shape = tuple[int, ...]
Array = NDArray[Any]


class Ties(StrEnum):
    """Who gets the gradient of a maximum that several operands attain."""

    ZERO = "zero"
    """Nobody, as I[a > b] and I[b > a] say."""
    SPLIT = "split"
    """All of them, in equal shares."""


class Reduction(StrEnum):
    """How the losses of the examples become one."""

    MEAN = "mean"
    SUM = "sum"
    NONE = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """A tensor of the request that the loss is differentiated in."""

    name: str
    shape: Shape


@dataclass(frozen=True, slots=True, kw_only=True)
class Input:
    """A tensor of the request that holds data; ``shape`` is that of one example."""

    name: str
    shape: Shape
    per_example: bool = False
    integer: bool = False
    """Whether it holds row indices (int64) instead of floats."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Constant:
    """A tensor that is the same in every request: float64 (cast to the request's dtype) or int64."""

    name: str = ""
    value: Array

    @property
    def shape(self) -> Shape:
        """Shape of the value."""
        return self.value.shape

    @property
    def integer(self) -> bool:
        """Whether it holds row indices (int64) instead of floats."""
        return self.value.dtype == np.int64


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """A box: an op of the table, applied to earlier nodes."""

    name: str = ""
    op: str
    operands: tuple[int, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)


Node = Parameter | Input | Constant | Operation


@dataclass(frozen=True, slots=True, kw_only=True)
class Graph:
    """A loss of one example."""

    nodes: Sequence[Node]
    """In topological order: an operand is the index of an earlier node."""
    loss: int
    """Index of the node that is the loss."""
    ties: Ties = Ties.ZERO
