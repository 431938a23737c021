"""gradwire as a contestant: the engine alone, and what an application calls that has the engine in its own process."""

from __future__ import annotations

import os
from typing import Any

import gradwire as gw
from gradwire.v1 import graph_pb2 as pb
from gradwire_server.engine import Evaluation, Query, Reduction, Threads, bind, run
from tests.benchmarks.running import LIMITS, alone, evaluation, nobody_waits, prepare
from tests.benchmarks.timing import Call
from tests.benchmarks.workloads import Make, Workload


def engine(make: Make) -> Call:
    """The engine on arrays of NumPy; checking the request is part of the call."""
    alone()
    work = make()
    reduction = Reduction.NONE if work.each else Reduction.MEAN
    call = evaluation(prepare(_graph(work)), work.arrays, work.dtype.type, reduction=reduction)
    return lambda: _results(call())


def local(make: Make) -> Call:
    """``gw.connect("local")``, from arrays of NumPy to arrays of NumPy."""
    work = make()
    call = gw.connect("local").value_and_grad(work.loss, reduction="none" if work.each else "mean")
    arrays = work.arrays
    return lambda: call(arrays)


def first_by_engine(make: Make) -> Call:
    """From the bytes of a graph's message to its first value and gradient."""
    alone()
    work = make()
    message, query = _graph(work).SerializeToString(), Query(arrays=work.arrays, dtype=work.dtype)
    threads = os.cpu_count() or 1
    helpers = Threads(threads)

    def call() -> tuple[Any, Any]:
        program = prepare(pb.Graph.FromString(message))
        return _results(run(bind(program, query, LIMITS, threads), nobody_waits, helpers))

    return call


def first_by_local(make: Make) -> Call:
    """From the expression to its first value and gradient, with a client that has seen no other."""
    work = make()
    arrays = work.arrays

    def call() -> tuple[Any, Any]:
        with gw.connect("local") as client:
            return client.value_and_grad(work.loss)(arrays)

    return call


def _graph(work: Workload) -> pb.Graph:
    return work.loss if isinstance(work.loss, pb.Graph) else gw.graph(work.loss)


def _results(result: Evaluation) -> tuple[Any, Any]:
    return result.loss, result.gradients
