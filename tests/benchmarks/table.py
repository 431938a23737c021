"""What the benchmarks print."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.benchmarks.timing import Timings

LIBRARIES = ("gradwire", "numpy", "numba", "grpcio", "casadi", "jax", "torch", "umbridge", "pytensor-federated")


@dataclass(frozen=True, slots=True)
class Row:
    """A comparison of ours with one peer."""

    work: str
    ours: str
    peer: str
    ratio: float
    """Time of the peer by time of ours: above 1, ours is faster."""
    reach: float | None = None
    """The ratio to reach, if there is one."""


def rows(
    work: str, timings: Timings, ours: str, reach: Mapping[str, float | None], unit: float = 1e-3
) -> Iterable[Row]:
    """A row for each peer, with times in ``unit`` seconds a call."""
    label = {1e-3: "ms", 1e-6: "us", 1e-9: "ns"}.get(unit, "ns")
    for peer, wanted in reach.items():
        yield Row(
            work=work,
            ours=f"{ours} {timings.seconds(ours) / unit:.3g} {label}",
            peer=f"{peer} {timings.seconds(peer) / unit:.3g} {label}",
            ratio=timings.ratio(peer, ours),
            reach=wanted,
        )


def show(measured: Sequence[Row]) -> None:
    """Print them, with the machine that they were measured on."""
    console = Console(width=None if Console().is_terminal else 140)
    console.print(machine())
    table = Table(caption="Medians of rounds in which all take turns; a ratio above 1 says that gradwire is faster.")
    for title in ("work", "gradwire", "peer", "ratio", "reach"):
        table.add_column(title, justify="right" if title in ("ratio", "reach") else "left", overflow="fold")
    for row in measured:
        missed = row.reach is not None and row.ratio < row.reach
        ratio = f"[red]{row.ratio:.2f}[/red]" if missed else f"{row.ratio:.2f}"
        table.add_row(row.work, row.ours, row.peer, ratio, "" if row.reach is None else f"{row.reach:.2f}")
    console.print(table)


def machine() -> str:
    """What was measured on, and what was measured."""
    versions = ", ".join(f"{name} {version(name)}" for name in LIBRARIES)
    return f"{_processor()}, {os.cpu_count()} cores; Python {platform.python_version()}, {versions}"


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor()
