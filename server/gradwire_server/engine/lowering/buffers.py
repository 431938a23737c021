"""Buffers: what rows refer to by number, and where values and gradients are that no step computes."""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum, StrEnum
from typing import NamedTuple

import numpy as np

from gradwire_server.engine.graph.checking import Checked
from gradwire_server.engine.graph.graph import Array, Input, Parameter
from gradwire_server.engine.lowering.rows import EXAMPLES, FIXED, TILE
from gradwire_server.engine.lowering.views import View, contiguous_strides


class Own(IntEnum):
    """Buffers that every code has."""

    SHARED = 0
    """Values that all examples share and that may have gradients."""
    SHARED_GRADIENTS = 1
    SHARED_PASSIVE = 2
    """Values that have no gradients."""
    VALUES = 3
    """Values of lanes."""
    GRADIENTS = 4
    PASSIVE = 5
    EXTRA = 6
    """Gradients of lanes in values that they share."""
    SUMS = 7
    """Sums over lanes of gradients in values that they share."""
    CONSTANTS = 8
    INTEGERS = 9
    """Constants of row indices."""
    LOSSES = 10


MODES = (FIXED, FIXED, FIXED, TILE, TILE, TILE, TILE, FIXED, FIXED, FIXED, EXAMPLES)

OF_ALL = (Own.SHARED, Own.SHARED_GRADIENTS, Own.SHARED_PASSIVE)
OF_LANES = (Own.VALUES, Own.GRADIENTS, Own.PASSIVE, Own.EXTRA)
"""Values and gradients, of what all examples share and of lanes."""


class Role(StrEnum):
    """What a buffer of a request is."""

    SOURCE = "source"
    GRADIENT = "gradient"
    SUM = "sum"
    """Where lanes add up their gradients in a source that they share: the result itself, if there is one tile."""
    OUTPUT = "output"
    KEPT = "kept"
    """Values of all examples, until gradients of weights are computed from them."""
    KEPT_GRADIENT = "kept gradient"


class Attached(NamedTuple):
    """A buffer that comes with a request, or is a result of it."""

    role: Role
    node: int
    examples: bool
    """Whether it has the axis of examples."""


class Buffers:
    """Buffers of one code."""

    def __init__(self, checked: Checked) -> None:
        self._checked = checked
        self.attached: list[Attached] = []
        """Behind those that every code has, in the order of their numbers."""
        self._numbers: dict[Attached, int] = {}
        self.constants: list[Array] = []
        self.integers: list[Array] = []
        self._sizes = {Own.CONSTANTS: 0, Own.INTEGERS: 0, Own.EXTRA: 0, Own.SUMS: 0}
        self.sums: dict[int, View] = {}
        """Where the sums of gradients are, by node; of nodes that are no sources."""
        self.deferred: list[int] = []
        """Sources whose gradients are computed when all tiles are done."""
        self.source_sums: dict[int, int] = {}
        """Where they begin among those of sources, by node."""

    def size(self, own: Own) -> int:
        """Elements of a buffer that only this object gives places in; of EXTRA, those of a lane."""
        return self._sizes[own]

    def modes(self) -> list[int]:
        """How each buffer is addressed."""
        return [*MODES, *(EXAMPLES if own.examples else FIXED for own in self.attached)]

    def attach(self, role: Role, node: int, *, examples: bool) -> View:
        """The whole of a buffer of a request."""
        own = Attached(role, node, examples)
        number = self._numbers.get(own)
        if number is None:
            number = self._numbers[own] = len(MODES) + len(self.attached)
            self.attached.append(own)
        shape = self._checked.shape(node)
        strides = contiguous_strides(shape)
        view = View(number, 0, 0, shape, strides, 0, node)
        return view._replace(distance=view.size) if examples else view

    def number(self, number: float) -> View:
        """A constant that is no node; the first one is the gradient of the loss in itself."""
        self.constants.append(np.array([number]))
        return self._reserve(Own.CONSTANTS, -1, ())

    def content(self, node: int) -> View:
        """The value of a source."""
        content = self._checked.graph.contents.get(node)
        if isinstance(content, Parameter | Input):
            return self.attach(Role.SOURCE, node, examples=isinstance(content, Input) and content.per_example)
        value = np.array(self._checked.graph.numbers[node]) if content is None else content
        own, kept = (Own.INTEGERS, self.integers) if value.dtype == np.int64 else (Own.CONSTANTS, self.constants)
        kept.append(value.reshape(-1))
        return self._reserve(own, node, value.shape)

    def sum(self, node: int) -> View:
        """Where the gradients of lanes in a shared value add up; in a source, in a buffer of its own."""
        if node in self._checked.graph.contents:
            if node not in self.source_sums:
                self.source_sums[node] = sum(self._checked.size(other) for other in self.source_sums)
            return self.attach(Role.SUM, node, examples=False)
        if node not in self.sums:
            self.sums[node] = self._reserve(Own.SUMS, node, self._checked.shape(node))
        return self.sums[node]

    def all_sums(self) -> list[tuple[int, int, int]]:
        """Nodes whose gradients add up, where each begins among all sums, sources last, and how many elements it has.

        Gradients that are where they belong when all tiles are done begin nowhere: -1.
        """
        own = [(node, view.place, view.size) for node, view in self.sums.items()]
        behind = self.size(Own.SUMS)
        own += [(node, behind + at, self._checked.size(node)) for node, at in self.source_sums.items()]
        return own + [(node, -1, self._checked.size(node)) for node in self.deferred]

    def apart(self, node: int) -> View:
        """Where each lane has a gradient of its own in a shared value."""
        view = self._reserve(Own.EXTRA, node, self._checked.shape(node))
        return view._replace(distance=view.size)

    def _reserve(self, own: Own, node: int, shape: Sequence[int]) -> View:
        view = View(own, self._sizes[own], 0, tuple(shape), contiguous_strides(tuple(shape)), 0, node)
        self._sizes[own] += view.size
        return view
