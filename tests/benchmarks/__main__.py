"""``python -m tests.benchmarks [NAME ...]``: all comparisons, or those named."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable

from tests.benchmarks import examples, functions, hinge, large, perceptron, threads, throughput, unary, virtual_machine
from tests.benchmarks.table import Row, show

COMPARISONS: dict[str, Callable[[], Iterable[Row]]] = {
    "unary": unary.compare,
    "stream": unary.compare_stream,
    "throughput": throughput.compare_small,
    "workers": throughput.compare_workers,
    "large": large.compare,
    "sizes": virtual_machine.compare_sizes,
    "ordinary": virtual_machine.compare_ordinary,
    "extremes": virtual_machine.compare_extremes,
    "batch": examples.compare_batch,
    "single": examples.compare_single,
    "hinge": hinge.compare,
    "perceptron": perceptron.compare_step,
    "each": perceptron.compare_each,
    "functions": functions.compare,
    "threads": threads.compare,
}


def main() -> None:
    """Run the comparisons and print one table."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(COMPARISONS))
    chosen = parser.parse_args().names or list(COMPARISONS)
    unknown = [name for name in chosen if name not in COMPARISONS]
    if unknown:
        parser.error(f"unknown: {', '.join(unknown)}; there are {', '.join(COMPARISONS)}")
    show([row for name in chosen for row in COMPARISONS[name]()])


if __name__ == "__main__":
    main()
