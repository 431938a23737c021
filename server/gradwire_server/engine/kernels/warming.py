"""Kernels compiled before they are needed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba.core import event

from gradwire_server.engine.kernels import walk
from gradwire_server.engine.kernels.columns import COLUMNS
from gradwire_server.engine.kernels.outer import outer


def _nothing() -> None:
    pass


def warm(compiling: Callable[[], None] = _nothing) -> bool:
    """Load the kernels for both types, or compile those that are not cached; True if that had to be.

    Args:
        compiling: Called once, before the first of them is compiled.
    """
    watch = _Watch(compiling)
    with event.install_listener("numba:compile", watch):
        rows, lists = np.empty((0, COLUMNS), np.int64), np.empty(0, np.int32)
        for dtype in (np.float64, np.float32):
            exponents, values = np.empty(0, dtype), np.empty(walk.scratch(1), dtype)
            walk.forward(rows, exponents, lists, values, values, 1)
            walk.backward(rows, exponents, lists, values, values, values, values, 1, False)
            outer(values[:0, np.newaxis], values[:0, np.newaxis], values[:0, np.newaxis, np.newaxis])
    return watch.seen


class _Watch(event.Listener):
    """Sees whether a kernel is compiled; that other threads compile something else is nothing to it."""

    def __init__(self, compiling: Callable[[], None]) -> None:
        self._compiling = compiling
        self.seen = False

    def on_start(self, happening: Any) -> None:
        if not self.seen and happening.data["dispatcher"] in (walk.forward, walk.backward, outer):
            self.seen = True
            self._compiling()

    def on_end(self, happening: Any) -> None:
        pass
