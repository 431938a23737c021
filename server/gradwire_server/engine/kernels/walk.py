"""The kernel: walks the rows of a run of elementwise operations, forward and backward.

A run is a table of rows. A row applies one opcode to a range of elements; its operands are ranges too, or lists of
places. Values of the stage that runs are [elements, lanes], lanes innermost; a lane is an example. Values that all
examples share have one lane, and stand in a buffer of their own.

Compiled once for all graphs and kept on disk: a graph is data.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from gradwire_server.engine.kernels import functions
from gradwire_server.engine.kernels.caching import compiled
from gradwire_server.engine.kernels.columns import (
    ADJOINT,
    ADJOINT_STRIDE,
    BASE,
    COUNT,
    LISTED,
    NOWHERE,
    OPCODE,
    OUT,
    OUT_ADJOINT,
    SHARED,
    STRIDE,
    A,
    B,
)
from gradwire_server.engine.kernels.opcodes import Opcode

ADD, MUL, MAX, MAX_SPLIT, SIGMOID, EXP, LOG, TANH, SOFTPLUS, SQUARE, RECIPROCAL, POWER = map(int, Opcode)

CHUNK = 512
"""Elements that pass through a scratch buffer at a time."""

_inlined = njit(nogil=True, error_model="numpy", forceinline=True)


def scratch(lanes: int) -> int:
    """Elements that the buffers of values and of gradients have at their end, beyond those of the nodes."""
    return 3 * max(CHUNK, lanes)


_unsigned: Any = np.uint64
"""Of an index that is not unsigned Numba asks whether it counts from the end, and LLVM makes no vectors then."""


@_inlined
def _apply(opcode: int, exponent: Any, v: Any, i: int, j: int, o: int, n: int) -> None:
    """``n`` results from ``o`` on, of the operands from ``i`` and from ``j`` on."""
    i, j, o, n = _unsigned(i), _unsigned(j), _unsigned(o), _unsigned(n)
    if opcode == ADD:
        for k in range(n):
            v[o + k] = v[i + k] + v[j + k]
    elif opcode == MUL:
        for k in range(n):
            v[o + k] = v[i + k] * v[j + k]
    elif opcode in (MAX, MAX_SPLIT):
        for k in range(n):
            a, b = v[i + k], v[j + k]
            # NaN of either wins, and of two zeros the second, as with NumPy.
            v[o + k] = a if a > b or a != a else b  # noqa: PLR0124  (NaN)
    elif opcode == SIGMOID:
        for k in range(n):
            v[o + k] = functions.sigmoid(v[i + k])
    elif opcode == EXP:
        for k in range(n):
            v[o + k] = functions.exp(v[i + k])
    elif opcode == LOG:
        for k in range(n):
            v[o + k] = functions.log(v[i + k])
    elif opcode == TANH:
        for k in range(n):
            v[o + k] = functions.tanh(v[i + k])
    elif opcode == SOFTPLUS:
        for k in range(n):
            v[o + k] = functions.softplus(v[i + k])
    elif opcode == SQUARE:
        for k in range(n):
            v[o + k] = v[i + k] * v[i + k]
    elif opcode == RECIPROCAL:
        one = v.dtype.type(1)
        for k in range(n):
            v[o + k] = one / v[i + k]
    else:
        for k in range(n):
            v[o + k] = functions.power(v[i + k], exponent)


@_inlined
def _derive(opcode: int, exponent: Any, v: Any, i: int, j: int, o: int, d: Any, g: int, p: int, q: int, n: int) -> None:
    """The gradients of ``n`` results, from ``g`` on, times the local derivatives, to ``p`` and ``q`` on."""
    i, j, o, n = _unsigned(i), _unsigned(j), _unsigned(o), _unsigned(n)
    g, p, q = _unsigned(g), _unsigned(p), _unsigned(q)
    zero, half, one = d.dtype.type(0), d.dtype.type(0.5), d.dtype.type(1)
    if opcode == MUL:
        for k in range(n):
            d[p + k] = d[g + k] * v[j + k]
        for k in range(n):
            d[q + k] = d[g + k] * v[i + k]
    elif opcode == MAX:
        for k in range(n):
            d[p + k] = d[g + k] if v[i + k] > v[j + k] else zero
        for k in range(n):
            d[q + k] = d[g + k] if v[j + k] > v[i + k] else zero
    elif opcode == MAX_SPLIT:
        for k in range(n):
            d[p + k] = d[g + k] if v[i + k] > v[j + k] else (half * d[g + k] if v[i + k] == v[j + k] else zero)
        for k in range(n):
            d[q + k] = d[g + k] if v[j + k] > v[i + k] else (half * d[g + k] if v[i + k] == v[j + k] else zero)
    elif opcode == SIGMOID:
        for k in range(n):
            d[p + k] = d[g + k] * (v[o + k] * (one - v[o + k]))
    elif opcode == EXP:
        for k in range(n):
            d[p + k] = d[g + k] * v[o + k]
    elif opcode == LOG:
        for k in range(n):
            d[p + k] = d[g + k] / v[i + k]
    elif opcode == TANH:
        # (1 - t)(1 + t) keeps the digits that 1 - t^2 loses where |t| is near 1.
        for k in range(n):
            d[p + k] = d[g + k] * ((one - v[o + k]) * (one + v[o + k]))
    elif opcode == SOFTPLUS:
        for k in range(n):
            d[p + k] = d[g + k] * functions.sigmoid(v[i + k])
    elif opcode == SQUARE:
        for k in range(n):
            d[p + k] = d[g + k] * (v[i + k] + v[i + k])
    elif opcode == RECIPROCAL:
        for k in range(n):
            d[p + k] = -(d[g + k] * v[o + k]) * v[o + k]
    elif opcode == POWER:
        less = exponent - one
        for k in range(n):
            d[p + k] = d[g + k] * (exponent * functions.power(v[i + k], less))


@_inlined
def _gather(source: Any, lists: Any, base: int, stride: int, first: int, n: int, v: Any, o: int) -> None:
    """``n`` elements of an operand, from the ``first`` on, of buffers of one lane, to ``o``."""
    start, step, o, n = _unsigned(base + first), _unsigned(stride), _unsigned(o), _unsigned(n)
    if stride == LISTED:
        for k in range(n):
            v[o + k] = source[lists[start + k]]
    else:
        start = _unsigned(base + stride * first)
        for k in range(n):
            v[o + k] = source[start + step * k]


@_inlined
def _scatter(d: Any, p: int, target: Any, lists: Any, base: int, stride: int, first: int, n: int) -> None:
    """Add ``n`` contributions to the gradients of an operand, from its ``first`` element on, in buffers of one lane."""
    start, step, p, n = _unsigned(base + first), _unsigned(stride), _unsigned(p), _unsigned(n)
    if stride == LISTED:
        for k in range(n):
            target[lists[start + k]] += d[p + k]
    elif stride == 1:
        for k in range(n):
            target[start + k] += d[p + k]
    else:
        start = _unsigned(base + stride * first)
        for k in range(n):
            target[start + step * k] += d[p + k]


@_inlined
def _sum(d: Any, p: int, n: int, o: int) -> Any:
    """The sum of ``n`` contributions, in pairs: its error hardly grows with n, and LLVM makes vectors of it."""
    p, o, n, one = _unsigned(p), _unsigned(o), _unsigned(n), _unsigned(1)
    odd = d.dtype.type(0)
    source = p
    while n > one:
        half = n >> one
        if n & one:
            odd += d[source + n - one]
        for k in range(half):
            d[o + k] = d[source + k] + d[source + half + k]
        n, source = half, o
    return d[source] + odd


@_inlined
def _place(lists: Any, base: int, stride: int, k: int) -> int:
    """The k-th element of an operand."""
    return lists[base + k] if stride == LISTED else base + stride * k


@compiled
def forward(rows: Any, exponents: Any, lists: Any, values: Any, shared: Any, lanes: int) -> None:
    """Compute the values of all rows in turn.

    Args:
        rows: int64 [rows, COLUMNS].
        exponents: For each row, that of POWER.
        lists: int32, places of elements.
        values: [elements * lanes], and scratch; operands that are not shared are in it too.
        shared: Values that all lanes share, [elements]; ``values`` itself in a stage of one lane.
        lanes: Examples of the block.
    """
    x = len(values) - 3 * max(CHUNK, lanes)
    y = x + max(CHUNK, lanes)
    for r in range(len(rows)):
        row = rows[r]
        opcode, count, out = row[OPCODE], row[COUNT], row[OUT]
        a_shared, a, a_stride = row[A + SHARED], row[A + BASE], row[A + STRIDE]
        b_shared, b, b_stride = row[B + SHARED], row[B + BASE], row[B + STRIDE]
        plain = a_stride == 1 and b_stride == 1 and not a_shared and not b_shared
        elements = count * lanes
        step = elements if plain else (CHUNK if lanes == 1 else lanes)
        for first in range(0, elements, step):
            n = min(step, elements - first)
            i, j = a * lanes + first, b * lanes + first
            if not plain:
                i, j = x, y
                if lanes == 1:
                    _gather(shared if a_shared else values, lists, a, a_stride, first, n, values, x)
                    if b != NOWHERE:
                        _gather(shared if b_shared else values, lists, b, b_stride, first, n, values, y)
                else:
                    k = first // lanes
                    if a_shared:
                        values[x : x + lanes] = shared[_place(lists, a, a_stride, k)]
                    else:
                        i = _place(lists, a, a_stride, k) * lanes
                    if b_shared:
                        values[y : y + lanes] = shared[_place(lists, b, b_stride, k)]
                    elif b != NOWHERE:
                        j = _place(lists, b, b_stride, k) * lanes
            _apply(opcode, exponents[r], values, i, j, out * lanes + first, n)


@compiled
def backward(
    rows: Any,
    exponents: Any,
    lists: Any,
    values: Any,
    shared: Any,
    adjoints: Any,
    shared_adjoints: Any,
    lanes: int,
    separate: bool,
) -> None:
    """Add the gradients of all rows, from the last to the first, to those of their operands.

    Args:
        rows: As for ``forward``; so are exponents, lists, values, shared and lanes.
        exponents: As said.
        lists: As said.
        values: As said.
        shared: As said.
        adjoints: Gradients of the stage's own values, [elements * lanes], and scratch.
        shared_adjoints: Of shared values: [elements], summed over lanes, or [elements * lanes].
        lanes: As said.
        separate: Whether each lane has shared gradients of its own.
    """
    width = max(CHUNK, lanes)
    x = len(values) - 3 * width
    y = x + width
    p = len(adjoints) - 3 * width
    q, s = p + width, p + 2 * width
    for r in range(len(rows) - 1, -1, -1):
        row = rows[r]
        opcode, count, out, g = row[OPCODE], row[COUNT], row[OUT], row[OUT_ADJOINT]
        a_shared, a, a_stride = row[A + SHARED], row[A + BASE], row[A + STRIDE]
        b_shared, b, b_stride = row[B + SHARED], row[B + BASE], row[B + STRIDE]
        a_adjoint, a_adjoint_stride = row[A + ADJOINT], row[A + ADJOINT_STRIDE]
        b_adjoint, b_adjoint_stride = row[B + ADJOINT], row[B + ADJOINT_STRIDE]
        plain = a_stride == 1 and b_stride == 1 and not a_shared and not b_shared
        plain = plain and a_adjoint_stride == 1 and b_adjoint_stride == 1
        elements = count * lanes
        step = CHUNK if plain or lanes == 1 else lanes
        for first in range(0, elements, step):
            n = min(step, elements - first)
            gradient = g * lanes + first
            k = first // lanes
            dx = dy = gradient
            if opcode != ADD:
                i, j = a * lanes + first, b * lanes + first
                if not plain:
                    i, j = x, y
                    if lanes == 1:
                        if opcode not in (SIGMOID, EXP, TANH, RECIPROCAL):
                            _gather(shared if a_shared else values, lists, a, a_stride, first, n, values, x)
                            if b != NOWHERE:
                                _gather(shared if b_shared else values, lists, b, b_stride, first, n, values, y)
                    else:
                        if a_shared:
                            values[x : x + lanes] = shared[_place(lists, a, a_stride, k)]
                        else:
                            i = _place(lists, a, a_stride, k) * lanes
                        if b_shared:
                            values[y : y + lanes] = shared[_place(lists, b, b_stride, k)]
                        elif b != NOWHERE:
                            j = _place(lists, b, b_stride, k) * lanes
                dx, dy = p, q
                _derive(opcode, exponents[r], values, i, j, out * lanes + first, adjoints, gradient, dx, dy, n)
            for operand in range(2):
                operand_shared = b_shared if operand else a_shared
                base = b_adjoint if operand else a_adjoint
                stride = b_adjoint_stride if operand else a_adjoint_stride
                c = dy if operand else dx
                if base == NOWHERE:
                    continue
                if plain:
                    _scatter(adjoints, c, adjoints, lists, base * lanes, 1, first, n)
                elif lanes == 1:
                    _scatter(
                        adjoints, c, shared_adjoints if operand_shared else adjoints, lists, base, stride, first, n
                    )
                elif operand_shared and not separate:
                    shared_adjoints[_place(lists, base, stride, k)] += _sum(adjoints, c, n, s)
                else:
                    target = shared_adjoints if operand_shared else adjoints
                    _scatter(adjoints, c, target, lists, _place(lists, base, stride, k) * lanes, 1, 0, n)
