"""``python -m tests.benchmarks.curves [PATH]``: how time and memory grow, as a picture."""

from __future__ import annotations

import argparse
import tracemalloc
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from textwrap import fill

from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from tests.benchmarks import ours, workloads
from tests.benchmarks.peers import with_casadi, with_numpy
from tests.benchmarks.table import machine
from tests.benchmarks.timing import Call, interleave_processes
from tests.benchmarks.workloads import Make

PICTURE = Path("docs/images/performance.svg")
NODES = (100, 300, 1_000, 3_000, 10_000, 30_000, 100_000, 300_000, 1_000_000)
EXAMPLES = (1, 3, 10, 30, 100, 300, 1_000, 3_000, 10_000, 30_000, 100_000, 300_000, 1_000_000)
FEATURES = 100

GRAPHS: Mapping[str, Callable[[Make], Call]] = {"gradwire": ours.engine, "CasADi SX": with_casadi.contestant}
HINGE: Mapping[str, Callable[[Make], Call]] = {
    "gradwire": ours.engine,
    'gw.connect("local")': ours.local,
    "NumPy formula": with_numpy.contestant,
}

Curves = dict[str, list[float]]


def per_node(seconds: float) -> Curves:
    """Nanoseconds a node, for value and gradient of random scalar graphs."""
    curves: Curves = {name: [] for name in GRAPHS}
    for nodes in NODES:
        make = partial(workloads.scalars, nodes)
        timings = interleave_processes({name: partial(by, make) for name, by in GRAPHS.items()}, seconds=seconds)
        for name, curve in curves.items():
            curve.append(1e9 * timings.seconds(name) / nodes)
    return curves


def over_examples(seconds: float) -> tuple[Curves, Curves]:
    """Milliseconds a call of the hinge loss, and the peak of what is allocated beyond its arrays, in MB."""
    times: Curves = {name: [] for name in HINGE}
    peaks: Curves = {name: [] for name in HINGE}
    for count in EXAMPLES:
        make = partial(workloads.hinge, count, FEATURES)
        timings = interleave_processes({name: partial(by, make) for name, by in HINGE.items()}, seconds=seconds)
        for name, by in HINGE.items():
            times[name].append(1e3 * timings.seconds(name))
            peaks[name].append(_peak(by, make))
    return times, peaks


def _peak(by: Callable[[Make], Call], make: Make) -> float:
    """What a contestant allocates for its calls at most, in MB, and keeps between them; loaded code is not counted."""
    by(partial(workloads.hinge, 1, FEATURES))()
    call = by(make)
    tracemalloc.start()
    try:
        call()
        call()
        return tracemalloc.get_traced_memory()[1] / 1e6
    finally:
        tracemalloc.stop()


def _draw(axes: Axes, x: Sequence[int], curves: Curves, title: str, xlabel: str, ylabel: str) -> None:
    for name, values in curves.items():
        axes.plot(x, values, marker="o", markersize=3, label=name)
    axes.set_title(title, fontsize=10)
    axes.set(xscale="log", yscale="log", xlabel=xlabel, ylabel=ylabel)
    axes.grid(visible=True, which="major", alpha=0.3)
    axes.legend(frameon=False)


def main() -> None:
    """Measure, and write the picture."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.curves", description=__doc__)
    parser.add_argument("path", nargs="?", type=Path, default=PICTURE, help="of the picture; default: %(default)s")
    parser.add_argument("--seconds", type=float, default=2, help="for each point; default: %(default)s")
    arguments = parser.parse_args()
    times, peaks = over_examples(arguments.seconds)
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(14, 4.2), layout="constrained")
    nodes = per_node(arguments.seconds)
    _draw(left, NODES, nodes, "Random scalar graph, value and gradient", "nodes", "ns a node")
    work = f"Hinge loss, {FEATURES} features"
    _draw(middle, EXAMPLES, times, f"{work}, value and gradient", "examples", "ms")
    _draw(right, EXAMPLES, peaks, f"{work}, peak beyond the inputs", "examples", "MB")
    figure.suptitle(fill(machine(), 150), fontsize=9)
    figure.savefig(arguments.path)
    print(arguments.path)  # noqa: T201  (the picture's path)


if __name__ == "__main__":
    main()
