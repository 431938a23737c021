"""Functions in swarms: a group of them gathers its arguments in the places of its values, and is a loop over these."""

from __future__ import annotations

from typing import Any

from numba import int64

from gradwire_server.engine2.graph.opcodes import Opcode
from gradwire_server.engine2.lowering.rows import C_APPLY, C_APPLY_BACK
from gradwire_server.engine2.machine.elementwise import LOG, SOFTPLUS
from gradwire_server.engine2.machine.memory import address_in, inlined, invoke, unsigned
from gradwire_server.engine2.machine.scalars import RANGES, Operations

BACK = int(Opcode.BACK)

CHUNK = 2048
"""Numbers that pass through a function at a time, so that they stay in the cache that is next."""


@inlined
def _gather(t: Operations, k: int, rows: int, run: int, v: Any, w: int, target: Any, o: int) -> None:
    """Copy the arguments of ``rows`` operations from ``k`` on to ``o``."""
    if w == 1 and run != RANGES:
        for m in range(rows):
            target[o + m] = v[t.a[k + m]]
        return
    # As one row, if they stand one after another.
    n = rows * w if run == RANGES else w
    for m in range(unsigned(1) if run == RANGES else rows):
        i, p = unsigned(t.a[k + m]) * w, o + m * w
        for lane in range(n):
            target[p + lane] = v[i + lane]


@inlined
def _scatter(t: Operations, k: int, rows: int, run: int, w: int, d: Any, o: int) -> None:
    """Add what is at ``o`` to the gradients of the arguments of ``rows`` operations from ``k`` on."""
    if w == 1 and run != RANGES:
        for m in range(rows):
            d[t.a[k + m]] += d[o + m]
        return
    n = rows * w if run == RANGES else w
    for m in range(unsigned(1) if run == RANGES else rows):
        i, p = unsigned(t.a[k + m]) * w, o + m * w
        for lane in range(n):
            d[i + lane] += d[p + lane]


@inlined
def call(c: Any, opcode: int, begin: int, end: int, run: int, t: Operations, v: Any, w: int) -> None:
    """The operations from ``begin`` on, all of one function, on the values ``v`` of ``w`` lanes."""
    step = max(1, CHUNK // int(w))
    for k in range(begin, end, step):
        rows, o = unsigned(min(step, end - k)), unsigned(t.first + k) * w
        n, at = int64(rows * w), address_in(v, o)
        _gather(t, unsigned(k), rows, run, v, w, v, o)
        invoke(c[C_APPLY], (opcode, at, at, at, at, n, t.one))


@inlined
def call_back(
    c: Any, opcode: int, begin: int, end: int, run: int, t: Operations, v: Any, d: Any, x: Any, w: int
) -> None:
    """Gradients ``d`` of the operations from ``begin`` on, all of one function; ``x`` is scratch."""
    step = max(1, CHUNK // int(w))
    for k in range(begin, end, step):
        rows, o = unsigned(min(step, end - k)), unsigned(t.first + k) * w
        n, at, known = int64(rows * w), address_in(d, o), address_in(v, o)
        if opcode in (LOG, SOFTPLUS):
            _gather(t, unsigned(k), rows, run, v, w, x, unsigned(0))
            known = address_in(x, unsigned(0))
        invoke(c[C_APPLY_BACK], (BACK + opcode, at, known, known, at, n, t.one))
        _scatter(t, unsigned(k), rows, run, w, d, o)
