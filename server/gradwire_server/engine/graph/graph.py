"""Graphs as they were sent: a loss of one example, its nodes in columns, in topological order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradwire_server.engine.graph.opcodes import Opcode

Shape = tuple[int, ...]
Array = NDArray[Any]
Attributes = Mapping[str, Any]


class Ties(StrEnum):
    """Who gets the gradient of a maximum that several operands attain."""

    ZERO = "zero"
    """Nobody, as I[a > b] and I[b > a] say."""
    SPLIT = "split"
    """All tied operands, in equal shares."""


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


Content = Parameter | Input | Array
"""What a source holds. An array is a constant: float64 (cast to the request's dtype) or int64."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Origins:
    """Where nodes come from, in a graph that was sent with packed nodes."""

    sent: NDArray[np.int32]
    """[nodes], index of the sent node that each node is, or is part of."""
    position: NDArray[np.int32]
    """[nodes], position of each node inside its packed node; -1 elsewhere."""
    nodes: NDArray[np.int32]
    """[sent nodes], index of the node that has the value of each sent node."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Graph:
    """A loss of one example."""

    opcodes: NDArray[np.int8]
    """[nodes], an Opcode each."""
    starts: NDArray[np.int64]
    """[nodes + 1], where the operands of each node begin in ``operands``; the last is where they end."""
    operands: NDArray[np.int32]
    """[edges], indices of nodes. An index that is out of range stays as it was sent, as the bits of a uint32."""
    numbers: NDArray[np.float64]
    """[nodes], value of a float scalar constant, exponent of a power (NaN if none was sent), flat index of an element;
    NaN elsewhere."""
    names: Mapping[int, str]
    """By node; of named nodes, sources included."""
    contents: Mapping[int, Content]
    """By node, in ascending order; of sources, except constants that are float scalars."""
    attributes: Mapping[int, Attributes] = field(default_factory=dict)
    """By node: fields of its message beside operands and exponent, such as ``axes``, ``keepdims``, ``shape``."""
    origins: Origins | None = None
    """None where nodes are as sent."""
    loss: int
    """Index of the node that is the loss."""
    ties: Ties = Ties.ZERO

    def __len__(self) -> int:
        return len(self.opcodes)

    def operands_of(self, index: int) -> list[int]:
        """Indices of the operands of a node."""
        own: list[int] = self.operands[self.starts[index] : self.starts[index + 1]].tolist()
        return own

    def opcode(self, index: int) -> Opcode:
        """What a node does."""
        return Opcode(int(self.opcodes[index]))

    def sent(self, index: int) -> int:
        """Index that a node had when it was sent; that of its packed node if it was inside one."""
        return index if self.origins is None else int(self.origins.sent[index])

    def kind(self, index: int) -> str:
        """What a node was when it was sent: ``mul``, ``parameter``, ``scalars``."""
        return "scalars" if self.packed(index) else self.opcode(index).name.lower()

    def packed(self, index: int) -> bool:
        """Whether a node was sent inside a packed node, or is the packed node."""
        stacked = self.opcodes[index] == Opcode.STACK
        return bool(stacked or (self.origins is not None and self.origins.position[index] >= 0))

    def label(self, index: int) -> str:
        """What a node is called: its name, or ``mul_17`` of kind and sent index; of a packed operation its node's."""
        if self.origins is not None and self.origins.position[index] >= 0:
            index = int(self.origins.nodes[self.origins.sent[index]])
        return self.names.get(index) or f"{self.kind(index)}_{self.sent(index)}"
