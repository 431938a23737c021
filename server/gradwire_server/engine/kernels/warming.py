"""Kernels compiled before they are needed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba.core import event

from gradwire_server.engine.kernels import order, tape, walk, wire
from gradwire_server.engine.kernels.columns import COLUMNS
from gradwire_server.engine.kernels.finite import all_finite
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
        for bits in (np.zeros(1, np.uint64), np.zeros(1, np.uint32)):
            all_finite(bits, bits[0])
            # What came in a message cannot be written, which is another type to Numba.
            bits.flags.writeable = False
            all_finite(bits, bits[0])
        _warm_tapes()
        # Of bytes, as above.
        wire.count_fields(np.frombuffer(b"", np.uint8), rows)
    return watch.seen


def _warm_tapes() -> None:
    starts, some, marked = np.zeros(1, np.int64), np.empty(0, np.int32), np.zeros(1, np.bool_)
    opcodes = np.empty(0, np.int8)
    order.mark(starts, some, 0, marked)
    order.reach(starts, some, 0, marked)
    order.count_levels(starts, some, 0, some)
    order.find_scalars(opcodes, starts, some, marked, 0)
    order.count_turns(starts, some, marked, some)
    operations, groups, places = order.arrange(opcodes, starts, some, 0, marked, 1, marked)
    a, b, lists, standing = order.tabulate(operations, opcodes, starts, some, places, 1, 1)
    groups = order.divide(groups, opcodes, a, b, lists, standing, 0, starts, 1, starts, 1)
    y = np.zeros(1)
    for dtype in (np.float64, np.float32):
        x = np.zeros(1, dtype)
        tape.forward(groups, opcodes, a, b, lists, x[:0], y[:0], some, 0, x, x, 1, 1)
        tape.backward(groups, opcodes, a, b, lists, x, some, 0, x, 1, 1, x, x, x, x[:0], marked)


_KERNELS = {walk.forward, walk.backward, outer, all_finite, tape.forward, tape.backward}
_KERNELS |= {order.mark, order.reach, order.count_levels, order.arrange, order.tabulate, order.divide}
_KERNELS |= {order.find_scalars, order.count_turns, wire.count_fields}


class _Watch(event.Listener):
    """Sees whether a kernel is compiled; that other threads compile something else is nothing to it."""

    def __init__(self, compiling: Callable[[], None]) -> None:
        self._compiling = compiling
        self.seen = False

    def on_start(self, happening: Any) -> None:
        if not self.seen and happening.data["dispatcher"] in _KERNELS:
            self.seen = True
            self._compiling()

    def on_end(self, happening: Any) -> None:
        pass
