"""All measurements, into one file."""

from __future__ import annotations

import os
from time import monotonic
from typing import Any

from rich.console import Console

from tests.benchmarks.scaling import actors, balancer, calls, pairs
from tests.benchmarks.table import machine

LIBRARIES = ("gradwire", "numpy", "numba", "grpcio", "ray")


def measure() -> dict[str, Any]:
    """Everything, in some minutes, most of it waiting for Ray to start where the machine is busy."""
    console, begun, load = Console(stderr=True), monotonic(), os.getloadavg()[0]
    found: dict[str, Any] = {"machine": machine(LIBRARIES), "cores": os.cpu_count()}
    console.print("calls ...")
    found["calls"] = list(calls.measure())
    console.print("a busy server ...")
    found["busy"] = list(calls.busy())
    found["connection_bytes"] = calls.connection_bytes()
    console.print("a balancer ...")
    found["balancer"] = list(balancer.measure())
    console.print("two servers ...")
    alone, *rows = pairs.measure()
    found |= {"server_alone": alone, "servers": rows}
    console.print("actors ...")
    *steps, start, pair = actors.measure()
    found |= {"actors": steps, "start": start, "pair": pair}
    found |= {"load": [load, os.getloadavg()[0]], "seconds": monotonic() - begun}
    return found
