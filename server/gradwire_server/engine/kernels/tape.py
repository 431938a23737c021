"""The kernel of tapes: a swarm of scalar operations on a space of places of its own, forward and backward.

A tape is a table of groups. A group applies one opcode to a range of places, whose arguments two tables list, or, if it
is MIXED, to each its own. Values are [places, lanes] for a few lanes at a time, lanes innermost. Of one lane the loops
go over the operations of a group, of several over the lanes.

Compiled once for all graphs and kept on disk.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any

import numpy as np
from numba import njit

from gradwire_server.engine.kernels import functions
from gradwire_server.engine.kernels.caching import compiled

_inlined = njit(nogil=True, error_model="numpy", forceinline=True)


class TapeOpcode(IntEnum):
    """Operations of the kernel; the numbers are the kernel's own, and the order in which groups take turns."""

    MUL = 0
    SQUARE = 1
    RECIPROCAL = 2
    ADD = 3
    MAX = 4
    MAX_SPLIT = 5
    POWER = 6
    EXP = 7
    LOG = 8
    SIGMOID = 9
    TANH = 10
    SOFTPLUS = 11
    PRODUCT = 12
    SUM = 13
    LARGEST = 14
    LARGEST_SPLIT = 15
    MIXED = 16


MUL, SQUARE, RECIPROCAL, ADD, MAX, MAX_SPLIT, POWER, EXP, LOG, SIGMOID, TANH, SOFTPLUS = map(int, list(TapeOpcode)[:12])
PRODUCT, SUM, LARGEST, LARGEST_SPLIT, MIXED = map(int, list(TapeOpcode)[12:])

CHUNK = 2048
"""Numbers that pass through an elementary function at a time, so that they stay in the cache that is next."""

_unsigned: Any = np.uint64
"""Of an index that is not unsigned Numba asks whether it counts from the end, and LLVM makes no vectors then."""


@_inlined
def _larger(a: Any, b: Any) -> Any:
    """The larger one; NaN of either wins, and of two zeros the second, as with NumPy."""
    return a if a > b or a != a else b  # noqa: PLR0124  (NaN)


@_inlined
def _finite(d: Any, o: int, n: int) -> bool:
    """Whether ``n`` numbers from ``o`` on are finite: the others are not zero less themselves."""
    o, zero = _unsigned(o), d.dtype.type(0)
    bad = False
    for k in range(_unsigned(n)):
        bad = bad | (d[o + k] - d[o + k] != zero)
    return not bad


@_inlined
def _functions(opcode: int, v: Any, o: int, n: int) -> None:
    """Put in the place of ``n`` numbers from ``o`` on what a function gives of each."""
    o, n = _unsigned(o), _unsigned(n)
    if opcode == EXP:
        for k in range(n):
            v[o + k] = functions.exp(v[o + k])
    elif opcode == LOG:
        for k in range(n):
            v[o + k] = functions.log(v[o + k])
    elif opcode == SIGMOID:
        for k in range(n):
            v[o + k] = functions.sigmoid(v[o + k])
    elif opcode == TANH:
        for k in range(n):
            v[o + k] = functions.tanh(v[o + k])
    else:
        for k in range(n):
            v[o + k] = functions.softplus(v[o + k])


@_inlined
def _derivatives(opcode: int, v: Any, x: Any, d: Any, o: int, n: int) -> None:
    """Multiply ``n`` gradients from ``o`` on by local derivatives; ``x`` has the arguments where values do not do."""
    o, n = _unsigned(o), _unsigned(n)
    one = d.dtype.type(1)
    if opcode == EXP:
        for k in range(n):
            d[o + k] *= v[o + k]
    elif opcode == LOG:
        for k in range(n):
            d[o + k] /= x[k]
    elif opcode == SIGMOID:
        for k in range(n):
            d[o + k] *= v[o + k] * (one - v[o + k])
    elif opcode == TANH:
        # (1 - t)(1 + t) keeps the digits that 1 - t^2 loses where |t| is near 1.
        for k in range(n):
            d[o + k] *= (one - v[o + k]) * (one + v[o + k])
    else:
        for k in range(n):
            d[o + k] *= functions.sigmoid(x[k])


@_inlined
def _gather(v: Any, a: Any, begin: int, rows: int, w: int, target: Any, o: int) -> None:
    """Copy the first arguments of ``rows`` operations, from ``begin`` on, to ``o``."""
    begin, rows, w, o = _unsigned(begin), _unsigned(rows), _unsigned(w), _unsigned(o)
    if w == 1:
        for k in range(rows):
            target[o + k] = v[a[begin + k]]
    else:
        for k in range(rows):
            i, p = _unsigned(a[begin + k]) * w, o + k * w
            for lane in range(w):
                target[p + lane] = v[i + lane]


@_inlined
def _call(opcode: int, begin: int, end: int, a: Any, first: int, v: Any, w: int) -> None:
    """A group of an elementary function."""
    step = max(1, CHUNK // w)
    for k in range(begin, end, step):
        rows = min(step, end - k)
        _gather(v, a, k, rows, w, v, (first + k) * w)
        _functions(opcode, v, (first + k) * w, rows * w)


@_inlined
def _call_back(opcode: int, begin: int, end: int, a: Any, first: int, v: Any, d: Any, x: Any, w: int) -> None:
    """A group of an elementary function, backward."""
    step = max(1, CHUNK // w)
    for k in range(begin, end, step):
        rows = min(step, end - k)
        if opcode in (LOG, SOFTPLUS):
            _gather(v, a, k, rows, w, x, 0)
        o = (first + k) * w
        _derivatives(opcode, v, x, d, o, rows * w)
        if w == 1:
            for m in range(_unsigned(rows)):
                d[a[_unsigned(k) + m]] += d[_unsigned(o) + m]
        else:
            for m in range(_unsigned(rows)):
                i, p = _unsigned(a[_unsigned(k) + m]) * _unsigned(w), _unsigned(o) + m * _unsigned(w)
                for lane in range(_unsigned(w)):
                    d[i + lane] += d[p + lane]


@_inlined
def _forward_one(
    opcode: int, begin: int, end: int, a: Any, b: Any, lists: Any, exponents: Any, first: int, v: Any
) -> None:
    """A group, of one lane."""
    one = v.dtype.type(1)
    start, stop, base = _unsigned(begin), _unsigned(end), _unsigned(first)
    if opcode == MUL:
        for k in range(start, stop):
            v[base + k] = v[a[k]] * v[b[k]]
    elif opcode == ADD:
        for k in range(start, stop):
            v[base + k] = v[a[k]] + v[b[k]]
    elif opcode in (MAX, MAX_SPLIT):
        for k in range(start, stop):
            v[base + k] = _larger(v[a[k]], v[b[k]])
    elif opcode == SQUARE:
        for k in range(start, stop):
            v[base + k] = v[a[k]] * v[a[k]]
    elif opcode == RECIPROCAL:
        for k in range(start, stop):
            v[base + k] = one / v[a[k]]
    elif opcode == POWER:
        for k in range(start, stop):
            v[base + k] = functions.power(v[a[k]], exponents[b[k]])
    elif opcode == PRODUCT:
        for k in range(start, stop):
            result = v[lists[a[k]]]
            for i in range(_unsigned(a[k]) + _unsigned(1), _unsigned(b[k])):
                result *= v[lists[i]]
            v[base + k] = result
    elif opcode == SUM:
        for k in range(start, stop):
            result = v[lists[a[k]]]
            for i in range(_unsigned(a[k]) + _unsigned(1), _unsigned(b[k])):
                result += v[lists[i]]
            v[base + k] = result
    else:
        for k in range(start, stop):
            result = v[lists[a[k]]]
            for i in range(_unsigned(a[k]) + _unsigned(1), _unsigned(b[k])):
                result = _larger(result, v[lists[i]])
            v[base + k] = result


@_inlined
def _backward_one(
    opcode: int, begin: int, end: int, a: Any, b: Any, lists: Any, exponents: Any, first: int, v: Any, d: Any, x: Any
) -> None:
    """A group, of one lane, backward."""
    zero, half, one = d.dtype.type(0), d.dtype.type(0.5), d.dtype.type(1)
    step, stop, base, n = _unsigned(1), _unsigned(end), _unsigned(first), _unsigned(end - begin)
    if opcode == MUL:
        for m in range(n):
            k = stop - step - m
            g, i, j = d[base + k], a[k], b[k]
            d[i] += g * v[j]
            d[j] += g * v[i]
    elif opcode == ADD:
        for m in range(n):
            k = stop - step - m
            g = d[base + k]
            d[a[k]] += g
            d[b[k]] += g
    elif opcode == MAX:
        for m in range(n):
            k = stop - step - m
            g, i, j = d[base + k], a[k], b[k]
            x0, y0 = v[i], v[j]
            d[i] += g if x0 > y0 else zero
            d[j] += g if y0 > x0 else zero
    elif opcode == MAX_SPLIT:
        for m in range(n):
            k = stop - step - m
            g, i, j = d[base + k], a[k], b[k]
            x0, y0 = v[i], v[j]
            share = half * g if x0 == y0 else zero
            d[i] += g if x0 > y0 else share
            d[j] += g if y0 > x0 else share
    elif opcode == SQUARE:
        for m in range(n):
            k = stop - step - m
            i = a[k]
            d[i] += d[base + k] * (v[i] + v[i])
    elif opcode == RECIPROCAL:
        for m in range(n):
            k = stop - step - m
            y = v[base + k]
            d[a[k]] += -(d[base + k] * y) * y
    elif opcode == POWER:
        for m in range(n):
            k = stop - step - m
            p = exponents[b[k]]
            if p != zero:
                i = a[k]
                d[i] += d[base + k] * (p * functions.power(v[i], p - one))
    elif opcode == PRODUCT:
        for m in range(n):
            k = stop - step - m
            g = d[base + k]
            from_, to = _unsigned(a[k]), _unsigned(b[k])
            # x: the products of what stands to the left; then from the right.
            left = v[lists[from_]]
            for i in range(from_ + step, to):
                x[i - from_] = left
                left *= v[lists[i]]
            right = v[lists[to - step]]
            d[lists[to - step]] += g * x[to - step - from_]
            for t in range(_unsigned(2), to - from_):
                i = to - t
                d[lists[i]] += g * (x[i - from_] * right)
                right *= v[lists[i]]
            d[lists[from_]] += g * right
    elif opcode == SUM:
        for m in range(n):
            k = stop - step - m
            g = d[base + k]
            for i in range(_unsigned(a[k]), _unsigned(b[k])):
                d[lists[i]] += g
    else:
        for m in range(n):
            k = stop - step - m
            y = v[base + k]
            tied = 0
            for i in range(_unsigned(a[k]), _unsigned(b[k])):
                tied += v[lists[i]] == y
            share = d[base + k]
            if tied > 1:
                share = zero if opcode == LARGEST else d.dtype.type(share / tied)
            for i in range(_unsigned(a[k]), _unsigned(b[k])):
                d[lists[i]] += share if v[lists[i]] == y else zero


@_inlined
def _forward_mixed(begin: int, end: int, opcodes: Any, a: Any, b: Any, first: int, v: Any) -> None:
    """Operations of one lane, each with an opcode of its own: no loop is worth its beginning and its end there."""
    base, one = _unsigned(first), v.dtype.type(1)
    # What was written last is not read again: in a chain all would wait for memory.
    last, y = base + _unsigned(begin), v.dtype.type(0)
    for k in range(_unsigned(begin), _unsigned(end)):
        opcode, i = opcodes[k], a[k]
        x = y if i == last else v[i]
        if opcode == MUL:
            y = x * v[b[k]]
        elif opcode == ADD:
            y = x + v[b[k]]
        elif opcode in (MAX, MAX_SPLIT):
            y = _larger(x, v[b[k]])
        elif opcode == SQUARE:
            y = x * x
        elif opcode == RECIPROCAL:
            y = one / x
        elif opcode == EXP:
            y = functions.exp(x)
        elif opcode == LOG:
            y = functions.log(x)
        elif opcode == SIGMOID:
            y = functions.sigmoid(x)
        elif opcode == TANH:
            y = functions.tanh(x)
        else:
            y = functions.softplus(x)
        last = base + k
        v[last] = y


@_inlined
def _backward_mixed(begin: int, end: int, opcodes: Any, a: Any, b: Any, first: int, v: Any, d: Any) -> None:
    """The same, backward."""
    base, step, n = _unsigned(first), _unsigned(1), _unsigned(end - begin)
    zero, half, one = d.dtype.type(0), d.dtype.type(0.5), d.dtype.type(1)
    last, total = base + _unsigned(end), zero
    for m in range(n):
        k = _unsigned(end) - step - m
        opcode, i, j, o = opcodes[k], a[k], b[k], base + k
        g = total if last == o else d[o]
        if opcode == MUL:
            d[j] += g * v[i]
            total = d[i] + g * v[j]
        elif opcode == ADD:
            d[j] += g
            total = d[i] + g
        elif opcode == MAX:
            d[j] += g if v[j] > v[i] else zero
            total = d[i] + (g if v[i] > v[j] else zero)
        elif opcode == MAX_SPLIT:
            share = half * g if v[i] == v[j] else zero
            d[j] += g if v[j] > v[i] else share
            total = d[i] + (g if v[i] > v[j] else share)
        elif opcode == SQUARE:
            total = d[i] + g * (v[i] + v[i])
        elif opcode == RECIPROCAL:
            y = v[o]
            total = d[i] + -(g * y) * y
        elif opcode == EXP:
            total = d[i] + g * v[o]
        elif opcode == LOG:
            total = d[i] + g / v[i]
        elif opcode == SIGMOID:
            y = v[o]
            total = d[i] + g * (y * (one - y))
        elif opcode == TANH:
            y = v[o]
            total = d[i] + g * ((one - y) * (one + y))
        else:
            total = d[i] + g * functions.sigmoid(v[i])
        last = _unsigned(i)
        d[last] = total


@_inlined
def _forward_many(
    opcode: int, begin: int, end: int, a: Any, b: Any, lists: Any, exponents: Any, first: int, v: Any, w: int
) -> None:
    """A group, of several lanes."""
    one = v.dtype.type(1)
    w = _unsigned(w)
    for k in range(_unsigned(begin), _unsigned(end)):
        o = (_unsigned(first) + k) * w
        if opcode >= PRODUCT:
            from_, to = _unsigned(a[k]), _unsigned(b[k])
            i = _unsigned(lists[from_]) * w
            for lane in range(w):
                v[o + lane] = v[i + lane]
            for m in range(from_ + _unsigned(1), to):
                i = _unsigned(lists[m]) * w
                if opcode == PRODUCT:
                    for lane in range(w):
                        v[o + lane] *= v[i + lane]
                elif opcode == SUM:
                    for lane in range(w):
                        v[o + lane] += v[i + lane]
                else:
                    for lane in range(w):
                        v[o + lane] = _larger(v[o + lane], v[i + lane])
            continue
        i, j = _unsigned(a[k]) * w, _unsigned(b[k]) * w
        if opcode == MUL:
            for lane in range(w):
                v[o + lane] = v[i + lane] * v[j + lane]
        elif opcode == ADD:
            for lane in range(w):
                v[o + lane] = v[i + lane] + v[j + lane]
        elif opcode in (MAX, MAX_SPLIT):
            for lane in range(w):
                v[o + lane] = _larger(v[i + lane], v[j + lane])
        elif opcode == SQUARE:
            for lane in range(w):
                v[o + lane] = v[i + lane] * v[i + lane]
        elif opcode == RECIPROCAL:
            for lane in range(w):
                v[o + lane] = one / v[i + lane]
        else:
            for lane in range(w):
                v[o + lane] = functions.power(v[i + lane], exponents[b[k]])


@_inlined
def _backward_many(
    opcode: int,
    begin: int,
    end: int,
    a: Any,
    b: Any,
    lists: Any,
    exponents: Any,
    first: int,
    v: Any,
    d: Any,
    x: Any,
    w: int,
) -> None:
    """A group, of several lanes, backward."""
    zero, half, one = d.dtype.type(0), d.dtype.type(0.5), d.dtype.type(1)
    w, step = _unsigned(w), _unsigned(1)
    for m in range(_unsigned(end - begin)):
        k = _unsigned(end) - step - m
        o = (_unsigned(first) + k) * w
        if opcode >= PRODUCT:
            from_, to = _unsigned(a[k]), _unsigned(b[k])
            if opcode == SUM:
                for t in range(from_, to):
                    i = _unsigned(lists[t]) * w
                    for lane in range(w):
                        d[i + lane] += d[o + lane]
            elif opcode == PRODUCT:
                last = to - step
                i = _unsigned(lists[from_]) * w
                for lane in range(w):
                    x[lane] = v[i + lane]
                for t in range(from_ + step, last):
                    i, p = _unsigned(lists[t]) * w, (t - from_) * w
                    for lane in range(w):
                        x[p + lane] = x[p - w + lane] * v[i + lane]
                i, p = _unsigned(lists[last]) * w, (last - from_) * w
                for lane in range(w):
                    d[i + lane] += d[o + lane] * x[p - w + lane]
                    x[p + lane] = v[i + lane]
                for u in range(step, last - from_):
                    t = last - u
                    i, q = _unsigned(lists[t]) * w, (t - from_) * w
                    for lane in range(w):
                        d[i + lane] += d[o + lane] * (x[q - w + lane] * x[p + lane])
                        x[p + lane] *= v[i + lane]
                i = _unsigned(lists[from_]) * w
                for lane in range(w):
                    d[i + lane] += d[o + lane] * x[p + lane]
            else:
                for lane in range(w):
                    x[lane] = zero
                for t in range(from_, to):
                    i = _unsigned(lists[t]) * w
                    for lane in range(w):
                        x[lane] += one if v[i + lane] == v[o + lane] else zero
                for lane in range(w):
                    split = d[o + lane] / x[lane] if opcode == LARGEST_SPLIT else zero
                    x[lane] = d[o + lane] if x[lane] <= one else split
                for t in range(from_, to):
                    i = _unsigned(lists[t]) * w
                    for lane in range(w):
                        d[i + lane] += x[lane] if v[i + lane] == v[o + lane] else zero
            continue
        i, j = _unsigned(a[k]) * w, _unsigned(b[k]) * w
        if opcode == MUL:
            for lane in range(w):
                d[i + lane] += d[o + lane] * v[j + lane]
            for lane in range(w):
                d[j + lane] += d[o + lane] * v[i + lane]
        elif opcode == ADD:
            for lane in range(w):
                d[i + lane] += d[o + lane]
            for lane in range(w):
                d[j + lane] += d[o + lane]
        elif opcode == MAX:
            for lane in range(w):
                d[i + lane] += d[o + lane] if v[i + lane] > v[j + lane] else zero
            for lane in range(w):
                d[j + lane] += d[o + lane] if v[j + lane] > v[i + lane] else zero
        elif opcode == MAX_SPLIT:
            for lane in range(w):
                g = d[o + lane]
                share = half * g if v[i + lane] == v[j + lane] else zero
                d[i + lane] += g if v[i + lane] > v[j + lane] else share
            for lane in range(w):
                g = d[o + lane]
                share = half * g if v[i + lane] == v[j + lane] else zero
                d[j + lane] += g if v[j + lane] > v[i + lane] else share
        elif opcode == SQUARE:
            for lane in range(w):
                d[i + lane] += d[o + lane] * (v[i + lane] + v[i + lane])
        elif opcode == RECIPROCAL:
            for lane in range(w):
                d[i + lane] += -(d[o + lane] * v[o + lane]) * v[o + lane]
        else:
            p = exponents[b[k]]
            if p != zero:
                for lane in range(w):
                    d[i + lane] += d[o + lane] * (p * functions.power(v[i + lane], p - one))


@compiled
def forward(
    groups: Any,
    opcodes: Any,
    a: Any,
    b: Any,
    lists: Any,
    exponents: Any,
    first: int,
    values: Any,
    lanes: int,
    width: int,
) -> None:
    """Compute the values of all groups in turn.

    Args:
        groups: For each group its opcode, the first operation, and the one after the last.
        opcodes: For each operation.
        a: For each operation, the place of its first argument, or where its arguments begin in ``lists``.
        b: The same of its second argument, or where its arguments end; of POWER, which of the exponents.
        lists: Places of arguments.
        exponents: As said.
        first: Place of the first operation.
        values: [places, lanes] for ``width`` lanes after another; those of operands and constants are given.
        lanes: Lanes in all.
        width: Lanes at a time; so many values of all places stay in the cache.
    """
    places = len(values) // lanes
    for start in range(0, lanes, width):
        w = min(width, lanes - start)
        v = values[places * start : places * (start + w)]
        for r in range(len(groups)):
            kind, begin, end = groups[r, 0], groups[r, 1], groups[r, 2]
            if kind == MIXED and w == 1:
                _forward_mixed(begin, end, opcodes, a, b, first, v)
                continue
            step = 1 if kind == MIXED else end - begin
            for k in range(begin, end, step):
                opcode = opcodes[k]
                if EXP <= opcode <= SOFTPLUS:
                    _call(opcode, k, k + step, a, first, v, w)
                elif w == 1:
                    _forward_one(opcode, k, k + step, a, b, lists, exponents, first, v)
                else:
                    _forward_many(opcode, k, k + step, a, b, lists, exponents, first, v, w)


@compiled
def backward(
    groups: Any,
    opcodes: Any,
    a: Any,
    b: Any,
    lists: Any,
    exponents: Any,
    first: int,
    values: Any,
    lanes: int,
    width: int,
    results: Any,
    seeds: Any,
    adjoints: Any,
    scratch: Any,
    elements: int,
    back: Any,
    reached: Any,
) -> bool:
    """Compute the gradients of all places, and give those of operands; whether those that are reached are finite.

    Args:
        groups: As for ``forward``; so are opcodes, a, b, lists, exponents, first, values, lanes and width.
        opcodes: As said.
        a: As said.
        b: As said.
        lists: As said.
        exponents: As said.
        first: As said.
        values: As said.
        lanes: As said.
        width: As said.
        results: Places.
        seeds: Their gradients, [results, lanes].
        adjoints: Room for [places, width] gradients.
        scratch: Room for an array of lanes for each of the most arguments that an operation has, and for CHUNK numbers.
        elements: Of operands.
        back: Room for their gradients, [elements, lanes].
        reached: For each place, whether it gets a gradient; none if all do.
    """
    places = len(values) // lanes
    finite = True
    for start in range(0, lanes, width):
        w = min(width, lanes - start)
        v = values[places * start : places * (start + w)]
        d = adjoints[: places * w]
        d[:] = 0
        for r in range(len(results)):
            p, s = _unsigned(results[r]) * _unsigned(w), _unsigned(r * lanes + start)
            for lane in range(_unsigned(w)):
                d[p + lane] += seeds[s + lane]
        for r in range(len(groups) - 1, -1, -1):
            kind, begin, end = groups[r, 0], groups[r, 1], groups[r, 2]
            if kind == MIXED and w == 1:
                _backward_mixed(begin, end, opcodes, a, b, first, v, d)
                continue
            step = 1 if kind == MIXED else end - begin
            for k in range(end - step, begin - 1, -step):
                opcode = opcodes[k]
                if EXP <= opcode <= SOFTPLUS:
                    _call_back(opcode, k, k + step, a, first, v, d, scratch, w)
                elif w == 1:
                    _backward_one(opcode, k, k + step, a, b, lists, exponents, first, v, d, scratch)
                else:
                    _backward_many(opcode, k, k + step, a, b, lists, exponents, first, v, d, scratch, w)
        for e in range(elements):
            p, s = _unsigned(e * w), _unsigned(e * lanes + start)
            for lane in range(_unsigned(w)):
                back[s + lane] = d[p + lane]
        if not _finite(d, 0, len(d)):
            if len(reached) == 0:
                finite = False
            for p in range(len(reached)):
                if reached[p]:
                    finite &= _finite(d, p * w, w)
    return finite
