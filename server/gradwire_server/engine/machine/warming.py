"""Kernels compiled before they are needed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np
from numba import boolean, int64
from numba.core import event

from gradwire_server import cores
from gradwire_server.engine.graph.checking import check_graph
from gradwire_server.engine.graph.graph import Graph, Input, Parameter
from gradwire_server.engine.graph.opcodes import Opcode
from gradwire_server.engine.lowering.lower import lower
from gradwire_server.engine.lowering.question import Question
from gradwire_server.engine.machine.evaluate import evaluate
from gradwire_server.engine.machine.kernels import REALS, address_of, table
from gradwire_server.engine.reference.interpreter import forward, needed
from gradwire_server.limits import Limits

FLOAT32, FLOAT64 = np.dtype(np.float32), np.dtype(np.float64)


def nothing() -> None:
    """Do nothing."""


def warm(compiling: Callable[[], None] = nothing, further: Callable[[], None] = nothing) -> bool:
    """Load the kernels for both types, or compile those that are not cached; True if that had to be.

    Args:
        compiling: Called once, before the first of them is compiled.
        further: Warms kernels of who uses the engine.
    """
    watch = _Watch(compiling)
    with event.install_listener("numba:compile", watch):
        warm_machine(FLOAT64)
        _warm_others()
        further()
        watch.wait()
        warm_machine(FLOAT32)
    return watch.seen


def warm_machine(dtype: np.dtype[Any]) -> None:
    """Load or compile what the machine runs for one type."""
    table(dtype)
    address_of(evaluate, (int64, int64, boolean, REALS[dtype]))


def _warm_others() -> None:
    """Go once through what checks, lowers and explains graphs, with a loss (w x + 1) that has few nodes."""
    n = np.nan
    graph = Graph(
        opcodes=np.array([Opcode.PARAMETER, Opcode.INPUT, Opcode.MUL, Opcode.CONSTANT, Opcode.ADD], np.int8),
        starts=np.array([0, 0, 0, 2, 2, 4], np.int64),
        operands=np.array([0, 1, 2, 3], np.int32),
        numbers=np.array([n, n, n, 1, n]),
        names={0: "w", 1: "x"},
        contents={0: Parameter(name="w", shape=()), 1: Input(name="x", shape=(), per_example=True)},
        loss=4,
    )
    checked = check_graph(graph, Limits())
    lower(checked, Question((0,), (), separate=False), nothing)
    one = np.ones((), FLOAT64)
    forward(checked, {"w": one, "x": one}, FLOAT64, needed(checked, [graph.loss]))


class _Watch(event.Listener):
    """Sees whether a kernel of ours is compiled, and has another process compile those for float32 meanwhile."""

    def __init__(self, compiling: Callable[[], None]) -> None:
        self._compiling = compiling
        self._other: subprocess.Popen[bytes] | None = None
        self.seen = False

    def on_start(self, happening: Any) -> None:
        if not self.seen and happening.data["dispatcher"].py_func.__module__.startswith(__package__.split(".")[0]):
            self.seen = True
            self._compiling()
            # It ends when its input closes, and so with this process. Where it fails, all is compiled here.
            command = [sys.executable, "-P", "-m", __package__, FLOAT32.name]
            with suppress(OSError):
                if cores.usable() > 1 and sys.executable:
                    self._other = subprocess.Popen(  # noqa: S603  (of our own)
                        command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
                    )

    def on_end(self, happening: Any) -> None:
        pass

    def wait(self) -> None:
        """Wait for the other process, if there is one."""
        if self._other is not None:
            self._other.wait()
            if self._other.stdin is not None:
                self._other.stdin.close()
