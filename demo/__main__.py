"""``python -m demo``: a server, three worker processes, and scikit-learn's optimum to compare with."""

from __future__ import annotations

import argparse
import sys
from contextlib import nullcontext
from pathlib import Path

from rich.console import Console
from rich.table import Table

import gradwire as gw
from demo import pictures, problem
from demo.server import Running, Served, served, serving
from demo.training import Training, descend
from demo.workers import started

TOLERANCE = 1e-3
"""Largest relative difference of TrainLoss to the optimum at which the demo succeeds."""


def main() -> None:
    """Run the demo; exits with 1 if training does not reach the optimum."""
    arguments = _parser().parse_args()
    console = Console()
    if arguments.server and not arguments.metrics:
        _parser().error("--server needs --metrics, where that server's metrics are")
    running = Running(arguments.server, arguments.metrics) if arguments.server else None
    try:
        with nullcontext(running) if running else serving() as server:
            reached = _run(server, arguments.steps, arguments.workers, arguments.output, console)
    except (gw.GradwireError, OSError, RuntimeError) as error:
        console.print(f"demo: {error}", markup=False)
        sys.exit(1)
    sys.exit(0 if reached else 1)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m demo", description=__doc__)
    parser.add_argument("--steps", type=int, default=5000, help="steps of the descent (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=3, help="worker processes (default: %(default)s)")
    parser.add_argument("--output", type=Path, default=Path("demo/output"), help="folder of the pictures (%(default)s)")
    parser.add_argument("--server", metavar="HOST:PORT", help="a server that runs already (default: one of its own)")
    parser.add_argument("--metrics", metavar="URL", help="where the metrics of that server are")
    return parser


def _run(server: Running, steps: int, workers: int, output: Path, console: Console) -> bool:
    train, held_out = problem.load()
    rows, features = train.features.shape
    console.print(f"{workers} worker processes share {rows} rows of {features} features; server at {server.address}")
    with started(server.address, train, workers) as crew:
        training = descend(crew, features, steps, console)
    calls = served(server)
    optimum = problem.optimum(train)
    best = problem.objective(optimum, train)
    difference = training.losses[-1] / best - 1
    console.print(_table(training, optimum, best, difference, held_out, calls))
    output.mkdir(parents=True, exist_ok=True)
    with gw.connect(server.address) as client:
        pictures.draw_hinge(client, output / "hinge.svg")
    pictures.draw_losses(training.losses, best, output / "loss.png")
    console.print(f"pictures: {output / 'hinge.svg'} {output / 'loss.png'}", soft_wrap=True)
    if abs(difference) > TOLERANCE:
        console.print(f"TrainLoss is not within {TOLERANCE:g} of the optimum; more --steps come closer")
        return False
    return True


def _table(
    training: Training,
    optimum: problem.Floats,
    best: float,
    difference: float,
    held_out: problem.Rows,
    calls: Served,
) -> Table:
    table = Table(title="hinge loss, breast cancer data")
    table.add_column("")
    table.add_column("gradwire", justify="right")
    table.add_column("scikit-learn", justify="right")
    table.add_row("TrainLoss", f"{training.losses[-1]:.6f}", f"{best:.6f}")
    table.add_row("relative difference", f"{difference:.1e}", "")
    table.add_row(
        f"accuracy on {len(held_out.labels)} held-out rows",
        f"{problem.accuracy(training.w, held_out):.1%}",
        f"{problem.accuracy(optimum, held_out):.1%}",
    )
    table.add_row("requests served", f"{calls.requests:,}", "")
    table.add_row("latency p50", f"{calls.p50 * 1e3:.2f} ms", "")
    table.add_row("latency p99", f"{calls.p99 * 1e3:.2f} ms", "")
    return table


if __name__ == "__main__":
    main()
