"""The instructions of a graph, of which those on scalars are made only if somebody asks for them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from gradwire_server.engine.checkpoints import Checkpoint, checked, unhurried
from gradwire_server.engine.instruction import Instruction


class Applied:
    """One instruction for each node; None for sources.

    Args:
        found: Those that are known, and None for others.
        make: Gives those others.
    """

    def __init__(self, found: Sequence[Instruction | None], make: Callable[[], Iterable[Instruction]] = tuple) -> None:
        self._found = found
        self._make = make
        self.known = tuple(i for i in found if i is not None)
        """Those that need not be made."""
        self._all: tuple[Instruction | None, ...] | None = None

    def instructions(self, checkpoint: Checkpoint = unhurried) -> tuple[Instruction | None, ...]:
        """All of them; raises what ``checkpoint`` raises, if some are still to be made."""
        if self._all is None:
            found = list(self._found)
            for instruction in checked(self._make(), checkpoint):
                found[instruction.node] = instruction
            self._all = tuple(found)
        return self._all
