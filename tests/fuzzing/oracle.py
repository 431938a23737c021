"""What the compiled kernel computes against what NumPy computes for the same request."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from unittest.mock import patch

import numpy as np

from gradwire_server.engine import (
    OPS,
    Evaluation,
    Graph,
    Limits,
    Operation,
    Program,
    Query,
    bind,
    compile_graph,
    run,
    trace,
    unhurried,
)

MODERATE = 1e5
"""Values and gradients beyond which rounding makes any comparison vain."""

TOLERANCE = {4: 1e-2, 8: 1e-8}
"""By item size: how far results of the two may be apart, relative to the largest number on the way."""

WITHOUT_KERNELS = {name: replace(op, kernel=None) for name, op in OPS.items()}


def agree(graph: Graph, query: Query, limits: Limits) -> None:
    """Compute with and without the kernel.

    Raises:
        AssertionError: The results differ.
        Refusal: The graph or the query is refused.
    """
    compiled = compile_graph(graph, limits)
    with patch("gradwire_server.engine.compiler.OPS", WITHOUT_KERNELS):
        plain = compile_graph(graph, limits)
    needed = _ancestors(graph)
    everything = replace(
        query, outputs=tuple(node for node in needed if not compiled.is_integer(node)), reject_non_finite=False
    )
    evaluations = [run(bind(program, everything, limits), unhurried) for program in (compiled, plain)]
    alone = run(bind(compiled, query, limits), unhurried)
    ours, numpy = evaluations
    assert (ours.non_finite is None) == (numpy.non_finite is None), (ours.non_finite, numpy.non_finite)
    if numpy.non_finite is not None:
        return
    largest = _largest(plain, query, limits)
    if largest > MODERATE:
        return
    within = TOLERANCE[query.dtype.itemsize] * max(1.0, largest)
    for node, value in numpy.outputs.items():
        _near(ours.outputs[node], value, within, f"value of nodes[{node}]")
    _near(ours.loss, numpy.loss, within, "loss")
    _near(alone.loss, numpy.loss, within, "loss alone")
    if not _same_choices(graph, ours, numpy):
        return
    for name, gradient in numpy.gradients.items():
        count = max(1, numpy.examples)
        _near(ours.gradients[name], gradient, within * count, f"gradient in {name}")
        _near(alone.gradients[name], gradient, within * count, f"gradient in {name} alone")


def _ancestors(graph: Graph) -> list[int]:
    needed = {graph.loss}
    for index in range(graph.loss, -1, -1):
        node = graph.nodes[index]
        if index in needed and isinstance(node, Operation):
            needed.update(node.operands)
    return sorted(needed)


def _same_choices(graph: Graph, ours: Evaluation, numpy: Evaluation) -> bool:
    """Whether every maximum chose among the same numbers: where they differ in a last bit, others may win."""
    read = {
        operand
        for node in graph.nodes
        if isinstance(node, Operation) and node.op in ("max", "reduce_max", "scalars")
        for operand in node.operands
    }
    return all(np.array_equal(ours.outputs[node], value) for node, value in numpy.outputs.items() if node in read)


def _largest(program: Program, query: Query, limits: Limits) -> float:
    """The largest value or gradient on the way, over all examples."""
    largest = 0.0
    batched = [source.name for source in program.sources if source.per_example]
    count = len(query.arrays[batched[0]]) if batched else 1
    for example in range(count):
        arrays = {name: array[example] if name in batched else array for name, array in query.arrays.items()}
        for node in trace(program, arrays, query.dtype, limits, unhurried).nodes:
            edges = [edge.gradient for edge in node.operands]
            for array in (node.value, node.gradient, *edges):
                if array is not None and array.size:
                    found = float(np.abs(array.astype(float)).max())
                    largest = max(largest, found) if np.isfinite(found) else np.inf
    return largest


def _near(found: Any, expected: Any, within: float, what: str) -> None:
    np.testing.assert_allclose(found, expected, rtol=0, atol=within, err_msg=what)
