"""What the machine computes against what the reference computes for the same request, example by example."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import islice
from typing import Any, NamedTuple

import numpy as np

from gradwire_server.engine import (
    Evaluation,
    Graph,
    Input,
    Limits,
    NonFinite,
    Phase,
    Program,
    Query,
    Reduction,
    bind,
    compile_graph,
    run,
    unhurried,
)
from gradwire_server.engine.explain.report import explain_non_finite
from gradwire_server.engine.graph.checking import Checked
from gradwire_server.engine.graph.opcodes import Opcode
from gradwire_server.engine.reference.interpreter import Numbers, backward, forward, needed
from gradwire_server.engine.reference.rule import Part
from gradwire_server.errors import Reason, Refusal

MODERATE = 1e5
"""Values and gradients beyond which rounding makes any comparison vain."""

TOLERANCE = {4: 1e-2, 8: 1e-8}
"""By item size: how far results of the two may be apart, relative to the largest number on the way."""


class Reference(NamedTuple):
    """What the reference makes of one example."""

    values: Numbers
    gradients: dict[str, Any]
    """By source."""
    largest: float
    """Of all values and gradients, and of what is added up to these; infinite if one is not finite."""


def agree(graph: Graph, query: Query, limits: Limits) -> None:
    """Compute with the machine and with the reference.

    Raises:
        AssertionError: The results differ.
        Refusal: The graph or the query is refused.
    """
    program = compile_graph(graph, limits)
    # As if no node were packed, so that each may be an output.
    opened = compile_graph(replace(graph, origins=None), limits)
    checked = opened.checked
    nodes = np.flatnonzero(needed(checked, [graph.loss])).tolist()
    floats = tuple(node for node in nodes if not _is_integer(checked, node))
    everything = bind(opened, query._replace(outputs=floats, reject_non_finite=False), limits)
    wrt = [source.node for source in everything.wrt]
    try:
        ours = run(everything, unhurried)
    except Refusal as refusal:
        if refusal.reason is Reason.INDEX_OUT_OF_RANGE and not _out_of_range(checked, query):
            raise AssertionError(refusal.message) from refusal
        raise
    found = [_interpreted(checked, arrays, query, wrt) for arrays in _examples(checked, query)]
    examples = ours.examples
    if not examples:
        _nothing(ours, query)
    elif _same_report(checked, query, wrt, found, ours.non_finite):
        _same(program, checked, query, limits, ours, found)


def _same(
    program: Program, checked: Checked, query: Query, limits: Limits, ours: Evaluation, found: list[Reference]
) -> None:
    largest = max(example.largest for example in found)
    if largest > MODERATE:
        return
    within = TOLERANCE[query.dtype.itemsize] * max(1.0, largest)
    summed = within * (len(found) if query.reduction is Reduction.SUM else 1)
    values = {node: _stacked(found, node, each=bool(checked.per_example[node])) for node in ours.outputs}
    for node, value in values.items():
        _near(ours.outputs[node], value, within, f"value of nodes[{node}]")
    losses = _stacked(found, checked.graph.loss, each=True)
    loss = _reduced(losses, checked, query, each=False)
    _near(ours.loss, loss, summed, "loss")
    alone = run(bind(program, query, limits), unhurried)
    _near(alone.loss, loss, summed, "loss alone")
    for sent, output in alone.outputs.items():
        node = program.facts.received(sent)
        if node in values:
            _near(output, values[node], within, f"value of nodes[{node}] alone")
    if not _same_choices(checked.graph, ours, values):
        return
    for name, gradient in ours.gradients.items():
        source = next(source for source in checked.sources if source.name == name)
        own = np.stack([example.gradients[name] for example in found])
        expected = _reduced(own, checked, query, each=source.per_example)
        _near(gradient, expected, summed, f"gradient in {name}")
        _near(alone.gradients[name], expected, summed, f"gradient in {name} alone")


def _examples(checked: Checked, query: Query) -> Iterator[dict[str, Any]]:
    """The arrays of each example."""
    batched = [source.name for source in checked.sources if source.per_example]
    for example in range(len(query.arrays[batched[0]]) if batched else 1):
        yield {name: array[example] if name in batched else array for name, array in query.arrays.items()}


def _interpreted(checked: Checked, arrays: Mapping[str, Any], query: Query, wrt: Iterable[int]) -> Reference:
    added = [0.0]
    mask = needed(checked, [checked.graph.loss])
    values = forward(checked, arrays, query.dtype, mask)
    wanted = checked.active(wrt)

    def observe(_: Any, __: int, contribution: Any) -> None:
        added.append(_extent(contribution.numbers if isinstance(contribution, Part) else contribution))

    gradients = backward(checked, values, wanted, observe)
    numbers = [values[node] for node in np.flatnonzero(mask).tolist()]
    numbers += [gradients[node] for node in np.flatnonzero(wanted).tolist()]
    of_sources = {
        source.name: gradients[source.node] if wanted[source.node] else np.zeros(source.shape, query.dtype)
        for source in checked.sources
        if source.node in wrt
    }
    return Reference(values, of_sources, max(*added, *map(_extent, numbers)))


def _extent(array: Any) -> float:
    """The largest magnitude; infinite if an element is not finite. Row indices have none."""
    if not np.size(array) or array.dtype == np.int64:
        return 0.0
    found = float(np.abs(array).max())
    return found if np.isfinite(found) else np.inf


def _same_report(
    checked: Checked, query: Query, wrt: list[int], found: list[Reference], report: NonFinite | None
) -> bool:
    """Whether all is finite; the two must say the same of it: the lowest example, and there the first node."""
    for example, arrays in enumerate(_examples(checked, query)):
        if np.isfinite(found[example].largest):
            continue
        expected = explain_non_finite(checked, arrays, query.dtype, wrt, (), example)
        if expected is not None:
            assert report is not None, expected.message
            assert _place(report) == _place(expected), (report.message, expected.message)
            return False
    # The sum of finite numbers may be infinite.
    assert report is None or report.phase is Phase.REDUCTION, report.message
    return report is None


def _place(report: NonFinite) -> tuple[Any, ...]:
    return report.phase, report.node, report.example, report.position


def _out_of_range(checked: Checked, query: Query) -> bool:
    """Whether the reference finds an index out of range too."""
    mask = needed(checked, [checked.graph.loss])
    try:
        for arrays in _examples(checked, query):
            forward(checked, arrays, query.dtype, mask)
    except Refusal:
        return True
    return False


def _nothing(ours: Evaluation, query: Query) -> None:
    """Check what no examples give."""
    if query.reduction is Reduction.SUM and ours.non_finite is None:
        for array in (ours.loss, *ours.gradients.values()):
            np.testing.assert_array_equal(array, 0)


def _reduced(rows: Any, checked: Checked, query: Query, *, each: bool) -> Any:
    """What becomes of a number of each example; with ``each`` examples keep their own."""
    if not checked.batched:
        return rows[0]
    if query.reduction is Reduction.NONE:
        return rows
    divisor = len(rows) if query.reduction is Reduction.MEAN else 1
    return (rows if each else rows.sum(axis=0, dtype=np.float64)) / divisor


def _stacked(found: list[Reference], node: int, *, each: bool) -> Any:
    arrays = [np.asarray(example.values[node]) for example in islice(found, None if each else 1)]
    return np.stack(arrays) if each else arrays[0]


def _is_integer(checked: Checked, node: int) -> bool:
    content = checked.graph.contents.get(node)
    return content.integer if isinstance(content, Input) else getattr(content, "dtype", None) == np.int64


def _same_choices(graph: Graph, ours: Evaluation, values: Mapping[int, Any]) -> bool:
    """Whether every maximum chose among the same numbers: where they differ in a last bit, others may win."""
    read = {
        operand
        for node in np.flatnonzero(np.isin(graph.opcodes, [Opcode.MAX, Opcode.REDUCE_MAX])).tolist()
        for operand in graph.operands_of(node)
    }
    return all(np.array_equal(ours.outputs[node], value) for node, value in values.items() if node in read)


def _near(found: Any, expected: Any, within: float, what: str) -> None:
    np.testing.assert_allclose(found, expected, rtol=0, atol=within, err_msg=what)
