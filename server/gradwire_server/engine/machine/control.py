"""The block that a thread runs with: where its buffers are, which examples it computes, what it found."""

from __future__ import annotations

from typing import Any

from gradwire_server.engine.lowering import rows as r
from gradwire_server.engine.machine.memory import inlined, peek


@inlined
def address_of(c: Any, row: Any, at: int, size: int) -> int:
    """The address that a reference means for the tile that runs; ``size`` is that of an element, in bytes."""
    base, mode = c[r.C_BUFFERS + 2 * row[at]], c[r.C_BUFFERS + 2 * row[at] + 1]
    place = row[at + 1]
    if mode == r.TILE:
        place *= c[r.C_LANES]
    elif mode == r.EXAMPLES:
        place += c[r.C_FIRST] * row[at + 3]
    return base + (place + row[at + 2]) * size


@inlined
def lengthened(c: Any, row: Any, at: int) -> int:
    """A length, times lanes if the integer behind it says so."""
    return row[at] * c[r.C_LANES] if row[at + 1] else row[at]


@inlined
def stops(c: Any) -> bool:
    """Whether the work is to stop, which is noted."""
    if peek(c[r.C_STOP]) == 0:
        return False
    c[r.C_STATUS] |= r.STOPPED
    return True
