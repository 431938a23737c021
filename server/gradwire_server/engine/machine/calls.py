"""Functions in swarms: a group of them gathers its arguments in the places of its values, and is a loop over these."""

from __future__ import annotations

from typing import Any

from numba import int64

from gradwire_server.engine.graph.opcodes import Opcode
from gradwire_server.engine.lowering import rows as r
from gradwire_server.engine.machine.elementwise import EXP, SIGMOID, TANH
from gradwire_server.engine.machine.memory import address_in, inlined, invoke, unsigned
from gradwire_server.engine.machine.scalars import Operations

BACK = int(Opcode.BACK)

CHUNK = 2048
"""Numbers that pass through a function at a time, so that they stay in the cache that is next."""


@inlined
def _gather(t: Operations, k: int, rows: int, run: int, v: Any, w: int, target: Any, o: int) -> None:
    """Copy the arguments of ``rows`` operations from ``k`` on to ``o``."""
    if w == 1 and run != r.RANGES:
        for m in range(rows):
            target[o + m] = v[t.a[k + m]]
        return
    # As one row, if they stand one after another.
    n = rows * w if run == r.RANGES else w
    for m in range(unsigned(1) if run == r.RANGES else rows):
        i, p = unsigned(t.a[k + m]) * w, o + m * w
        for lane in range(n):
            target[p + lane] = v[i + lane]


@inlined
def _scatter(t: Operations, k: int, rows: int, run: int, w: int, x: Any, o: int, d: Any) -> None:
    """Add numbers of ``x`` from ``o`` on to the gradients of the arguments of ``rows`` operations from ``k`` on."""
    if w == 1 and run != r.RANGES:
        for m in range(rows):
            d[t.a[k + m]] += x[o + m]
        return
    n = rows * w if run == r.RANGES else w
    for m in range(unsigned(1) if run == r.RANGES else rows):
        i, p = unsigned(t.a[k + m]) * w, o + m * w
        for lane in range(n):
            d[i + lane] += x[p + lane]


@inlined
def call(c: Any, opcode: int, begin: int, end: int, run: int, t: Operations, v: Any, x: Any, w: int) -> None:
    """The operations from ``begin`` on, all of one function, on the values ``v`` of ``w`` lanes; ``x`` is scratch.

    Nothing is computed in its own place, where LLVM would make no vectors.
    """
    step = max(1, CHUNK // int(w))
    for k in range(begin, end, step):
        rows, o = unsigned(min(step, end - k)), unsigned(t.first + k) * w
        known = address_in(x, unsigned(0))
        if rows == unsigned(1):
            known = address_in(v, unsigned(t.a[unsigned(k)]) * w)
        else:
            _gather(t, unsigned(k), rows, run, v, w, x, unsigned(0))
        invoke(c[r.C_APPLY], (opcode, known, known, known, address_in(v, o), int64(rows * w), t.one))


@inlined
def call_back(
    c: Any, opcode: int, begin: int, end: int, run: int, t: Operations, v: Any, d: Any, x: Any, w: int
) -> None:
    """Gradients ``d`` of the operations from ``begin`` on, all of one function; ``x`` is scratch."""
    step, of_argument = max(1, CHUNK // int(w)), opcode not in (EXP, SIGMOID, TANH)
    part, passed = unsigned(CHUNK), unsigned(CHUNK)
    for k in range(begin, end, step):
        rows, o = unsigned(min(step, end - k)), unsigned(t.first + k) * w
        if rows > unsigned(1):
            if of_argument:
                _gather(t, unsigned(k), rows, run, v, w, x, unsigned(0))
            known = address_in(x, unsigned(0)) if of_argument else address_in(v, o)
            n = int64(rows * w)
            invoke(c[r.C_APPLY_BACK], (BACK + opcode, address_in(d, o), known, known, address_in(x, passed), n, t.one))
            _scatter(t, unsigned(k), rows, run, w, x, passed, d)
            continue
        a = unsigned(t.a[unsigned(k)]) * w
        for lane in range(unsigned(0), w, part):
            n = min(part, w - lane)
            known = address_in(v, a + lane if of_argument else o + lane)
            g, out = address_in(d, o + lane), address_in(x, passed)
            invoke(c[r.C_APPLY_BACK], (BACK + opcode, g, known, known, out, int64(n), t.one))
            for m in range(n):
                d[a + lane + m] += x[passed + m]
