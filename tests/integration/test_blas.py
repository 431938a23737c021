"""BLAS has one thread while anybody computes: how it splits a product changes bits, and the cores have work already."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

import gradwire as gw
from tests.integration.server_process import ServerProcess

SIDE = 2000
TICKS = 10
"""Hundredths of a second that a thread computes if it has a part of the products."""


def products() -> gw.Expression:
    """Large products of a matrix that is made of few numbers."""
    matrix = gw.parameter("x", shape=(SIDE, 1)) * gw.parameter("y", shape=(1, SIDE))
    return gw.sum(gw.matmul(matrix, matrix))


NUMBERS: dict[str, Any] = {"x": np.linspace(0, 1, SIDE)[:, np.newaxis], "y": np.linspace(0, 1, SIDE)[np.newaxis]}


def test_in_a_server_one_thread_makes_a_product() -> None:
    with ServerProcess() as server, gw.connect(server.address) as client:
        before = ticks(server.process.pid)
        client.value_and_grad(products())(**NUMBERS)
        after = ticks(server.process.pid)
    busy = [thread for thread, spent in after.items() if spent - before.get(thread, 0) >= TICKS]
    assert len(busy) == 1


def ticks(process: int) -> dict[str, int]:
    """Processor time that each thread took so far, in hundredths of a second."""
    taken = {}
    for thread in Path(f"/proc/{process}/task").iterdir():
        fields = (thread / "stat").read_text().rpartition(")")[2].split()
        taken[thread.name] = int(fields[11]) + int(fields[12])
    return taken
