"""What the benchmarks print."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table
from threadpoolctl import threadpool_info

from tests.benchmarks.timing import Timings

LIBRARIES = ("gradwire", "numpy", "numba", "grpcio", "casadi", "jax", "torch", "pytensor-federated", "ray")


@dataclass(frozen=True, slots=True)
class Local:
    """A time of ``gw.connect("local")``, and how the peer's compares."""

    time: str
    ratio: float
    reach: float | None = None


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
    local: Local | None = None
    """The same work through the SDK, where that is measured too."""


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
    table.add_column("work", overflow="fold")
    both = any(row.local for row in measured)
    for title in ("gradwire", "ratio", "reach", *(("local", "ratio", "reach") if both else ()), "peer"):
        table.add_column(title, justify="right" if title in ("ratio", "reach") else "left", overflow="fold")
    for row in measured:
        local = (row.local.time, *_ratio(row.local.ratio, row.local.reach)) if row.local else ("", "", "")
        table.add_row(row.work, row.ours, *_ratio(row.ratio, row.reach), *(local if both else ()), row.peer)
    console.print(table)


def _ratio(ratio: float, reach: float | None) -> tuple[str, str]:
    text = f"{ratio:.2f}"
    if reach is None:
        return text, ""
    return f"[red]{text}[/red]" if ratio < reach else text, f"{reach:.2f}"


def machine(libraries: Sequence[str] = LIBRARIES) -> str:
    """What was measured on, and what was measured."""
    versions = ", ".join(f"{name} {version(name)}" for name in libraries)
    return f"{_processor()}, {os.cpu_count()} cores; Python {platform.python_version()}, {versions}; {_blas()}"


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor()


def _blas() -> str:
    """The library that NumPy and the engine multiply matrices with, and the kernels that it has chosen."""
    folder = Path(np.__file__).parents[1]
    for library in threadpool_info():
        of_numpy = any(Path(library["filepath"]).is_relative_to(folder / name) for name in ("numpy", "numpy.libs"))
        if library["user_api"] == "blas" and of_numpy:
            kernels = library.get("architecture") or "unknown"
            return f"{library['internal_api']} {library['version']} with kernels for {kernels}"
    return "a BLAS that threadpoolctl does not know"
