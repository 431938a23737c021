"""Load on a server, and how long calls take under it: ``gradwire bench``."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from time import perf_counter

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

import gradwire as gw
from gradwire._arrays import Array
from gradwire.v1 import gradient_service_pb2 as pb
from gradwire.v1 import graph_pb2
from gradwire_server.command import arrays, files
from gradwire_server.command.arguments import Bench
from gradwire_server.command.asking import connection, in_words_of_the_command
from gradwire_server.command.terminal import console

FEATURES = 30
"""Features of the hinge loss."""
PERCENTILES = (50, 75, 90, 95, 99, 99.9, 100)
BINS, BAR = 12, 50
"""Rows of the histogram, and columns of its longest bar."""
REFRESH = 0.1
"""Seconds between two looks at the progress."""
PAUSE = 0.1
"""Seconds that a caller waits after a call that no server answered."""


@dataclass
class Load:
    """What came of the calls."""

    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)
    """Seconds that calls took that were answered."""
    failures: Counter[str] = field(default_factory=Counter)
    """How often calls failed, by the kind of error."""
    first: dict[str, str] = field(default_factory=dict)
    """The text of the first error of each kind."""
    begun: int = 0

    @property
    def ended(self) -> int:
        """Calls that have ended."""
        return len(self.latencies) + sum(self.failures.values())


def bench(command: Bench) -> bool:
    """Load a server and print how long calls took; False if any failed.

    Raises:
        OSError: A file cannot be read.
        Refusal: The graph breaks a rule.
        GradwireError: The first call fails, or a file holds something else.
    """
    graph = _graph(command)
    values, _ = arrays.filled(graph, arrays.read(command.arrays) if command.arrays else {}, command.examples)
    with in_words_of_the_command():
        load = asyncio.run(_loaded(command, graph, values))
    _print(command, load)
    return not load.failures


def _graph(command: Bench) -> graph_pb2.Graph:
    if command.graph is None:
        w, phi = gw.parameter("w", shape=(FEATURES,)), gw.input("phi", shape=(FEATURES,), per_example=True)
        return gw.graph(gw.maximum(0, 1 - gw.dot(w, phi) * gw.input("y", per_example=True)))
    found = files.read(command.graph, pb.ComputeGradientsRequest)
    return files.graph_of(found, command.graph)


async def _loaded(command: Bench, graph: graph_pb2.Graph, values: dict[str, Array]) -> Load:
    load = Load()
    async with gw.AsyncClient(command.address, **connection(command)) as client:
        function = client.value_and_grad(graph)
        # It registers the graph, and a server that cannot be called is no result.
        await function.evaluate(values, timeout=command.timeout)
        begin = perf_counter()
        with _progress() as progress:
            watching = asyncio.create_task(_watched(progress, command, load, begin))
            async with asyncio.TaskGroup() as callers:
                for _ in range(command.callers):
                    callers.create_task(_call(command, function, values, load, begin + command.seconds))
            watching.cancel()
        load.seconds = perf_counter() - begin
    return load


async def _call(
    command: Bench, function: gw.AsyncValueAndGrad, values: dict[str, Array], load: Load, end: float
) -> None:
    """One caller: a call after another until there were enough, or the time is over."""
    while load.begun < command.calls and (begin := perf_counter()) < end:
        load.begun += 1
        try:
            await function.evaluate(values, timeout=command.timeout)
        except gw.GradwireError as error:
            kind = type(error).__name__
            load.failures[kind] += 1
            load.first.setdefault(kind, str(error))
            if isinstance(error, gw.UnavailableError):
                # It may come back, and until then calls fail at once.
                await asyncio.sleep(PAUSE)
        else:
            load.latencies.append(perf_counter() - begin)


def _progress() -> Progress:
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TimeElapsedColumn())
    return Progress(*columns, console=(err := Console(stderr=True)), transient=True, disable=not err.is_terminal)


async def _watched(progress: Progress, command: Bench, load: Load, begin: float) -> None:
    """Show how far the calls are, or the time, whichever is further."""
    task = progress.add_task("", total=1.0)
    while True:
        done = max(load.ended / command.calls, (perf_counter() - begin) / command.seconds)
        progress.update(task, completed=done, description=f"{load.ended:,} calls")
        await asyncio.sleep(REFRESH)


def _print(command: Bench, load: Load) -> None:
    out, rate = console(), len(load.latencies) / load.seconds
    out.print(
        f"{len(load.latencies):,} calls answered in {load.seconds:.2f} s by {command.address}, "
        f"{command.callers} at a time: {rate:,.0f} a second"
    )
    for kind, count in load.failures.most_common():
        out.print(f"{count:,} failed, {kind}: {load.first[kind]}", style="bold red")
    if load.latencies:
        milliseconds = 1e3 * np.array(load.latencies)
        out.print("", _percentiles(milliseconds), "", _histogram(milliseconds), sep="\n")


def _percentiles(milliseconds: Array) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for each in PERCENTILES:
        table.add_column("longest" if each == 100 else f"p{each:g}", justify="right")
    table.add_row(*(f"{value:.2f} ms" for value in np.percentile(milliseconds, PERCENTILES)))
    return table


def _histogram(milliseconds: Array) -> Table:
    """Calls by how long they took, in steps of one ratio."""
    low, high = float(milliseconds.min()), float(milliseconds.max())
    counts, bounds = np.histogram(milliseconds, np.geomspace(low, max(high, low * 1.01), BINS + 1))
    table = Table("ms", "", "calls", box=None, pad_edge=False, header_style="bold")
    table.columns[2].justify = "right"
    for count, bound in zip(counts, bounds[1:], strict=True):
        table.add_row(f"up to {bound:.2f}", _bar(count / max(counts)), f"{count:,}")
    return table


def _bar(fraction: float) -> str:
    return "▇" * max(round(BAR * fraction), 1 if fraction else 0)
