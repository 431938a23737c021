"""What people send most, row by row, beside the libraries that they would take instead.

Each row has two times of ours: of the engine alone, and of ``gw.connect("local")``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from tests.benchmarks import ours, workloads
from tests.benchmarks.peers import with_casadi, with_jax, with_numpy, with_torch
from tests.benchmarks.table import Local, Row
from tests.benchmarks.timing import Call, interleave_processes
from tests.benchmarks.workloads import Make

DOUBLE, SINGLE = np.float64, np.float32

Contestants = Mapping[str, Callable[[Make], Call]]

CALLS: Contestants = {
    "engine": ours.engine,
    "local": ours.local,
    "CasADi SX": with_casadi.contestant,
    "JAX": with_jax.contestant,
    "JAX from NumPy": with_jax.from_numpy,
    "torch": with_torch.contestant,
    "NumPy": with_numpy.contestant,
}
FIRST_CALLS: Contestants = {"engine": ours.first_by_engine, "local": ours.first_by_local, "JAX": with_jax.first}


@dataclass(frozen=True, slots=True)
class Line:
    """A workload and its peers."""

    title: str
    make: Make
    peers: Mapping[str, float | None]
    """The ratio of each peer's time to the engine's that is to be reached, if one is."""
    local: Mapping[str, float] = field(default_factory=dict)
    """Ratios of peers' times to ``local``'s that are to be reached."""


LINES: Mapping[str, Line] = {
    "scalars-1e3": Line("random scalar graph, 1,000 nodes", partial(workloads.scalars, 1_000), {"CasADi SX": 5}),
    "logreg-128": Line(
        "logistic regression 128 x 30",
        partial(workloads.logistic, 128, 30, DOUBLE),
        {"JAX": 2.5, "torch": 7, "JAX from NumPy": None},
        {"JAX from NumPy": 1.5},
    ),
    "mlp-30": Line(
        "perceptron 30-32-1, batch 32",
        partial(workloads.regressor, 32, (30, 32, 1), DOUBLE),
        {"JAX": 3, "torch": 8},
    ),
    "logreg-10000": Line(
        "logistic regression 10,000 x 100",
        partial(workloads.logistic, 10_000, 100, DOUBLE),
        {"JAX": 1.3, "torch": None},
    ),
    "logreg-10000-f32": Line(
        "logistic regression 10,000 x 100, float32",
        partial(workloads.logistic, 10_000, 100, SINGLE),
        {"JAX": 1, "torch": None},
    ),
    "softmax": Line(
        "softmax regression 1,797 x 64, 10 classes",
        partial(workloads.classifier, 1_797, (64, 10), DOUBLE),
        {"JAX": 1.2, "torch": None},
    ),
    "hinge-1e6": Line(
        "hinge loss 1,000,000 x 100",
        partial(workloads.hinge, 1_000_000, 100),
        {"JAX": 2.3, "NumPy": 2, "torch": None},
    ),
    "mlp-784": Line(
        "perceptron 784-256-10, batch 256, float32",
        partial(workloads.classifier, 256, (784, 256, 10), SINGLE),
        {"JAX": 1.05, "torch": 1.05},
    ),
    "mlp-64": Line(
        "perceptron 64-128-128-10, batch 128, float32",
        partial(workloads.classifier, 128, (64, 128, 128, 10), SINGLE),
        {"JAX": 1, "torch": None},
    ),
    "mlp-1024": Line(
        "perceptron 784-1024-1024-10, batch 256, float32",
        partial(workloads.classifier, 256, (784, 1024, 1024, 10), SINGLE),
        {"JAX": 0.9, "torch": None},
    ),
    "embedding": Line(
        "embedding 10,000 x 32, 16 ids, batch 128, float32",
        partial(workloads.embedding, 128, 10_000, 16, 32, SINGLE),
        {"JAX": 1, "torch": None},
    ),
    "factorisation": Line(
        "factorisation 1,000 x 1,000 x 16, batch 1,024, float32",
        partial(workloads.factorisation, 1_024, 1_000, 1_000, 16, SINGLE),
        {"JAX": 0.8, "torch": 2},
    ),
    "attention-64": Line(
        "attention 64 x 64, batch 32, float32",
        partial(workloads.attention, 32, 64, 64, SINGLE),
        {"JAX": 0.8, "torch": None},
    ),
    "attention-16": Line(
        "attention 16 x 16, batch 32, float32",
        partial(workloads.attention, 32, 16, 16, SINGLE),
        {"JAX": 1, "torch": None},
    ),
    "rosenbrock-100": Line(
        "Rosenbrock's function of 100 numbers", partial(workloads.rosenbrock, 100), {"JAX": 1, "torch": None}
    ),
    "rosenbrock-10000": Line(
        "Rosenbrock's function of 10,000 numbers", partial(workloads.rosenbrock, 10_000), {"JAX": 0.8, "torch": None}
    ),
    "examples-1e3": Line(
        "random scalar graph, 1,000 nodes x 256 examples",
        partial(workloads.scalars_of_examples, 1_000, 256, DOUBLE),
        {"JAX": 6},
    ),
    "examples-1e3-f32": Line(
        "random scalar graph, 1,000 nodes x 256 examples, float32",
        partial(workloads.scalars_of_examples, 1_000, 256, SINGLE),
        {"JAX": 10},
    ),
    "scalars-1e4": Line("random scalar graph, 10,000 nodes", partial(workloads.scalars, 10_000), {"CasADi SX": 4.8}),
    "scalars-1e5": Line("random scalar graph, 100,000 nodes", partial(workloads.scalars, 100_000), {"CasADi SX": 7.9}),
    # A server takes a million nodes unless it is told otherwise, and the sources and the mean are some.
    "scalars-1e6": Line("random scalar graph, 999,000 nodes", partial(workloads.scalars, 999_000), {"CasADi SX": 4.7}),
    "mlp-784-each": Line(
        "perceptron 784-256-10, batch 256, float32, a gradient for each example",
        partial(workloads.classifier, 256, (784, 256, 10), SINGLE, each=True),
        {"torch": 4.2, "JAX": 3.6},
    ),
}

FIRST: Mapping[str, tuple[float, float]] = {
    "logreg-128": (230, 70),
    "mlp-30": (260, 75),
    "softmax": (190, 80),
    "mlp-64": (190, 88),
    "embedding": (51, 38),
    "factorisation": (55, 36),
    "attention-16": (87, 48),
    "rosenbrock-100": (120, 41),
}
"""Workloads whose first gradient is measured, with the ratios of JAX's time to the engine's and to ``local``'s that are
to be reached: twice those of version 0.1.0."""


def compare(name: str, seconds: float) -> Iterator[Row]:
    """Calls of one workload."""
    yield from _rows(LINES[name], CALLS, seconds)


def compare_first(seconds: float) -> Iterator[Row]:
    """From the loss to its first gradient, in processes that are warm."""
    for name, (engine, local) in FIRST.items():
        title = f"{LINES[name].title}: from the graph as data to its first gradient"
        yield from _rows(Line(title, LINES[name].make, {"JAX": engine}, {"JAX": local}), FIRST_CALLS, seconds)


def _rows(line: Line, contestants: Contestants, seconds: float) -> Iterator[Row]:
    who = ("engine", "local", *line.peers)
    timings = interleave_processes({name: partial(contestants[name], line.make) for name in who}, seconds=seconds)
    times = {name: f"{name} {_time(timings.seconds(name))}" for name in who}
    for peer, reach in line.peers.items():
        local = Local(times["local"], timings.ratio(peer, "local"), line.local.get(peer))
        yield Row(line.title, times["engine"], times[peer], timings.ratio(peer, "engine"), reach, local)


def _time(seconds: float) -> str:
    return f"{1e6 * seconds:.3g} us" if seconds < 1e-3 else f"{1e3 * seconds:.3g} ms"
