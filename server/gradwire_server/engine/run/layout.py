"""How a request is cut into tiles and chunks, and what time and memory it takes.

All follows from the request alone, so that the order of sums does, and all is known before anything is taken.
"""

from __future__ import annotations

from dataclasses import dataclass

from gradwire_server.engine.lowering import rows as r
from gradwire_server.engine.lowering.buffers import OF_ALL, OF_LANES, Own
from gradwire_server.engine.lowering.code import Code

TILE_BYTES = 512 << 10
"""Bytes that inputs, values and gradients of a tile may take: half of a cache that a core has of its own."""

NARROWEST, WIDEST = 32, 4096
"""Lanes of a tile, whatever they take."""

PRODUCT_LANES = 128
"""Lanes with which a product of matrices runs at its full speed."""

ONE_THREAD_SECONDS = 2e-4
"""Work that is not worth a second thread."""

SECONDS_PER_STEP = 3e-10
SECONDS_PER_ROW = 4e-8
SECONDS_PER_REQUEST = 5e-6
SECONDS_PER_THREAD = 1.2e-4
"""Work that another thread is worth."""

KEPT_BYTES = 64 << 20
"""Bytes that values and gradients of all examples may take that are kept for gradients of weights."""

MAX_CHUNKS, SUM_ELEMENTS = 32, 1 << 23
"""Chunks of tiles at most, and elements of float64 that their sums may take together."""


@dataclass(frozen=True, slots=True)
class Layout:
    """How a request runs."""

    examples: int
    tile: int
    """Lanes of a tile."""
    tiles: int
    chunks: int
    threads: int
    """Threads that it is worth, and that its memory is counted for."""
    cost: float
    """Rough estimate of the computing time, in seconds on one core."""
    memory: int
    """Bytes that are taken for it, results included."""
    results: int
    """Bytes of results."""

    @property
    def direct(self) -> bool:
        """Whether gradients of sources add up where they are returned: there is one tile."""
        return self.tiles == 1


def layout_of(
    code: Code, examples: int, itemsize: int, streamed: int, results: int, threads: int, limit: int
) -> Layout:
    """The layout of a request.

    Args:
        code: What runs.
        examples: N.
        itemsize: Bytes of a number.
        streamed: Elements of inputs of one example.
        results: Bytes of results.
        threads: Threads there are.
        limit: Bytes that it should stay below, if that takes only fewer threads.
    """
    sizes = code.sizes
    shared, forward, backward, shared_backward, weights = code.sections
    own = sum(sizes.own[buffer] for buffer in OF_LANES)
    a_lane = max(1, (own + streamed) * itemsize)
    work = forward.work + backward.work + weights.work
    count = examples if forward.end > forward.begin else 0
    seconds = work * count * SECONDS_PER_STEP
    tile = max(1, min(count, _lanes(a_lane, code.has_products)))
    tiles = -(-count // tile)
    most = 1 if seconds < ONE_THREAD_SECONDS else MAX_CHUNKS
    chunks = min(tiles, most, max(1, SUM_ELEMENTS // max(1, sizes.own[Own.SUMS] + sizes.source_sums)))
    rows = (forward.rows + backward.rows) * tiles + shared.rows + shared_backward.rows
    steps = work * count + shared.work + shared_backward.work
    cost = SECONDS_PER_REQUEST + SECONDS_PER_ROW * rows + SECONDS_PER_STEP * steps
    sums = sizes.own[Own.SUMS] + (sizes.source_sums if tiles > 1 else 0)
    a_thread = (tile * own + sizes.scratch + sums) * itemsize
    a_thread += 8 * (sizes.wide + tile * sizes.wide_of_lane + len(code.modes) * 2 + r.C_BUFFERS)
    once = (sum(sizes.own[buffer] for buffer in OF_ALL) + examples * sum(sizes.kept.values())) * itemsize
    once += 8 * (chunks * (sums + 1) + tiles) + len(code.data.constants) * itemsize + results

    threads = max(1, min(threads, chunks, round(cost / SECONDS_PER_THREAD)))
    while threads > 1 and once + threads * a_thread > limit:
        threads -= 1
    return Layout(examples, tile, tiles, chunks, threads, cost, once + threads * a_thread, results)


def defers(code: Code, layout: Layout, itemsize: int) -> bool:
    """Whether gradients of weights are better computed when all tiles are done."""
    kept = code.deferrable * layout.examples * itemsize
    return layout.tiles > 1 and 0 < kept <= KEPT_BYTES


def _lanes(nbytes: int, products: bool) -> int:
    """Lanes of a tile, of which each takes that many bytes."""
    fitting = 1 << max(0, (TILE_BYTES // nbytes).bit_length() - 1)
    least = PRODUCT_LANES if products else NARROWEST
    while least > 8 and least * nbytes > 16 * TILE_BYTES:
        least //= 2
    return min(WIDEST, max(fitting, least))
