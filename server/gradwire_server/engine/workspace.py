"""Storage that evaluations take one after another, with the views of it that they have made."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from gradwire_server.engine.graph import Array
from gradwire_server.engine.layout import Layout
from gradwire_server.engine.memory import UNSET, Arena, Stored


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """What an evaluation needs storage for."""

    plan: object
    """Whose layouts these are."""
    shared: tuple[Layout, Layout]
    """Of values and gradients of what examples share."""
    own: tuple[Layout, Layout]
    """The same of what each example has of its own."""
    dtype: np.dtype[np.floating]
    lanes: int
    """Examples at once."""
    lanes_of_sums: int
    """As many if each example has gradients of its own of what all share, else one."""


class Room:
    """Storage for the examples of one block after another, which one thread at a time uses."""

    def __init__(self, needs: Needs, shared: Arena) -> None:
        self.lanes, self._sums_for_each = needs.lanes, needs.lanes_of_sums > 1
        values, adjoints = needs.own
        self.own = Arena(values, self.lanes, needs.dtype)
        self.own_adjoints = Arena(adjoints, self.lanes, needs.dtype)
        self.values: Stored[Array] = Stored(UNSET, self.own, shared)
        self.adjoints: Stored[Array | None] = Stored(None, self.own_adjoints)
        self._sums: Arena | None = None

    @property
    def nbytes(self) -> int:
        """Bytes that it takes, about."""
        return self.own.nbytes + self.own_adjoints.nbytes

    def open(self, lanes: int, sums: Arena) -> None:
        """Have so many lanes, and the gradients of what examples share in ``sums``."""
        if lanes != self.lanes:
            self.lanes = lanes
            self.own.open(lanes)
            self.own_adjoints.open(lanes)
            self.values.clear()
            self._sums = None
        lanes_of_sums = lanes if self._sums_for_each else 1
        if sums.lanes != lanes_of_sums:
            sums.open(lanes_of_sums)
            self._sums = None
        if sums is not self._sums:
            self._sums = sums
            self.adjoints = Stored(None, self.own_adjoints, sums)


class Workspace:
    """The storage of one evaluation at a time."""

    def __init__(self, needs: Needs) -> None:
        self.needs = needs
        self.shared = Arena(needs.shared[0], 1, needs.dtype)
        self.values: Stored[Array] = Stored(UNSET, self.shared)
        """Of what examples share."""
        self.idle_rooms: list[Room] = []
        self.idle_sums: list[Arena] = []
        """Room for the gradients of what examples share."""
        self._total: Arena | None = None
        self._adjoints: Stored[Array | None] = Stored(None)

    @property
    def nbytes(self) -> int:
        """Bytes that it takes, about."""
        rooms, sums = sum(room.nbytes for room in self.idle_rooms), sum(sums.nbytes for sums in self.idle_sums)
        return self.shared.nbytes + rooms + sums

    def room(self) -> Room:
        """One for a block, that is idle or new; to be given back to ``idle_rooms``."""
        try:
            return self.idle_rooms.pop()
        except IndexError:
            return Room(self.needs, self.shared)

    def sums(self) -> Arena:
        """One for gradients of what examples share, for ``idle_sums``."""
        try:
            return self.idle_sums.pop()
        except IndexError:
            return Arena(self.needs.shared[1], self.needs.lanes_of_sums, self.needs.dtype)

    def adjoints(self, total: Arena) -> Stored[Array | None]:
        """The gradients that are in ``total``, by node."""
        if total is not self._total:
            self._total, self._adjoints = total, Stored(None, total)
        return self._adjoints

    def release(self, streamed: Iterable[int], direct: Iterable[int]) -> None:
        """Let go of arrays that are elsewhere: those given, values of ``streamed``, and gradients of ``direct``."""
        self.values.given = {}
        for room in self.idle_rooms:
            room.values.given = {}
            for node in streamed:
                room.values.pop(node, None)
            for node in direct:
                room.adjoints.pop(node, None)
