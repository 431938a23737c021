"""Elementary functions in tapes.

A group of them gathers its arguments in the places of its values, and is a loop over these.
"""

from __future__ import annotations

from typing import Any

from gradwire_server.engine.kernels import functions
from gradwire_server.engine.kernels.operations import (
    EXP,
    LOG,
    RANGES,
    SIGMOID,
    SOFTPLUS,
    TANH,
    Operations,
    inlined,
    unsigned,
)

CHUNK = 2048
"""Numbers that pass through a function at a time, so that they stay in the cache that is next."""


@inlined
def apply(opcode: int, x: Any) -> Any:
    """What a function gives of a number."""
    if opcode == EXP:
        return functions.exp(x)
    if opcode == LOG:
        return functions.log(x)
    if opcode == SIGMOID:
        return functions.sigmoid(x)
    if opcode == TANH:
        return functions.tanh(x)
    return functions.softplus(x)


@inlined
def derive(opcode: int, g: Any, x: Any, y: Any, one: Any) -> Any:
    """The gradient ``g`` of a function times its derivative, given its argument and its value."""
    if opcode == EXP:
        return g * y
    if opcode == LOG:
        return g / x
    if opcode == SIGMOID:
        return g * (y * (one - y))
    if opcode == TANH:
        # (1 - y)(1 + y) keeps the digits that 1 - y^2 loses where |y| is near 1.
        return g * ((one - y) * (one + y))
    return g * functions.sigmoid(x)


@inlined
def _apply_to(opcode: int, v: Any, o: int, n: int) -> None:
    """Put in the place of ``n`` numbers from ``o`` on what a function gives of each."""
    for k in range(n):
        v[o + k] = apply(opcode, v[o + k])


@inlined
def _derive_of(opcode: int, v: Any, x: Any, d: Any, o: int, n: int, one: Any) -> None:
    """Put in the place of ``n`` gradients from ``o`` on what goes back; ``x`` has the arguments, if they are needed."""
    for k in range(n):
        d[o + k] = derive(opcode, d[o + k], x[k] if opcode in (LOG, SOFTPLUS) else one, v[o + k], one)


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
def call(opcode: int, begin: int, end: int, run: int, t: Operations, v: Any, w: int) -> None:
    """The operations from ``begin`` on, all of one function, on the values ``v`` of ``w`` lanes."""
    step = max(1, CHUNK // int(w))
    for k in range(begin, end, step):
        rows, o = unsigned(min(step, end - k)), unsigned(t.first + k) * w
        n = rows * w
        _gather(t, unsigned(k), rows, run, v, w, v, o)
        if opcode == EXP:
            _apply_to(EXP, v, o, n)
        elif opcode == LOG:
            _apply_to(LOG, v, o, n)
        elif opcode == SIGMOID:
            _apply_to(SIGMOID, v, o, n)
        elif opcode == TANH:
            _apply_to(TANH, v, o, n)
        else:
            _apply_to(SOFTPLUS, v, o, n)


@inlined
def call_back(opcode: int, begin: int, end: int, run: int, t: Operations, v: Any, d: Any, x: Any, w: int) -> None:
    """The same, backward, on the gradients ``d``, with ``x`` for scratch."""
    step = max(1, CHUNK // int(w))
    for k in range(begin, end, step):
        rows, o = unsigned(min(step, end - k)), unsigned(t.first + k) * w
        n = rows * w
        if opcode in (LOG, SOFTPLUS):
            _gather(t, unsigned(k), rows, run, v, w, x, unsigned(0))
        if opcode == EXP:
            _derive_of(EXP, v, x, d, o, n, t.one)
        elif opcode == LOG:
            _derive_of(LOG, v, x, d, o, n, t.one)
        elif opcode == SIGMOID:
            _derive_of(SIGMOID, v, x, d, o, n, t.one)
        elif opcode == TANH:
            _derive_of(TANH, v, x, d, o, n, t.one)
        else:
            _derive_of(SOFTPLUS, v, x, d, o, n, t.one)
        _scatter(t, unsigned(k), rows, run, w, d, o)
