"""How a job is cut into blocks and threads, and what time and memory it takes."""

from __future__ import annotations

from gradwire_server.engine import shapes
from gradwire_server.engine.diagnosis import gradients_of_lane
from gradwire_server.engine.diagnosis import lanes_at_once as lanes_diagnosed
from gradwire_server.engine.kernels.walk import scratch as kernel_scratch
from gradwire_server.engine.measure import Measure
from gradwire_server.engine.memory import VIEW_BYTES
from gradwire_server.engine.ops.op import lanes_at_once
from gradwire_server.engine.plan import Plan
from gradwire_server.engine.program import Program
from gradwire_server.engine.query import Asked
from gradwire_server.engine.shapes import accumulator
from gradwire_server.engine.takes import Takes
from gradwire_server.limits import Limits

BLOCK_BYTES = 4 << 20
"""Bytes that the inputs, values and gradients of a block of examples may take, so that they stay in the cache. Measured
are two or four MB; half a MB, which would stay in the second level, takes longer, for a block has its price."""

MAX_BLOCK_BYTES = 64 << 20
"""Bytes that they may take where tensors are so small that the calls of their operations take all the time."""

WORTHWHILE = 512
"""Elements on which an operation takes about as long as its call."""

MAX_LANES = 4096
"""Examples of a block, at most."""

BLOCK_WORK, PRODUCT_LANES = 1 << 22, 128
"""Elementary steps of a block, so that threads find blocks to share; but so many examples let a matrix product run at
its full speed."""

SECONDS_PER_CALL = 12e-6
SECONDS_PER_STEP = 1e-9
"""Of a call of NumPy or of the kernel, and of its elementary steps, forward and backward together."""

REPORT_BYTES = 64 << 10
"""Of objects of Python, and of a report on what is not finite."""

SECONDS_PER_THREAD = 5e-4
"""Of work that another thread is worth."""


def measured(
    asked: Asked, plan: Plan, limits: Limits, threads: int, lanes: int | None, instead: Takes | None
) -> Measure:
    """What a job takes, in blocks of so many examples if that is said; with memory to run ``instead`` on one thread."""
    program, wrt, outputs, examples, dtype, separate = asked
    shared, own = plan.shared, plan.lanes
    a_lane = own.values.elements + own.adjoints.elements
    if separate:
        a_lane += shared.adjoints.elements
    unshared = a_lane - own.values.elements + own.schedule.whole[1]
    if lanes is None:
        lanes = _lanes(plan, max(1, (unshared + plan.streamed_elements) * dtype.itemsize))
    dependent = program.per_example[program.graph.loss] or any(program.per_example[node] for node in outputs)
    blocks = -(-examples // lanes) if dependent else 0
    results = sum(
        shapes.size(source.shape) * (examples if separate or source.per_example else 1) for source in wrt
    ) + sum(shapes.size(program.shapes[n]) * (examples if program.per_example[n] else 1) for n in outputs)
    if separate:
        results += examples  # The losses.
    calls = blocks * (len(own.schedule.forward) + (len(shared.backward) if separate else 0))
    calls += len(shared.schedule.forward)
    work = own.work * examples + shared.work + results
    cost = SECONDS_PER_CALL * calls + SECONDS_PER_STEP * work
    in_block = min(lanes, max(1, examples))
    wide = accumulator(dtype, blocks) != dtype
    kernel = kernel_scratch(in_block)

    def memory(takes: Takes, threads: int) -> int:
        # What examples share is searched in the places that it has.
        at_once = lanes_diagnosed(takes.gradients, in_block, dtype.itemsize)
        diagnosed = 3 * takes.gradients * at_once if blocks else 0
        # Values and gradients of a block; what operations take; and the search for what made a gradient not finite.
        a_thread = in_block * (takes.values + takes.adjoints) + 2 * kernel
        a_thread += in_block * takes.scratch + diagnosed + takes.shared_scratch
        a_thread += takes.part_scratch * lanes_at_once(takes.part_scratch, in_block)
        waiting = max(1, _ahead(threads, blocks)) * (takes.sums * (in_block if separate else 1) + kernel)
        # A sum over many blocks of float32 is in float64, and is kept while what examples share is differentiated.
        once = takes.shared_values + (5 if wide else 3) * takes.sums + 2 * kernel_scratch(1)
        objects = threads * (REPORT_BYTES + 3 * VIEW_BYTES * takes.nodes)
        return dtype.itemsize * (threads * a_thread + waiting + once + results) + objects

    takes = _taken(program, plan)
    threads = min(threads, max(1, blocks), round(cost / SECONDS_PER_THREAD))
    while threads > 1 and memory(takes, threads) > limits.max_memory_bytes:
        threads -= 1
    needed = memory(takes, max(1, threads))
    return Measure(
        lanes=lanes,
        blocks=blocks,
        threads=threads,
        ahead=_ahead(threads, blocks),
        cost=cost,
        memory=needed if instead is None else max(needed, memory(instead, 1)),
    )


def _taken(program: Program, plan: Plan) -> Takes:
    """What an evaluation takes with this plan."""
    shared, own = plan.shared, plan.lanes
    return Takes(
        values=own.values.elements,
        adjoints=own.adjoints.elements,
        shared_values=shared.values.elements,
        sums=shared.adjoints.elements,
        gradients=gradients_of_lane(program, plan),
        scratch=plan.scratch,
        part_scratch=plan.part_scratch,
        shared_scratch=plan.shared_scratch,
        nodes=len(program.shapes),
    )


def _ahead(threads: int, blocks: int) -> int:
    return min(blocks, 1 if threads <= 1 else 2 * threads)


def _lanes(plan: Plan, nbytes: int) -> int:
    """Examples of a block, of which each takes that many bytes."""
    steps, elements = plan.lanes.schedule.whole
    worthwhile = WORTHWHILE * steps // max(1, elements)
    fitting = max(BLOCK_BYTES // nbytes, min(worthwhile, MAX_BLOCK_BYTES // nbytes))
    fitting = min(fitting, max(PRODUCT_LANES, BLOCK_WORK // max(1, plan.lanes.work)))
    return min(MAX_LANES, 1 << max(0, fitting.bit_length() - 1))
