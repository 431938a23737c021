"""What a request asks of a program, and whether it can be had."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from itertools import islice
from typing import NamedTuple

import numpy as np

from gradwire_server.engine.checkpoints import Checkpoint, checked
from gradwire_server.engine.graph import shapes
from gradwire_server.engine.graph.checking import Source
from gradwire_server.engine.graph.graph import Array, Reduction
from gradwire_server.engine.lowering.question import Question
from gradwire_server.engine.run.facts import Facts
from gradwire_server.errors import Findings, Reason, Refusal, refuse, shown
from gradwire_server.limits import MAX_RANK, Limits

INTEGER = np.dtype(np.int64)
"""The dtype of row indices."""

LISTED = 8
"""Names that a message lists at most."""

HINTS, HINTED, SHOWN = 3, 100, 64
"""Bounds on did-you-mean: hints given, names compared, characters compared (comparing is slow)."""


class Query(NamedTuple):
    """What a request asks of a program."""

    arrays: Mapping[str, Array]
    """By name: [*shape], or [N, *shape] of per-example inputs; C-contiguous, of ``dtype`` or int64."""
    dtype: np.dtype[np.floating]
    """float32 or float64, of the whole computation."""
    reduction: Reduction = Reduction.MEAN
    wrt: tuple[str, ...] | None = None
    """Sources to differentiate in; None means every parameter."""
    outputs: tuple[int, ...] = ()
    """Nodes whose values to return too."""
    reject_non_finite: bool = False


class Asked(NamedTuple):
    """What is asked of a graph, by its own nodes."""

    question: Question
    wrt: tuple[Source, ...]
    examples: int
    """N, or 1 if the graph has no per-example input."""


class Expected:
    """What the arrays of requests must be, for a quick look at those that are all right."""

    def __init__(self, sources: Iterable[Source], dtype: np.dtype[np.floating]) -> None:
        self._sources = [(s.name, INTEGER if s.integer else dtype, s.shape, s.per_example) for s in sources]

    def fits(self, arrays: Mapping[str, Array]) -> int:
        """The number of examples, 1 without per-example inputs; -1 if something is to be looked at more closely."""
        examples = -1
        for name, dtype, shape, batched in self._sources:
            array = arrays.get(name)
            if array is None or (array.dtype is not dtype and array.dtype != dtype):
                return -1
            found = array.shape
            if not batched:
                if found != shape:
                    return -1
            elif found[1:] != shape or not found or found[0] != examples != -1:
                return -1
            else:
                examples = found[0]
        if len(arrays) != len(self._sources):
            return -1
        return 1 if examples < 0 else examples


def fit(program: Facts, query: Query, limits: Limits, checkpoint: Checkpoint) -> Asked:
    """Check a query against a graph, and look up there what it names.

    Raises:
        Refusal: with every finding (INVALID_TENSOR, INVALID_REQUEST, LIMIT_EXCEEDED). Whatever ``checkpoint`` raises.
    """
    findings = Findings()
    _check_tensors(program, query, findings, checkpoint)
    _check_outputs(program, query, findings)
    wrt = _differentiated(program, query, findings, checkpoint)
    findings.check()
    examples = _count_examples(program, query, limits)
    if program.widest_empty * examples >= shapes.MAX_ELEMENTS:
        raise _not_addressable(program, examples)
    separate = program.batched and query.reduction is Reduction.NONE
    outputs = tuple([program.received(node) for node in query.outputs])
    return Asked(Question(tuple([source.node for source in wrt]), outputs, separate), wrt, examples)


def _check_tensors(program: Facts, query: Query, findings: Findings, checkpoint: Checkpoint) -> None:
    def tell(name: str, message: str) -> None:
        findings.tell(Reason.INVALID_TENSOR, message, f"tensors[{shown(name)}]")

    surplus = [name for name in checked(query.arrays, checkpoint) if name not in program.by_name]
    for position, name in enumerate(surplus):
        if findings.another():
            hint = _hint(name, program) if position < HINTS else ""
            tell(name, f"tensor {shown(name)} is surplus: the graph has no parameter or input of that name{hint}")
    for source in checked(program.sources, checkpoint):
        array = query.arrays.get(source.name)
        if array is None:
            if findings.another():
                tell(source.name, f"tensor of {source} is missing; expected shape {_expected(source)}")
            continue
        dtype = INTEGER if source.integer else query.dtype
        if array.dtype != dtype and findings.another():
            tell(source.name, f"tensor of {source} has dtype {array.dtype}; expected {dtype}")
        batch = 1 if source.per_example else 0
        if (array.ndim < batch or array.shape[batch:] != source.shape) and findings.another():
            found = shapes.text(array.shape)
            axis = "" if batch or array.shape[1:] != source.shape else ", with no axis of examples"
            tell(source.name, f"tensor of {source} has shape {found}; expected {_expected(source)}{axis}")


def _hint(name: str, program: Facts) -> str:
    few = {source.name[:SHOWN]: source for source in program.sources[:HINTED]}
    close = get_close_matches(name[:SHOWN], few, 1)
    return f"; did you mean {shown(few[close[0]].name)}?" if close else f"; it has {_listed(program.sources)}"


def _expected(source: Source) -> str:
    if not source.per_example:
        return shapes.text(source.shape)
    return f"(N{''.join(f', {length}' for length in source.shape[:8])}) with one row for each of N examples"


def _listed(sources: Iterable[Source]) -> str:
    first = [shown(source.name) for source in islice(sources, LISTED + 1)]
    return (", ".join(first[:LISTED]) or "none") + (", ..." if len(first) > LISTED else "")


def _check_outputs(program: Facts, query: Query, findings: Findings) -> None:
    seen: set[int] = set()
    for position, node in enumerate(query.outputs):
        if not 0 <= node < program.sent:
            wrong = f"output {node} is past the end of the graph's {program.sent} nodes"
        elif node in seen:
            wrong = f"output {node} is given twice; give each node once"
        else:
            seen.add(node)
            continue
        findings.add(Reason.INVALID_REQUEST, wrong, f"outputs[{position}]")
        return


def _differentiated(program: Facts, query: Query, findings: Findings, checkpoint: Checkpoint) -> tuple[Source, ...]:
    if query.wrt is None:
        return program.parameters
    chosen: dict[str, Source] = {}
    for position, name in enumerate(checked(query.wrt, checkpoint)):
        source = program.by_name.get(name)
        if source is not None and not source.integer and name not in chosen:
            chosen[name] = source
        elif findings.another():
            if source is None:
                known = _listed(s for s in program.sources if not s.integer)
                wrong = f"{shown(name)}, which is no parameter or input of the graph; it has {known}"
            elif source.integer:
                wrong = f"input {shown(name)} of dtype int64; only float tensors have one"
            else:
                wrong = f"{shown(name)} twice; give each name once"
            findings.tell(Reason.INVALID_REQUEST, f"gradient asked for {wrong}", f"wrt.names[{position}]")
    return tuple(chosen.values())


def _count_examples(program: Facts, query: Query, limits: Limits) -> int:
    if not program.batched:
        return 1
    batched = [source.name for source in program.sources if source.per_example]
    first = batched[0]
    examples = len(query.arrays[first])
    for name in batched[1:]:
        other = len(query.arrays[name])
        if other != examples:
            raise refuse(
                Reason.INVALID_TENSOR,
                f"input {shown(first)} has {examples} examples, input {shown(name)} has {other}; "
                "all per-example inputs have the same number",
                f"tensors[{shown(name)}]",
            )
    if examples > limits.max_examples:
        raise refuse(
            Reason.LIMIT_EXCEEDED,
            f"input {shown(first)} has {examples} examples; this server takes at most {limits.max_examples} in one "
            "request (max_examples); send them in parts",
            f"tensors[{shown(first)}]",
            found=examples,
            limit=limits.max_examples,
            setting="max_examples",
        )
    if examples == 0 and query.reduction is Reduction.MEAN:
        raise refuse(
            Reason.INVALID_TENSOR,
            f"input {shown(first)} has 0 examples, which have no mean; send at least one, or reduce by sum or none",
            f"tensors[{shown(first)}]",
        )
    return examples


def _not_addressable(program: Facts, examples: int) -> Refusal:
    # Tensors with elements are small enough, for they take memory.
    checked_graph = program.checked
    empty = [shape for shape in checked_graph.shape_table if 0 in shape]
    shape = max(empty, key=shapes.addressed)
    node = int(np.argmax(checked_graph.shape_ids == checked_graph.shape_table.index(shape)))
    wrong = shapes.problem((examples, *shape), MAX_RANK + 1)
    return refuse(
        Reason.INVALID_REQUEST,
        f'with {examples} examples, node "{checked_graph.graph.label(node)}" {wrong}; send fewer examples, or no axes '
        "of such sizes in an empty tensor",
        node=checked_graph.graph.label(node),
    )
