"""Scalar graphs on CasADi's virtual machine for expressions of scalars (SX)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import casadi
import numpy as np

from tests.benchmarks.random_graphs import SOURCES, Recipe, build
from tests.benchmarks.timing import Call
from tests.benchmarks.workloads import Make


def _sigmoid(x: Any) -> Any:
    return 1 / (1 + casadi.exp(-x))


WRITE = (lambda a, b: a + b, lambda a, b: a * b, casadi.fmax, _sigmoid, casadi.tanh)


def total(ends: Sequence[Any]) -> Any:
    """The sum of some scalars."""
    return casadi.sum1(casadi.vertcat(*ends))


class Machine:
    """A function of CasADi for value and gradient, called through its buffers."""

    def __init__(self, size: int, loss: Callable[[list[Any]], Any]) -> None:
        x = casadi.SX.sym("x", size)
        value = loss(casadi.vertsplit(x))
        self._function = casadi.Function("f", [x], [value, casadi.gradient(value, x)])
        self._buffer, self._call = self._function.buffer()
        self._x: Any = None
        self.value, self.gradient = np.zeros(1), np.zeros(size)
        self._buffer.set_res(0, self.value.data)
        self._buffer.set_res(1, self.gradient.data)

    def at(self, x: Any) -> Callable[[], None]:
        """The call at ``x``, an array of doubles."""
        self._x = x  # CasADi keeps its address alone.
        self._buffer.set_arg(0, x.data)

        def call() -> None:
            # It does not keep the function alive.
            self._call()

        return call


def random_graph(written: Recipe) -> Machine:
    """A random graph in CasADi's terms."""
    return Machine(SOURCES, lambda x: build(written, x, WRITE, total))


def contestant(make: Make) -> Call:
    """Value and gradient, bound to buffers."""
    work = make()
    assert work.recipe
    machine = random_graph(work.recipe)
    x = work.parameters["x"]
    run = machine.at(x)

    def call() -> tuple[Any, Any]:
        run()
        return machine.value, machine.gradient

    return call
