"""Where the values and gradients of nodes are while a plan runs."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import MutableSequence, Sequence
from typing import Any, TypeVar, overload

import numpy as np

from gradwire_server.engine.graph import Array
from gradwire_server.engine.kernels import walk
from gradwire_server.engine.layout import Layout
from gradwire_server.engine.shapes import size

T = TypeVar("T")

UNSET: Array = np.empty(0)
"""The value of a node that nobody needs."""


class Arena:
    """Storage for the nodes of a layout, one buffer for up to ``lanes`` lanes.

    Behind the nodes it has a place for gradients that nobody wants, and room for the kernel.
    """

    def __init__(self, layout: Layout, lanes: int, dtype: np.dtype[np.floating]) -> None:
        self.layout = layout
        self.storage = np.empty((layout.elements + 1) * lanes + walk.scratch(lanes), dtype)
        self.lanes = lanes
        self._views: dict[int, Array] = {}

    def open(self, lanes: int) -> Array:
        """Give every node so many lanes; returns the flat buffer of all nodes."""
        if lanes != self.lanes:
            self.lanes = lanes
            self._views.clear()
        return self.storage[: self.layout.elements * lanes]

    def zero(self) -> None:
        """Let the sums of gradients begin."""
        self.storage[: self.layout.added * self.lanes].fill(0)

    def get(self, node: int) -> Array | None:
        """The array of a node, [*shape, lanes], if it has a place here."""
        view = self._views.get(node)
        if view is None and node in self.layout.places:
            offset, shape = self.layout.places[node]
            flat = self.storage[offset * self.lanes : (offset + size(shape)) * self.lanes]
            view = self._views[node] = flat.reshape(*shape, self.lanes)
        return view

    def place(self, arrays: MutableSequence[Any], lanes: int) -> Array:
        """Put arrays of ``lanes`` lanes at their nodes' places in ``arrays``; returns the flat buffer of all nodes."""
        flat = self.open(lanes)
        for node in self.layout.places:
            arrays[node] = self.get(node)
        return flat


class _Stored(Sequence[T]):
    """Arrays of all nodes, in two arenas, of which nobody makes views but who looks."""

    def __init__(self, per_example: Sequence[bool], shared: Arena, lanes: Arena) -> None:
        self._per_example = per_example
        self.shared = shared
        self.lanes = lanes

    def __len__(self) -> int:
        return len(self._per_example)

    @overload
    def __getitem__(self, node: int) -> T: ...
    @overload
    def __getitem__(self, node: slice) -> Sequence[T]: ...
    def __getitem__(self, node: int | slice) -> T | Sequence[T]:
        return [self._of(n) for n in range(len(self))[node]] if isinstance(node, slice) else self._of(node)

    @abstractmethod
    def _of(self, node: int) -> T:
        """The array of a node."""

    def _stored(self, node: int) -> Array | None:
        return (self.lanes if self._per_example[node] else self.shared).get(node)


class Stored(_Stored[Array]):
    """The values of all nodes: those given, and those that are stored."""

    def __init__(self, per_example: Sequence[bool], shared: Arena, lanes: Arena) -> None:
        super().__init__(per_example, shared, lanes)
        self.given: dict[int, Array] = {}

    def _of(self, node: int) -> Array:
        found = self.given.get(node)
        if found is None:
            found = self._stored(node)
        return UNSET if found is None else found


class StoredAdjoints(_Stored[Array | None]):
    """The gradients of all nodes; None where none is wanted."""

    def __init__(self, per_example: Sequence[bool], shared: Arena, lanes: Arena) -> None:
        super().__init__(per_example, shared, lanes)
        self.direct: dict[int, Array] = {}
        """Those that are written into the results."""

    def _of(self, node: int) -> Array | None:
        found = self.direct.get(node)
        return self._stored(node) if found is None else found
