"""The block that a thread runs with: where its buffers are, which examples it computes, what it found."""

from __future__ import annotations

from typing import Any

from gradwire_server.engine.lowering.rows import C_BUFFERS, C_FIRST, C_LANES, C_STATUS, C_STOP, EXAMPLES, STOPPED, TILE
from gradwire_server.engine.machine.memory import inlined, peek


@inlined
def address_of(c: Any, row: Any, at: int, size: int) -> int:
    """The address that a reference means for the tile that runs; ``size`` is that of an element, in bytes."""
    base, mode = c[C_BUFFERS + 2 * row[at]], c[C_BUFFERS + 2 * row[at] + 1]
    place = row[at + 1]
    if mode == TILE:
        place *= c[C_LANES]
    elif mode == EXAMPLES:
        place += c[C_FIRST] * row[at + 3]
    return base + (place + row[at + 2]) * size


@inlined
def lengthened(c: Any, row: Any, at: int) -> int:
    """A length, times lanes if the integer behind it says so."""
    return row[at] * c[C_LANES] if row[at + 1] else row[at]


@inlined
def stops(c: Any) -> bool:
    """Whether the work is to stop, which is noted."""
    if peek(c[C_STOP]) == 0:
        return False
    c[C_STATUS] |= STOPPED
    return True
