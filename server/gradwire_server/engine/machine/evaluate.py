"""One request: what examples share, tiles of examples by whoever has time, and what examples share again.

Tiles are the same however many threads there are. A chunk of them is one thread's, which adds up their sums in their
order; the sums of chunks are added in theirs. So no bit depends on threads.
"""

from __future__ import annotations

from typing import Any

from numba import int64

from gradwire_server.engine.compiled import compiled
from gradwire_server.engine.lowering import rows as r
from gradwire_server.engine.machine.memory import called, fetch_add, give_way, peek, pointer, poke, unsigned
from gradwire_server.engine.machine.walker import execute

SHARED_FORWARD, FORWARD, BACKWARD, SHARED_BACKWARD, WEIGHTS = range(5)


@called
def _section(block: int, w: Any, section: int, one: Any) -> bool:
    """Run a section; whether it went to its end."""
    c = pointer(block, int64(0))
    execute(block, w[r.W_SECTIONS + 2 * section], w[r.W_SECTIONS + 2 * section + 1], one)
    return c[r.C_STATUS] & (r.BAD_INDEX | r.STOPPED) == 0


@called
def _attach(c: Any) -> None:
    """Give the buffers of a request the addresses of its arrays."""
    slots, objects, offset = pointer(c[r.C_SLOTS], int64(0)), pointer(c[r.C_OBJECTS], int64(0)), c[r.C_OFFSET]
    for k in range(c[r.C_OBJECT_COUNT]):
        c[slots[k]] = pointer(objects[k] + offset, int64(0))[0] if offset else objects[k]


@called
def _collect(c: Any, w: Any, totals: Any, one: Any) -> None:
    """Add the sums of a tile to those of its chunk; those that are not finite are noted."""
    sums, bad = pointer(c[r.C_BUFFERS + 2 * w[r.W_SUMS_BUFFER]], one), False
    for k in range(unsigned(w[r.W_SUMS])):
        own = sums[k]
        bad = bad | (own - own != 0)
        totals[k] += own
    if bad:
        c[r.C_STATUS] |= r.BAD_GRADIENT


@called
def _chunk(block: int, w: Any, chunk: int, one: Any) -> None:
    """The tiles of a chunk, one after another."""
    c = pointer(block, int64(0))
    tiles, chunks, tile, sums = w[r.W_TILES], w[r.W_CHUNKS], w[r.W_TILE], w[r.W_SUMS]
    totals, flags = pointer(w[r.W_TOTALS] + 8 * chunk * sums, 1.0), pointer(w[r.W_FLAGS], int64(0))
    c[r.C_LOSS] = w[r.W_LOSSES] + 8 * chunk
    pointer(c[r.C_LOSS], 1.0)[0] = 0.0
    for k in range(unsigned(sums)):
        totals[k] = 0.0
    for t in range(chunk * tiles // chunks, (chunk + 1) * tiles // chunks):
        c[r.C_FIRST] = t * tile
        c[r.C_LANES] = min(tile, w[r.W_EXAMPLES] - t * tile)
        c[r.C_STATUS] = w[r.W_STATUS] & r.BAD_VALUE
        if _section(block, w, FORWARD, one) and _section(block, w, BACKWARD, one):
            _collect(c, w, totals, one)
        flags[t] = c[r.C_STATUS]
        if c[r.C_STATUS] & (r.BAD_INDEX | r.STOPPED) != 0:
            return


@called
def _lead(block: int, w: Any, one: Any) -> None:
    c = pointer(block, int64(0))
    c[r.C_LANES], c[r.C_FIRST], c[r.C_STATUS] = 1, 0, 0
    _section(block, w, SHARED_FORWARD, one)
    w[r.W_STATUS] = c[r.C_STATUS]


@called
def _finish(block: int, w: Any, one: Any) -> None:
    """Add the sums of chunks in their order, and go back through what examples share."""
    c = pointer(block, int64(0))
    totals, losses, sums = pointer(w[r.W_TOTALS], 1.0), pointer(w[r.W_LOSSES], 1.0), unsigned(w[r.W_SUMS])
    for chunk in range(unsigned(1), unsigned(w[r.W_CHUNKS])):
        losses[0] += losses[chunk]
        for k in range(sums):
            totals[k] += totals[chunk * sums + k]
    flags = pointer(w[r.W_FLAGS], int64(0))
    status = w[r.W_STATUS]
    for t in range(w[r.W_TILES]):
        status |= flags[t]
    w[r.W_STATUS] = status
    if status & (r.BAD_INDEX | r.STOPPED) != 0:
        return
    c[r.C_LANES], c[r.C_FIRST], c[r.C_TOTALS], c[r.C_STATUS] = 1, 0, w[r.W_TOTALS], status
    _section(block, w, SHARED_BACKWARD, one)
    w[r.W_STATUS] = c[r.C_STATUS]


@called
def _weights(block: int, work: int, one: Any) -> None:
    """Gradients of weights from all examples at once, one row after another, by whoever has time."""
    c, w = pointer(block, int64(0)), pointer(work, int64(0))
    while peek(work + 8 * r.W_DONE) < w[r.W_CHUNKS]:
        give_way(w[r.W_YIELD])
    begin, end = w[r.W_SECTIONS + 2 * WEIGHTS], w[r.W_SECTIONS + 2 * WEIGHTS + 1]
    flags, status = pointer(w[r.W_FLAGS], int64(0)), w[r.W_STATUS]
    for t in range(w[r.W_TILES]):
        status |= flags[t]
    while w[r.W_WEIGHTS] > 0:
        number = fetch_add(work + 8 * r.W_WEIGHT, 1)
        if number >= w[r.W_WEIGHTS]:
            break
        # All rows have one length.
        size = (end - begin) // w[r.W_WEIGHTS]
        c[r.C_LANES], c[r.C_FIRST], c[r.C_STATUS] = w[r.W_EXAMPLES], 0, status
        if status & (r.BAD_INDEX | r.STOPPED) == 0:
            execute(block, begin + number * size, begin + (number + 1) * size, one)
        fetch_add(work + 8 * r.W_WEIGHTS_DONE, 1)


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
    _attach(pointer(own, int64(0)))
    if leads:
        _lead(own, w, one)
        poke(work + 8 * r.W_READY, 1)
    while peek(work + 8 * r.W_READY) == 0:
        give_way(w[r.W_YIELD])
    stops = w[r.W_STATUS] & (r.BAD_INDEX | r.STOPPED) != 0
    while not stops:
        chunk = fetch_add(work + 8 * r.W_NEXT, 1)
        if chunk >= w[r.W_CHUNKS]:
            break
        _chunk(own, w, chunk, one)
        fetch_add(work + 8 * r.W_DONE, 1)
    if not stops:
        _weights(own, work, one)
    if leads and not stops:
        while peek(work + 8 * r.W_WEIGHTS_DONE) < w[r.W_WEIGHTS]:
            give_way(w[r.W_YIELD])
        _finish(own, w, one)
