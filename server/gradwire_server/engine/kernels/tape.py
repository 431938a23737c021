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
from gradwire_server.engine.kernels.vectors import first_of, lanes_of, line, load, select, store

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


# What follows serves one lane and a vector of lanes alike: ``one`` is a 1 or a vector of them, and says which.


@_inlined
def _larger(a: Any, b: Any) -> Any:
    """The larger one; NaN of either wins, and of two zeros the second, as with NumPy."""
    return select((a > b) | (a != a), a, b)  # noqa: PLR0124  (NaN)


@_inlined
def _finite(d: Any, o: int, n: int) -> bool:
    """Whether ``n`` numbers from ``o`` on are finite: the others are not zero less themselves."""
    o, zero = _unsigned(o), d.dtype.type(0)
    bad = False
    for k in range(_unsigned(n)):
        bad = bad | (d[o + k] - d[o + k] != zero)
    return not bad


@_inlined
def _value(opcode: int, x: Any, y: Any, one: Any) -> Any:
    """What an operation gives of its arguments, if it is no function."""
    if opcode == MUL:
        return x * y
    if opcode == ADD:
        return x + y
    if opcode in (MAX, MAX_SPLIT):
        return _larger(x, y)
    if opcode == SQUARE:
        return x * x
    return one / x


@_inlined
def _shares(opcode: int, g: Any, x: Any, y: Any, z: Any, one: Any) -> Any:
    """What an operation passes back of its gradient ``g`` to its arguments; ``z`` is its value."""
    zero = one - one
    if opcode == MUL:
        return g * y, g * x
    if opcode == ADD:
        return g, g
    if opcode == MAX:
        return select(x > y, g, zero), select(y > x, g, zero)
    if opcode == MAX_SPLIT:
        share = select(x == y, one / (one + one) * g, zero)
        return select(x > y, g, share), select(y > x, g, share)
    if opcode == SQUARE:
        return g * (x + x), zero
    return -(g * z) * z, zero


@_inlined
def _add_to(d: Any, i: int, share: Any, one: Any, mask: Any) -> None:
    store(d, i, load(d, i, one, mask) + share, mask)


# An operation ``k`` whose values begin at ``o``, forward and backward, for the lanes from ``lane`` on.


@_inlined
def _few(
    opcode: int, k: int, o: int, a: Any, b: Any, lists: Any, powers: Any, v: Any, w: int, lane: int, one: Any, mask: Any
) -> None:
    """Of one argument or two."""
    x, y = load(v, _unsigned(a[k]) * w + lane, one, mask), load(v, _unsigned(b[k]) * w + lane, one, mask)
    store(v, o + lane, _value(opcode, x, y, one), mask)


@_inlined
def _few_back(
    opcode: int,
    k: int,
    o: int,
    a: Any,
    b: Any,
    lists: Any,
    powers: Any,
    v: Any,
    d: Any,
    x: Any,
    w: int,
    lane: int,
    one: Any,
    mask: Any,
    count: int,
) -> None:
    i, j = _unsigned(a[k]) * w + lane, _unsigned(b[k]) * w + lane
    g, z = load(d, o + lane, one, mask), load(v, o + lane, one, mask)
    first, second = _shares(opcode, g, load(v, i, one, mask), load(v, j, one, mask), z, one)
    _add_to(d, i, first, one, mask)
    if opcode in (MUL, ADD, MAX, MAX_SPLIT):
        _add_to(d, j, second, one, mask)


@_inlined
def _power(
    opcode: int, k: int, o: int, a: Any, b: Any, lists: Any, powers: Any, v: Any, w: int, lane: int, one: Any, mask: Any
) -> None:
    store(v, o + lane, functions.power(load(v, _unsigned(a[k]) * w + lane, one, mask), powers[b[k]]), mask)


@_inlined
def _power_back(
    opcode: int,
    k: int,
    o: int,
    a: Any,
    b: Any,
    lists: Any,
    powers: Any,
    v: Any,
    d: Any,
    x: Any,
    w: int,
    lane: int,
    one: Any,
    mask: Any,
    count: int,
) -> None:
    p = powers[b[k]]
    if p != 0:
        i = _unsigned(a[k]) * w + lane
        _add_to(
            d,
            i,
            load(d, o + lane, one, mask) * (p * functions.power(load(v, i, one, mask), p - powers.dtype.type(1))),
            one,
            mask,
        )


@_inlined
def _many(
    opcode: int, k: int, o: int, a: Any, b: Any, lists: Any, powers: Any, v: Any, w: int, lane: int, one: Any, mask: Any
) -> None:
    """Of many arguments."""
    result = load(v, _unsigned(lists[a[k]]) * w + lane, one, mask)
    for t in range(_unsigned(a[k]) + _unsigned(1), _unsigned(b[k])):
        x = load(v, _unsigned(lists[t]) * w + lane, one, mask)
        if opcode == PRODUCT:
            result = result * x
        elif opcode == SUM:
            result = result + x
        else:
            result = _larger(result, x)
    store(v, o + lane, result, mask)


@_inlined
def _sum_back(
    opcode: int,
    k: int,
    o: int,
    a: Any,
    b: Any,
    lists: Any,
    powers: Any,
    v: Any,
    d: Any,
    x: Any,
    w: int,
    lane: int,
    one: Any,
    mask: Any,
    count: int,
) -> None:
    g = load(d, o + lane, one, mask)
    for t in range(_unsigned(a[k]), _unsigned(b[k])):
        _add_to(d, _unsigned(lists[t]) * w + lane, g, one, mask)


@_inlined
def _product_back(
    opcode: int,
    k: int,
    o: int,
    a: Any,
    b: Any,
    lists: Any,
    powers: Any,
    v: Any,
    d: Any,
    x: Any,
    w: int,
    lane: int,
    one: Any,
    mask: Any,
    count: int,
) -> None:
    g, next_ = load(d, o + lane, one, mask), _unsigned(1)
    from_, last = _unsigned(a[k]), _unsigned(b[k]) - next_
    # x: the products of what stands to the left; then from the right.
    left = load(v, _unsigned(lists[from_]) * w + lane, one, mask)
    for t in range(from_ + next_, last):
        store(x, (t - from_) * count, left, None)
        left = left * load(v, _unsigned(lists[t]) * w + lane, one, mask)
    i = _unsigned(lists[last]) * w + lane
    right = load(v, i, one, mask)
    _add_to(d, i, g * left, one, mask)
    for u in range(next_, last - from_):
        t = last - u
        i = _unsigned(lists[t]) * w + lane
        _add_to(d, i, g * (load(x, (t - from_) * count, one, None) * right), one, mask)
        right = right * load(v, i, one, mask)
    _add_to(d, _unsigned(lists[from_]) * w + lane, g * right, one, mask)


@_inlined
def _largest_back(
    opcode: int,
    k: int,
    o: int,
    a: Any,
    b: Any,
    lists: Any,
    powers: Any,
    v: Any,
    d: Any,
    x: Any,
    w: int,
    lane: int,
    one: Any,
    mask: Any,
    count: int,
) -> None:
    g, y, zero = load(d, o + lane, one, mask), load(v, o + lane, one, mask), one - one
    tied = zero
    for t in range(_unsigned(a[k]), _unsigned(b[k])):
        tied = tied + select(load(v, _unsigned(lists[t]) * w + lane, one, mask) == y, one, zero)
    share = select(tied > one, g / tied if opcode == LARGEST_SPLIT else zero, g)
    for t in range(_unsigned(a[k]), _unsigned(b[k])):
        i = _unsigned(lists[t]) * w + lane
        _add_to(d, i, select(load(v, i, one, mask) == y, share, zero), one, mask)


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
    step = max(1, CHUNK // int(w))
    for k in range(begin, end, step):
        rows = min(step, end - k)
        _gather(v, a, k, rows, w, v, (first + k) * w)
        _functions(opcode, v, (first + k) * w, rows * w)


@_inlined
def _call_back(opcode: int, begin: int, end: int, a: Any, first: int, v: Any, d: Any, x: Any, w: int) -> None:
    """A group of an elementary function, backward."""
    step = max(1, CHUNK // int(w))
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
def _forward_group(
    operation: Any,
    opcode: int,
    begin: int,
    end: int,
    a: Any,
    b: Any,
    lists: Any,
    powers: Any,
    first: int,
    v: Any,
    w: int,
    one: Any,
) -> None:
    """A group of an operation."""
    if w == 1:
        for k in range(_unsigned(begin), _unsigned(end)):
            operation(opcode, k, _unsigned(first) + k, a, b, lists, powers, v, _unsigned(1), _unsigned(0), one, None)
        return
    ones = line(one)
    count = lanes_of(ones)
    whole = w - w % count
    rest = first_of(w - whole, ones)
    for k in range(_unsigned(begin), _unsigned(end)):
        o = (_unsigned(first) + k) * w
        for lane in range(_unsigned(0), whole, count):
            operation(opcode, k, o, a, b, lists, powers, v, w, lane, ones, None)
        if whole < w:
            operation(opcode, k, o, a, b, lists, powers, v, w, whole, ones, rest)


@_inlined
def _backward_group(
    operation: Any,
    opcode: int,
    begin: int,
    end: int,
    a: Any,
    b: Any,
    lists: Any,
    powers: Any,
    first: int,
    v: Any,
    d: Any,
    x: Any,
    w: int,
    one: Any,
) -> None:
    """The same, backward."""
    next_ = _unsigned(1)
    if w == 1:
        for m in range(_unsigned(end - begin)):
            k = _unsigned(end) - next_ - m
            operation(
                opcode, k, _unsigned(first) + k, a, b, lists, powers, v, d, x, next_, _unsigned(0), one, None, next_
            )
        return
    ones = line(one)
    count = lanes_of(ones)
    whole = w - w % count
    rest = first_of(w - whole, ones)
    for m in range(_unsigned(end - begin)):
        k = _unsigned(end) - next_ - m
        o = (_unsigned(first) + k) * w
        for lane in range(_unsigned(0), whole, count):
            operation(opcode, k, o, a, b, lists, powers, v, d, x, w, lane, ones, None, count)
        if whole < w:
            operation(opcode, k, o, a, b, lists, powers, v, d, x, w, whole, ones, rest, count)


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
    places, one = len(values) // lanes, values.dtype.type(1)
    for start in range(0, lanes, width):
        w = _unsigned(min(width, lanes - start))
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
                elif opcode == MUL:
                    _forward_group(_few, MUL, k, k + step, a, b, lists, exponents, first, v, w, one)
                elif opcode == SQUARE:
                    _forward_group(_few, SQUARE, k, k + step, a, b, lists, exponents, first, v, w, one)
                elif opcode == RECIPROCAL:
                    _forward_group(_few, RECIPROCAL, k, k + step, a, b, lists, exponents, first, v, w, one)
                elif opcode == ADD:
                    _forward_group(_few, ADD, k, k + step, a, b, lists, exponents, first, v, w, one)
                elif opcode in (MAX, MAX_SPLIT):
                    _forward_group(_few, MAX, k, k + step, a, b, lists, exponents, first, v, w, one)
                elif opcode == POWER:
                    _forward_group(_power, POWER, k, k + step, a, b, lists, exponents, first, v, w, one)
                elif opcode == PRODUCT:
                    _forward_group(_many, PRODUCT, k, k + step, a, b, lists, exponents, first, v, w, one)
                elif opcode == SUM:
                    _forward_group(_many, SUM, k, k + step, a, b, lists, exponents, first, v, w, one)
                else:
                    _forward_group(_many, LARGEST, k, k + step, a, b, lists, exponents, first, v, w, one)


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
        scratch: Room for a line for each of the most arguments that an operation has, and for CHUNK numbers.
        elements: Of operands.
        back: Room for their gradients, [elements, lanes].
        reached: For each place, whether it gets a gradient; none if all do.
    """
    places, one = len(values) // lanes, values.dtype.type(1)
    finite = True
    for start in range(0, lanes, width):
        w = _unsigned(min(width, lanes - start))
        v = values[places * start : places * (start + w)]
        d = adjoints[: places * w]
        d[:] = 0
        for r in range(len(results)):
            p, s = _unsigned(results[r]) * w, _unsigned(r * lanes + start)
            for lane in range(w):
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
                elif opcode == MUL:
                    _backward_group(_few_back, MUL, k, k + step, a, b, lists, exponents, first, v, d, scratch, w, one)
                elif opcode == SQUARE:
                    _backward_group(
                        _few_back, SQUARE, k, k + step, a, b, lists, exponents, first, v, d, scratch, w, one
                    )
                elif opcode == RECIPROCAL:
                    _backward_group(
                        _few_back, RECIPROCAL, k, k + step, a, b, lists, exponents, first, v, d, scratch, w, one
                    )
                elif opcode == ADD:
                    _backward_group(_few_back, ADD, k, k + step, a, b, lists, exponents, first, v, d, scratch, w, one)
                elif opcode == MAX:
                    _backward_group(_few_back, MAX, k, k + step, a, b, lists, exponents, first, v, d, scratch, w, one)
                elif opcode == MAX_SPLIT:
                    _backward_group(
                        _few_back, MAX_SPLIT, k, k + step, a, b, lists, exponents, first, v, d, scratch, w, one
                    )
                elif opcode == POWER:
                    _backward_group(
                        _power_back, POWER, k, k + step, a, b, lists, exponents, first, v, d, scratch, w, one
                    )
                elif opcode == PRODUCT:
                    _backward_group(
                        _product_back, PRODUCT, k, k + step, a, b, lists, exponents, first, v, d, scratch, w, one
                    )
                elif opcode == SUM:
                    _backward_group(_sum_back, SUM, k, k + step, a, b, lists, exponents, first, v, d, scratch, w, one)
                elif opcode == LARGEST:
                    _backward_group(
                        _largest_back, LARGEST, k, k + step, a, b, lists, exponents, first, v, d, scratch, w, one
                    )
                else:
                    _backward_group(
                        _largest_back, LARGEST_SPLIT, k, k + step, a, b, lists, exponents, first, v, d, scratch, w, one
                    )
        for e in range(elements):
            p, s = _unsigned(e) * w, _unsigned(e * lanes + start)
            for lane in range(w):
                back[s + lane] = d[p + lane]
        if not _finite(d, 0, len(d)):
            if len(reached) == 0:
                finite = False
            for p in range(len(reached)):
                if reached[p]:
                    finite &= _finite(d, p * w, w)
    return finite
