"""One example in full: every node's value, and the gradient on every edge."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from gradwire_server.engine import nonfinite
from gradwire_server.engine.checkpoints import BETWEEN_CHECKPOINTS, Checkpoint, checked
from gradwire_server.engine.diagnosis import bad_step
from gradwire_server.engine.executor import Adjoints, backward, forward
from gradwire_server.engine.graph import Array, Input
from gradwire_server.engine.instruction import Instruction
from gradwire_server.engine.job import Job, bind, within
from gradwire_server.engine.layout import Layout
from gradwire_server.engine.memory import UNSET, Arena
from gradwire_server.engine.nodes import Nodes
from gradwire_server.engine.nonfinite import NonFinite
from gradwire_server.engine.program import Program
from gradwire_server.engine.query import Query
from gradwire_server.limits import Limits

NODE_BYTES, EDGE_BYTES = 1200, 1000
"""Of objects of Python and in the reply, for a node and for an edge, besides their elements."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EdgeTrace:
    """What one consumer adds to the gradient of its operand ``node``; None for row indices."""

    node: int
    gradient: Array | None


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeTrace:
    """What happened at a node; ``gradient`` is None for row indices."""

    name: str
    op: str
    value: Array
    gradient: Array | None
    operands: tuple[EdgeTrace, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """Every node of the graph, in its order."""

    nodes: tuple[NodeTrace, ...]
    non_finite: NonFinite | None


def bind_trace(
    program: Program,
    arrays: Mapping[str, Array],
    dtype: np.dtype[np.floating],
    limits: Limits,
    checkpoint: Checkpoint,
) -> Job:
    """Check what is to be traced; the job says what it costs.

    Raises:
        Refusal: INVALID_TENSOR, LIMIT_EXCEEDED; whatever ``checkpoint`` raises.
    """
    single = _one_example(program, checkpoint)
    everything = tuple(range(len(single.shapes)))
    job = bind(single, Query(arrays=arrays, dtype=dtype, outputs=everything), limits, checkpoint=checkpoint)
    # Values and gradients, these a second time while it is found out which is not finite, and what goes over edges.
    edges = single.nodes.operands
    elements = 3 * sum(single.sizes) + sum(single.sizes[operand] for operand in edges)
    objects = NODE_BYTES * len(everything) + EDGE_BYTES * len(edges)
    return within(replace(job, memory=max(job.memory, elements * dtype.itemsize + objects)), limits)


def trace(
    program: Program,
    arrays: Mapping[str, Array],
    dtype: np.dtype[np.floating],
    limits: Limits,
    checkpoint: Checkpoint,
) -> Trace:
    """Evaluate one example, whose inputs have no axis of examples, and differentiate it in everything.

    Raises:
        Refusal: INVALID_TENSOR, LIMIT_EXCEEDED, INDEX_OUT_OF_RANGE; whatever ``checkpoint`` raises.
    """
    return run_trace(bind_trace(program, arrays, dtype, limits, checkpoint), checkpoint)


def run_trace(job: Job, checkpoint: Checkpoint) -> Trace:
    """Trace what was bound.

    Raises:
        Refusal: INDEX_OUT_OF_RANGE; whatever ``checkpoint`` raises.
    """
    single, arrays, dtype = job.program, job.query.arrays, job.query.dtype
    everything = tuple(range(len(single.shapes)))
    floats = tuple(
        n for n in checked(everything, checkpoint) if single.instructions[n] is None and not single.is_integer(n)
    )
    plan = single.plan(floats, everything, separate=False, plain=True, checkpoint=checkpoint)
    stage = plan.shared
    values = [UNSET] * len(everything)
    for node, constant in single.cast_constants(dtype):
        values[node] = constant
    for source in checked(single.sources, checkpoint):
        values[source.node] = arrays[source.name][..., np.newaxis]
    adjoints: list[Array | None] = [None] * len(everything)
    edges: dict[tuple[int, int], Array] = {}

    def observe(instruction: Instruction, slot: int, contribution: Array) -> None:
        shape = single.shapes[instruction.operands[slot]]
        if len(edges) % BETWEEN_CHECKPOINTS == 0:
            checkpoint()
        edges[instruction.node, slot] = np.broadcast_to(contribution[..., 0], shape).copy()

    with np.errstate(all="ignore"):
        operations = [n for n in checked(everything, checkpoint) if single.instructions[n] is not None]
        layout = Layout.of(checked(operations, checkpoint), single.shapes)
        Arena(layout, 1, dtype).place(values, 1, checkpoint)
        forward(single, stage.instructions, values, 0, checkpoint)
        report = nonfinite.bad_value(single, checked(everything, checkpoint), values, 0)
        gradients = Arena(stage.adjoints, 1, dtype).place(adjoints, 1, checkpoint)
        _seed(single, gradients, adjoints)
        finite = backward(stage.backward, values, adjoints, checkpoint, observe)
        if report is None and not (finite and nonfinite.is_finite(gradients)):
            kept = gradients.copy()
            _seed(single, gradients, adjoints)
            report = bad_step(single, plan, stage.backward, values, adjoints, 0, checkpoint)
            gradients[...] = kept

    def gradient(node: int) -> Array | None:
        adjoint = adjoints[node]
        if adjoint is not None:
            return adjoint[..., 0]
        return None if single.is_integer(node) else np.zeros(single.shapes[node], dtype)

    def edge(node: int, slot: int, operand: int) -> EdgeTrace:
        zero = None if single.is_integer(operand) else np.zeros(single.shapes[operand], dtype)
        return EdgeTrace(node=operand, gradient=edges.get((node, slot), zero))

    nodes = tuple(
        NodeTrace(
            name=single.label(n),
            op=single.kind(n),
            value=values[n][..., 0],
            gradient=gradient(n),
            operands=tuple(
                edge(n, slot, operand) for slot, operand in enumerate(checked(single.operands(n), checkpoint))
            ),
        )
        for n in checked(everything, checkpoint)
    )
    return Trace(nodes=nodes, non_finite=report)


def _seed(program: Program, gradients: Array, adjoints: Adjoints) -> None:
    gradients.fill(0)
    seed = adjoints[program.graph.loss]
    if seed is not None:
        np.add(seed, 1, out=seed)


def _one_example(program: Program, checkpoint: Checkpoint) -> Program:
    """The same graph, its inputs without the axis of examples."""
    given = program.nodes
    others = {
        index: replace(node, per_example=False) if isinstance(node, Input) and node.per_example else node
        for index, node in checked(given.others.items(), checkpoint)
    }
    graph = replace(program.graph, nodes=Nodes(given.ops, given.names, given.operands, given.ends, others))
    return Program(graph, program.shapes, program.applied, program.graph_id, checkpoint, program.columns)
