"""``python -m tests.benchmarks.curves``: how time and memory grow, as a picture."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

import gradwire as gw
from tests.benchmarks import hinge, virtual_machine
from tests.benchmarks.random_graphs import SOURCES, packed, recipe
from tests.benchmarks.running import evaluation, prepare
from tests.benchmarks.table import machine
from tests.benchmarks.timing import Call, interleave, interleave_processes

PICTURE = Path("docs/images/performance.svg")
NODES = (100, 300, 1_000, 3_000, 10_000, 30_000, 100_000, 300_000, 1_000_000)
EXAMPLES = (1, 10, 100, 1_000, 10_000, 100_000, 1_000_000)

Curves = dict[str, Sequence[float]]


def per_node() -> Curves:
    """Nanoseconds a node, for value and gradient of random scalar graphs."""
    ours, theirs = [], []
    for nodes in NODES:
        written, x = recipe(nodes), np.random.default_rng(1).normal(size=SOURCES)
        contestants: dict[str, Callable[[], Any]] = {
            "gradwire": evaluation(prepare(packed(written, [virtual_machine.source(SOURCES)])), {"x": x}),
            "CasADi": virtual_machine.random_graph(written).at(x),
        }
        timings = interleave(contestants, seconds=2)
        ours.append(1e9 * timings.seconds("gradwire") / nodes)
        theirs.append(1e9 * timings.seconds("CasADi") / nodes)
    return {"gradwire": ours, "CasADi SX": theirs}


def _numpy(count: int) -> Call:
    return partial(hinge.by_hand, **hinge.arrays(count))


def over_examples() -> tuple[Curves, Curves]:
    """Milliseconds, and the peak of what is allocated in MB beyond the arrays given, for the hinge loss."""
    makers: dict[str, Callable[[int], Call]] = {"gradwire": partial(hinge.engine, gw.dot), "NumPy formula": _numpy}
    times: dict[str, list[float]] = {name: [] for name in makers}
    peaks: dict[str, list[float]] = {name: [] for name in makers}
    for count in EXAMPLES:
        timings = interleave_processes({name: partial(make, count) for name, make in makers.items()}, seconds=2)
        for name, make in makers.items():
            times[name].append(1e3 * timings.seconds(name))
            call = make(count)
            call()
            tracemalloc.start()
            call()
            peaks[name].append(tracemalloc.get_traced_memory()[1] / 1e6)
            tracemalloc.stop()
    return dict(times), dict(peaks)


def _draw(axes: Axes, x: Sequence[int], curves: Curves, title: str, xlabel: str, ylabel: str) -> None:
    for name, values in curves.items():
        axes.plot(x, values, marker="o", markersize=3, label=name)
    axes.set(xscale="log", yscale="log", title=title, xlabel=xlabel, ylabel=ylabel)
    axes.grid(visible=True, which="major", alpha=0.3)
    axes.legend(frameon=False)


def main() -> None:
    """Measure, and write the picture."""
    times, peaks = over_examples()
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(14, 4.2), layout="constrained")
    _draw(left, NODES, per_node(), "Random scalar graph, value and gradient", "nodes", "ns a node")
    work = f"Hinge loss, {hinge.FEATURES} features"
    _draw(middle, EXAMPLES, times, f"{work}, value and gradient", "examples", "ms")
    _draw(right, EXAMPLES, peaks, f"{work}, peak beyond the inputs", "examples", "MB")
    figure.suptitle(machine(), fontsize=9)
    figure.savefig(PICTURE)
    print(PICTURE)  # noqa: T201  (the picture's path)


if __name__ == "__main__":
    main()
