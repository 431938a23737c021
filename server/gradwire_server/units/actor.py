"""What an actor of Ray does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gradwire._arrays import Array
    from gradwire_server.units.formats import Unit
    from gradwire_server.units.sums import Partial, Program


class Actor:
    """Reads units and computes, in a process of Ray's.

    The engine is imported by what is asked first: a process that it ends, such as for want of memory, has then died in
    a task, and Ray counts how often that is done again. An actor that dies while it is made is made again for ever.
    """

    def __init__(self, threads: int) -> None:
        self._threads = threads

    def sum_over(self, program: Program, arrays: Mapping[str, Array], units: Sequence[Unit]) -> Partial:
        """See ``gradwire_server.units.sums.sum_over``."""
        from gradwire_server.units.sums import sum_over  # noqa: PLC0415  (see above)

        return sum_over(program, arrays, units, self._threads)
