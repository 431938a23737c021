"""Blocks of a step: which wait, and which actor of Ray has the others."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from gradwire_server.units.formats import Unit


class Sharing:
    """Blocks that actors are given, in their order, each with what a step computes of it."""

    def __init__(self, blocks: Iterable[Sequence[Unit]], program: object, arrays: object) -> None:
        self._waiting = enumerate(blocks)
        self._asked = program, arrays
        self._running: dict[Any, tuple[int, Sequence[Unit], Any]] = {}

    def __iter__(self) -> Iterator[Any]:
        """References to sums that are not there yet."""
        return iter([*self._running])

    def __contains__(self, reference: object) -> bool:
        return reference in self._running

    def give(self, actor: Any) -> None:
        """Give an actor the next block, if there is one."""
        for place, units in self._waiting:
            self._begin(actor, place, units)
            break

    def actor(self, reference: object) -> Any:
        """The actor that has a block."""
        return self._running[reference][2]

    def computed(self, actor: object) -> Sequence[Unit]:
        """What an actor computes, or died of: the block that it was given first."""
        return next(units for _, units, taker in self._running.values() if taker is actor)

    def ended(self, reference: object) -> int:
        """The place of a block whose sum is there."""
        place, _, _ = self._running.pop(reference)
        return place

    def hand_over(self, actor: object, other: Any) -> None:
        """Give another actor all that one has that died."""
        for reference in self:
            if self.actor(reference) is actor:
                place, units, _ = self._running.pop(reference)
                self._begin(other, place, units)

    def _begin(self, actor: Any, place: int, units: Sequence[Unit]) -> None:
        self._running[actor.sum_over.remote(*self._asked, units)] = place, units, actor
