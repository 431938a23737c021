"""One request: what examples share, tiles of examples by whoever has time, and what examples share again.

Tiles are the same however many threads there are. A chunk of them is one thread's, which adds up their sums in their
order; the sums of chunks are added in theirs. So no bit depends on threads.
"""

from __future__ import annotations

from typing import Any

from numba import int64

from gradwire_server.engine.compiled import compiled
from gradwire_server.engine.lowering.rows import (
    BAD_GRADIENT,
    BAD_INDEX,
    BAD_VALUE,
    C_BUFFERS,
    C_EXAMPLE,
    C_FIRST,
    C_INDEX,
    C_LANES,
    C_LOSS,
    C_NODE,
    C_POSITION,
    C_STATUS,
    C_TOTALS,
    STOPPED,
    W_CHUNKS,
    W_DONE,
    W_EXAMPLES,
    W_FAULTS,
    W_FLAGS,
    W_LOSSES,
    W_NEXT,
    W_READY,
    W_SECTIONS,
    W_STATUS,
    W_SUMS,
    W_SUMS_BUFFER,
    W_TILE,
    W_TILES,
    W_TOTALS,
    W_WEIGHT,
    W_WEIGHTS,
    W_WEIGHTS_DONE,
    W_YIELD,
)
from gradwire_server.engine.machine.memory import called, fetch_add, give_way, peek, pointer, poke, unsigned
from gradwire_server.engine.machine.walker import execute

SHARED_FORWARD, FORWARD, BACKWARD, SHARED_BACKWARD, WEIGHTS = range(5)


@called
def _section(block: int, w: Any, section: int, one: Any) -> bool:
    """Run a section; whether it went to its end."""
    c = pointer(block, int64(0))
    execute(block, w[W_SECTIONS + 2 * section], w[W_SECTIONS + 2 * section + 1], one)
    return c[C_STATUS] & (BAD_INDEX | STOPPED) == 0


@called
def _collect(c: Any, w: Any, totals: Any, one: Any) -> None:
    """Add the sums of a tile to those of its chunk; those that are not finite are noted."""
    sums, bad = pointer(c[C_BUFFERS + 2 * w[W_SUMS_BUFFER]], one), False
    for k in range(unsigned(w[W_SUMS])):
        own = sums[k]
        bad = bad | (own - own != 0)
        totals[k] += own
    if bad:
        c[C_STATUS] |= BAD_GRADIENT


@called
def _chunk(block: int, w: Any, chunk: int, one: Any) -> None:
    """The tiles of a chunk, one after another."""
    c = pointer(block, int64(0))
    tiles, chunks, tile, sums = w[W_TILES], w[W_CHUNKS], w[W_TILE], w[W_SUMS]
    totals, flags = pointer(w[W_TOTALS] + 8 * chunk * sums, 1.0), pointer(w[W_FLAGS], int64(0))
    c[C_LOSS] = w[W_LOSSES] + 8 * chunk
    pointer(c[C_LOSS], 1.0)[0] = 0.0
    for k in range(unsigned(sums)):
        totals[k] = 0.0
    for t in range(chunk * tiles // chunks, (chunk + 1) * tiles // chunks):
        c[C_FIRST] = t * tile
        c[C_LANES] = min(tile, w[W_EXAMPLES] - t * tile)
        c[C_STATUS] = w[W_STATUS] & BAD_VALUE
        if _section(block, w, FORWARD, one) and _section(block, w, BACKWARD, one):
            _collect(c, w, totals, one)
        flags[t] = c[C_STATUS]
        if c[C_STATUS] & (BAD_INDEX | STOPPED) != 0:
            faults = pointer(w[W_FAULTS] + 32 * chunk, int64(0))
            faults[0], faults[1], faults[2], faults[3] = c[C_NODE], c[C_EXAMPLE], c[C_POSITION], c[C_INDEX]
            return


@called
def _lead(block: int, w: Any, one: Any) -> None:
    c = pointer(block, int64(0))
    c[C_LANES], c[C_FIRST], c[C_STATUS] = 1, 0, 0
    _section(block, w, SHARED_FORWARD, one)
    w[W_STATUS] = c[C_STATUS]


@called
def _finish(block: int, w: Any, one: Any) -> None:
    """Add the sums of chunks in their order, and go back through what examples share."""
    c = pointer(block, int64(0))
    totals, losses, sums = pointer(w[W_TOTALS], 1.0), pointer(w[W_LOSSES], 1.0), unsigned(w[W_SUMS])
    for chunk in range(unsigned(1), unsigned(w[W_CHUNKS])):
        losses[0] += losses[chunk]
        for k in range(sums):
            totals[k] += totals[chunk * sums + k]
    flags = pointer(w[W_FLAGS], int64(0))
    status = w[W_STATUS]
    for t in range(w[W_TILES]):
        status |= flags[t]
    w[W_STATUS] = status
    if status & (BAD_INDEX | STOPPED) != 0:
        return
    c[C_LANES], c[C_FIRST], c[C_TOTALS], c[C_STATUS] = 1, 0, w[W_TOTALS], status
    _section(block, w, SHARED_BACKWARD, one)
    w[W_STATUS] = c[C_STATUS]


@called
def _weights(block: int, work: int, one: Any) -> None:
    """Gradients of weights from all examples at once, one row after another, by whoever has time."""
    c, w = pointer(block, int64(0)), pointer(work, int64(0))
    while peek(work + 8 * W_DONE) < w[W_CHUNKS]:
        give_way(w[W_YIELD])
    begin, end = w[W_SECTIONS + 2 * WEIGHTS], w[W_SECTIONS + 2 * WEIGHTS + 1]
    flags, status = pointer(w[W_FLAGS], int64(0)), w[W_STATUS]
    for t in range(w[W_TILES]):
        status |= flags[t]
    while w[W_WEIGHTS] > 0:
        number = fetch_add(work + 8 * W_WEIGHT, 1)
        if number >= w[W_WEIGHTS]:
            break
        # All rows have one length.
        size = (end - begin) // w[W_WEIGHTS]
        c[C_LANES], c[C_FIRST], c[C_STATUS] = w[W_EXAMPLES], 0, status
        if status & (BAD_INDEX | STOPPED) == 0:
            execute(block, begin + number * size, begin + (number + 1) * size, one)
        fetch_add(work + 8 * W_WEIGHTS_DONE, 1)


@compiled
def evaluate(own: int, work: int, leads: bool, one: Any) -> None:
    """What a thread does for a request.

    Args:
        own: Address of the thread's block, see ``rows``.
        work: Address of the block that threads share.
        leads: Whether the thread does what examples share; there is one such thread.
        one: 1 in the type of the request.
    """
    w = pointer(work, int64(0))
    if leads:
        _lead(own, w, one)
        poke(work + 8 * W_READY, 1)
    while peek(work + 8 * W_READY) == 0:
        give_way(w[W_YIELD])
    stops = w[W_STATUS] & (BAD_INDEX | STOPPED) != 0
    while not stops:
        chunk = fetch_add(work + 8 * W_NEXT, 1)
        if chunk >= w[W_CHUNKS]:
            break
        _chunk(own, w, chunk, one)
        fetch_add(work + 8 * W_DONE, 1)
    if not stops:
        _weights(own, work, one)
    if leads and not stops:
        while peek(work + 8 * W_WEIGHTS_DONE) < w[W_WEIGHTS]:
            give_way(w[W_YIELD])
        _finish(own, w, one)
