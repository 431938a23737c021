"""Rows of code stay within their buffers, whatever is asked: the machine itself does not look."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradwire_server.engine.graph.graph import Reduction, Ties
from gradwire_server.engine.lowering import rows as r
from gradwire_server.engine.run.evaluation import run
from gradwire_server.engine.run.job import Job, bind
from gradwire_server.engine.run.query import Query
from gradwire_server.engine.run.threads import Threads
from gradwire_server.limits import Limits
from tests.unit.engine.bounds import check_bounds, rows_of
from tests.unit.engine.building import LIMITS, Builder, nothing
from tests.unit.engine.test_random_graphs import SETTINGS, Drawn, engine_graph, graphs


def job_of(
    drawn: Drawn, arrays: dict[str, Any], examples: int, threads: int = 1, ties: Ties = Ties.ZERO, **query: Any
) -> Job:
    """A job of so many examples, with the numbers of those that were drawn."""
    dtype = query["dtype"]
    given: dict[str, Any] = {}
    for name, _, per_example in drawn.sources:
        with np.errstate(over="ignore"):
            array = np.asarray(arrays[name], dtype)
        given[name] = np.resize(array, (examples, *array.shape[1:])) if per_example else array
    return bind(engine_graph(drawn).program(ties=ties), Query(arrays=given, **query), LIMITS, threads)


@SETTINGS
@given(
    graphs(smooth=False),
    st.data(),
    st.sampled_from([1, 2, 3, 33, 700, 5000, 40_000]),
    st.sampled_from(list(Reduction)),
    st.sampled_from(list(Ties)),
)
def test_rows_of_random_graphs(
    case: tuple[Drawn, dict[str, Any]], data: st.DataObject, examples: int, reduction: Reduction, ties: Ties
) -> None:
    drawn, arrays = case
    names = [name for name, _, _ in drawn.sources]
    wrt = data.draw(st.none() | st.lists(st.sampled_from(names), unique=True).map(tuple))
    outputs = data.draw(st.lists(st.sampled_from(range(len(names))), unique=True, max_size=2))
    dtype = data.draw(st.sampled_from([np.float32, np.float64]))
    query = {"reduction": reduction, "wrt": wrt, "outputs": tuple(outputs), "dtype": np.dtype(dtype)}
    check_bounds(job_of(drawn, arrays, examples, data.draw(st.sampled_from([1, 4])), ties, **query))


def _layers(builder: Builder) -> None:
    h = builder.input("x", (30,), per_example=True)
    for name, shape in (("u", (40, 30)), ("v", (20, 40)), ("w", (5, 20))):
        h = builder.op("tanh", builder.op("matmul", builder.parameter(name, shape), h))
    builder.op("logsumexp", h)


@pytest.mark.parametrize("reduction", list(Reduction))
@pytest.mark.parametrize("examples", [0, 1, 127, 128, 129, 3000, 100_003])
def test_rows_of_layers(examples: int, reduction: Reduction) -> None:
    if not examples and reduction is Reduction.MEAN:
        return
    builder = Builder()
    _layers(builder)
    program = builder.program()
    arrays = {
        source.name: np.broadcast_to(0.1, ((examples,) if source.per_example else ()) + source.shape)
        for source in program.sources
    }
    for wrt in (None, ("x",), ("v",), ()):
        query = Query(arrays=arrays, dtype=np.dtype(np.float64), reduction=reduction, wrt=wrt)
        check_bounds(bind(program, query, Limits(max_memory_bytes=1 << 40), 2))


def test_a_row_that_leaves_its_buffer_is_seen() -> None:
    builder = Builder()
    _layers(builder)
    program = builder.program()
    arrays = {source.name: np.ones(((300,) if source.per_example else ()) + source.shape) for source in program.sources}
    job = bind(program, Query(arrays=arrays, dtype=np.dtype(np.float64)), LIMITS)
    check_bounds(job)
    code, missed = job.bound.code, 0
    kinds = {row[0] for _, row in rows_of(code)}
    assert {r.TENSOR, r.PRODUCT} <= kinds
    at = code.sections[1].begin
    while at < code.sections[1].end:
        kind, length = code.rows[at : at + 2].tolist()
        if kind in (r.TENSOR, r.PRODUCT):
            place = at + (r.T_REFS if kind == r.TENSOR else r.P_REFS) + 1
            rows = code.rows.copy()
            rows[place] += 1 << 20
            try:
                check_bounds(job._replace(bound=replace(job.bound, code=replace(code, rows=rows))))
                missed += 1
            except AssertionError:
                pass
        at += length
    assert missed == 0


def test_nothing_is_written_beside_what_is_given_and_taken() -> None:
    """Arrays of a request are neither changed nor kept by the machine."""
    builder = Builder()
    _layers(builder)
    program = builder.program()
    random = np.random.default_rng(0)
    arrays = {
        source.name: random.normal(size=((3000,) if source.per_example else ()) + source.shape)
        for source in program.sources
    }
    for array in arrays.values():
        array.flags.writeable = False
    before = {name: array.copy() for name, array in arrays.items()}
    query = Query(arrays=arrays, dtype=np.dtype(np.float64), wrt=("x", "u", "v", "w"))
    job = bind(program, query, LIMITS, 2)
    first, second = run(job, nothing, Threads(2)), run(job, nothing, Threads(2))
    for name, array in arrays.items():
        np.testing.assert_array_equal(array, before[name])
        assert not np.shares_memory(first.gradients[name], array)
        assert not np.shares_memory(first.gradients[name], second.gradients[name])
