"""The instructions of a graph, of which those on scalars are made only if somebody asks for them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cached_property

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

    @cached_property
    def instructions(self) -> tuple[Instruction | None, ...]:
        """All of them."""
        found = list(self._found)
        for instruction in self._make():
            found[instruction.node] = instruction
        return tuple(found)
