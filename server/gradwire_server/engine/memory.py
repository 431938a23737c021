"""Where the values and gradients of nodes are while a plan runs."""

from __future__ import annotations

from collections.abc import Mapping, MutableSequence
from typing import Any, Generic, TypeVar

import numpy as np

from gradwire_server.engine.checkpoints import Checkpoint, checked
from gradwire_server.engine.graph import Array
from gradwire_server.engine.kernels import walk
from gradwire_server.engine.kernels.finite import EXPONENTS, all_finite
from gradwire_server.engine.layout import Layout
from gradwire_server.engine.shapes import size

T = TypeVar("T")

UNSET: Array = np.empty(0)
"""The value of a node that nobody needs."""

VIEW_BYTES = 250
"""Rough memory of a view, and of what knows it."""


class Arena:
    """Storage for the nodes of a layout, one buffer for up to ``lanes`` lanes.

    Behind the nodes it has a place for gradients that nobody wants, and room for the kernel.
    """

    def __init__(self, layout: Layout, lanes: int, dtype: np.dtype[np.floating]) -> None:
        self.layout = layout
        self.storage = np.empty((layout.elements + 1) * lanes + walk.scratch(lanes), dtype)
        self._unsigned, self._exponent = EXPONENTS[self.storage.dtype]
        self._views: dict[int, Array] = {}
        self.lanes = 0
        self.open(lanes)

    def open(self, lanes: int) -> None:
        """Give every node so many lanes."""
        if lanes == self.lanes:
            return
        self.lanes = lanes
        self.flat = self.storage[: self.layout.elements * lanes]
        """All nodes."""
        self._bits = self.flat.view(self._unsigned)
        self._views.clear()

    @property
    def nbytes(self) -> int:
        """Bytes that it takes, about, with the views that were asked for."""
        return self.storage.nbytes + VIEW_BYTES * len(self._views)

    def is_finite(self) -> bool:
        """Whether the numbers of all nodes are finite."""
        return bool(all_finite(self._bits, self._exponent))

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

    def place(self, arrays: MutableSequence[Any], lanes: int, checkpoint: Checkpoint) -> Array:
        """Put arrays of ``lanes`` lanes at their nodes' places in ``arrays``; returns the flat buffer of all nodes.

        Raises what ``checkpoint`` raises.
        """
        if lanes != self.lanes:
            self.open(lanes)
        for node in checked(self.layout.places, checkpoint):
            arrays[node] = self.get(node)
        return self.flat


class Stored(dict[int, T], Generic[T]):
    """The arrays of all nodes, of which nobody makes views but who looks.

    Args:
        nothing: What a node has that has no array.
        arenas: Where arrays are.
    """

    def __init__(self, nothing: T, *arenas: Arena) -> None:
        self._nothing = nothing
        self._arenas: tuple[Arena, ...] = arenas
        self.given: Mapping[int, T] = {}
        """Those that are elsewhere; others may take their place."""

    def __missing__(self, node: int) -> T:
        found: Any = self.given.get(node)
        if found is not None:
            given: T = found
            return given
        for arena in self._arenas:
            if found is None:
                found = arena.get(node)
        array: T = self._nothing if found is None else found
        self[node] = array
        return array
