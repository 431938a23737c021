"""``python -m tests.benchmarks [NAME ...]``: all comparisons, or those named; ``table`` is the yardstick."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Mapping
from functools import partial

from rich.console import Console

from tests.benchmarks import (
    examples,
    functions,
    hinge,
    large,
    much,
    perceptron,
    replicas,
    serve,
    stored,
    threads,
    throughput,
    unary,
    virtual_machine,
    yardstick,
)
from tests.benchmarks.table import Row, show

COMPARISONS: Mapping[str, Callable[[], Iterable[Row]]] = {
    "unary": unary.compare,
    "sdk": unary.compare_sdk,
    "stream": unary.compare_stream,
    "throughput": throughput.compare_small,
    "workers": throughput.compare_workers,
    "replicas": replicas.compare,
    "serve": serve.compare,
    "large": large.compare,
    "stored": stored.compare,
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
    "much": much.compare,
    "much-memory": much.compare_memory,
}
TABLE: Mapping[str, Callable[[float], Iterable[Row]]] = {
    **{name: partial(yardstick.compare, name) for name in yardstick.LINES},
    "first": yardstick.compare_first,
}
SECONDS = 6.0


def main() -> None:
    """Run the comparisons and print one table."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    every = {**dict.fromkeys(TABLE), **COMPARISONS}
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"table ({', '.join(TABLE)}), {', '.join(COMPARISONS)}"
    )
    parser.add_argument(
        "--seconds", type=float, default=SECONDS, help="for each row of the table; default: %(default)s"
    )
    arguments = parser.parse_args()
    names = [each for name in arguments.names or every for each in (TABLE if name == "table" else [name])]
    unknown = [name for name in names if name not in every]
    if unknown:
        parser.error(f"unknown: {', '.join(unknown)}; there are table, {', '.join(every)}")
    console = Console(stderr=True)
    measured: list[Row] = []
    try:
        for name in names:
            console.print(f"{name} ...")
            measured += TABLE[name](arguments.seconds) if name in TABLE else COMPARISONS[name]()
    finally:
        show(measured)


if __name__ == "__main__":
    main()
