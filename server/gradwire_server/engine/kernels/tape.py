"""The kernel of tapes: a swarm of scalar operations on a space of places of its own, forward and backward.

A tape is a table of groups. A group applies one opcode to a range of places, whose arguments two tables list, or, if it
is MIXED, to each its own. Values are [places, lanes] for a few lanes at a time, lanes innermost. Of one lane the loops
go over the operations of a group, of several over the lanes; where the arguments of a group stand one after another,
as its values do, it is like one operation with more lanes.

Compiled once for all graphs and kept on disk.
"""

from __future__ import annotations

from typing import Any

from gradwire_server.engine.kernels import operations as ops
from gradwire_server.engine.kernels.caching import compiled
from gradwire_server.engine.kernels.calls import CHUNK, apply, call, call_back, derive
from gradwire_server.engine.kernels.operations import (
    ADD,
    EXP,
    LARGEST,
    LARGEST_SPLIT,
    LOG,
    MAX,
    MAX_SPLIT,
    MIXED,
    MUL,
    NONE,
    POWER,
    PRODUCT,
    RANGES,
    RECIPROCAL,
    SIGMOID,
    SOFTPLUS,
    SQUARE,
    SUM,
    TANH,
    Lanes,
    Operations,
    called,
    inlined,
    larger,
    unsigned,
)
from gradwire_server.engine.kernels.vectors import first_of, lanes_of, line, numbers_of, store

AHEAD = 2048
"""Gradients that are set to zero at a time, so that they are in the cache when they are added to."""

COLUMNS = 5
KIND, BEGIN, END, RUN, LOWEST = range(COLUMNS)
"""Of a group: its opcode, the first operation and the one after the last, where arguments are, as a ``Run``; and the
lowest place of an argument that is an operation's."""


@inlined
def _finite(d: Any, o: int, n: int) -> bool:
    """Whether ``n`` numbers from ``o`` on are finite: the others are not zero less themselves."""
    o, bad = unsigned(o), False
    for k in range(unsigned(n)):
        bad = bad | (d[o + k] - d[o + k] != 0)
    return not bad


@inlined
def _zero(d: Any, begin: int, end: int) -> None:
    for k in range(unsigned(begin), unsigned(end)):
        d[k] = 0


@inlined
def _forward_group(operation: Any, opcode: int, begin: int, end: int, run: int, t: Any, v: Any, w: int) -> None:
    """The operations from ``begin`` on, all of one opcode."""
    one = t.one
    if w == 1 and run == NONE:
        for k in range(unsigned(begin), unsigned(end)):
            operation(opcode, k, t, v, Lanes(unsigned(1), unsigned(0), one, None, unsigned(1)))
        return
    ones = line(one)
    count = lanes_of(ones)
    step = unsigned(end - begin if run == RANGES else 1)
    lanes = step * w
    whole = lanes - lanes % count
    rest = first_of(lanes - whole, ones)
    for k in range(unsigned(begin), unsigned(end), step):
        for lane in range(unsigned(0), whole, count):
            operation(opcode, k, t, v, Lanes(w, lane, ones, None, count))
        if whole < lanes:
            operation(opcode, k, t, v, Lanes(w, whole, ones, rest, count))


@inlined
def _backward_group(
    operation: Any, opcode: int, begin: int, end: int, run: int, t: Any, v: Any, d: Any, x: Any, w: int
) -> None:
    """The same, backward."""
    one, next_ = t.one, unsigned(1)
    if w == 1 and run == NONE:
        for m in range(unsigned(end - begin)):
            k = unsigned(end) - next_ - m
            operation(opcode, k, t, v, d, x, Lanes(next_, unsigned(0), one, None, next_))
        return
    ones = line(one)
    count = lanes_of(ones)
    step = unsigned(end - begin if run == RANGES else 1)
    lanes = step * w
    whole = lanes - lanes % count
    rest = first_of(lanes - whole, ones)
    for m in range(unsigned(0), unsigned(end - begin), step):
        k = unsigned(end) - step - m
        for lane in range(unsigned(0), whole, count):
            operation(opcode, k, t, v, d, x, Lanes(w, lane, ones, None, count))
        if whole < lanes:
            operation(opcode, k, t, v, d, x, Lanes(w, whole, ones, rest, count))


@inlined
def _forward_pairs(opcode: int, begin: int, end: int, run: int, t: Any, v: Any, w: int) -> None:
    """Operations on two arguments."""
    if run <= RANGES or w > 1:
        _forward_group(ops.few, opcode, begin, end, RANGES if run == RANGES else NONE, t, v, w)
        return
    ones, next_ = line(t.one), unsigned(1)
    count, n = lanes_of(ones), unsigned(end - begin)
    whole = n - n % count
    for lane in range(unsigned(0), whole, count):
        ops.spread(opcode, begin, t, run, v, Lanes(next_, lane, ones, None, count))
    if whole < n:
        ops.spread(opcode, begin, t, run, v, Lanes(next_, whole, ones, first_of(n - whole, ones), count))


@inlined
def _backward_pairs(opcode: int, begin: int, end: int, run: int, t: Any, v: Any, d: Any, x: Any, w: int) -> None:
    """The same, backward."""
    if run <= RANGES or w > 1:
        _backward_group(ops.few_back, opcode, begin, end, RANGES if run == RANGES else NONE, t, v, d, x, w)
        return
    ones, next_ = line(t.one), unsigned(1)
    count, n = lanes_of(ones), unsigned(end - begin)
    whole = n - n % count
    total = ones - ones
    for lane in range(unsigned(0), whole, count):
        total = total + ops.spread_back(opcode, begin, t, run, v, d, Lanes(next_, lane, ones, None, count))
    if whole < n:
        rest = first_of(n - whole, ones)
        total = total + ops.spread_back(opcode, begin, t, run, v, d, Lanes(next_, whole, ones, rest, count))
    store(x, unsigned(0), total, None)
    common = unsigned(t.a[begin] if run == ops.FIRST else t.b[begin])
    for lane in range(count):
        d[common] += x[lane]


@inlined
def _forward_mixed(begin: int, end: int, opcodes: Any, t: Operations, v: Any) -> None:
    """Operations of one lane, each with an opcode of its own: no loop is worth its beginning and its end there."""
    base, one = unsigned(t.first), t.one
    # What was written last is not read again: in a chain all would wait for memory.
    last, y = base + unsigned(begin), one
    for k in range(unsigned(begin), unsigned(end)):
        opcode, i = opcodes[k], t.a[k]
        x = y if i == last else v[i]
        if opcode == MUL:
            y = x * v[t.b[k]]
        elif opcode == ADD:
            y = x + v[t.b[k]]
        elif opcode in (MAX, MAX_SPLIT):
            y = larger(x, v[t.b[k]])
        elif opcode == SQUARE:
            y = x * x
        elif opcode == RECIPROCAL:
            y = one / x
        elif opcode == EXP:
            y = apply(EXP, x)
        elif opcode == LOG:
            y = apply(LOG, x)
        elif opcode == SIGMOID:
            y = apply(SIGMOID, x)
        elif opcode == TANH:
            y = apply(TANH, x)
        else:
            y = apply(SOFTPLUS, x)
        last = base + k
        v[last] = y


@inlined
def _backward_mixed(begin: int, end: int, opcodes: Any, t: Operations, v: Any, d: Any) -> None:
    """The same, backward."""
    base, step, n = unsigned(t.first), unsigned(1), unsigned(end - begin)
    one = t.one
    zero, half = one - one, one / (one + one)
    last, total = base + unsigned(end), zero
    for m in range(n):
        k = unsigned(end) - step - m
        opcode, i, j, o = opcodes[k], t.a[k], t.b[k], base + k
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
            total = d[i] + -(g * v[o]) * v[o]
        elif opcode == EXP:
            total = d[i] + derive(EXP, g, one, v[o], one)
        elif opcode == LOG:
            total = d[i] + derive(LOG, g, v[i], one, one)
        elif opcode == SIGMOID:
            total = d[i] + derive(SIGMOID, g, one, v[o], one)
        elif opcode == TANH:
            total = d[i] + derive(TANH, g, one, v[o], one)
        else:
            total = d[i] + derive(SOFTPLUS, g, v[i], one, one)
        last = unsigned(i)
        d[last] = total


@called
def _forward_any(opcode: int, begin: int, end: int, run: int, t: Any, v: Any, w: int) -> None:
    """The operations from ``begin`` on, all of one opcode."""
    if EXP <= opcode <= SOFTPLUS:
        call(opcode, begin, end, run, t, v, w)
    elif opcode == MUL:
        _forward_pairs(MUL, begin, end, run, t, v, w)
    elif opcode == SQUARE:
        _forward_group(ops.few, SQUARE, begin, end, run, t, v, w)
    elif opcode == RECIPROCAL:
        _forward_group(ops.few, RECIPROCAL, begin, end, run, t, v, w)
    elif opcode == ADD:
        _forward_pairs(ADD, begin, end, run, t, v, w)
    elif opcode in (MAX, MAX_SPLIT):
        _forward_pairs(MAX, begin, end, run, t, v, w)
    elif opcode == POWER:
        _forward_group(ops.power, POWER, begin, end, NONE, t, v, w)
    elif opcode == PRODUCT:
        _forward_group(ops.many, PRODUCT, begin, end, NONE, t, v, w)
    elif opcode == SUM:
        if run == RANGES:
            _forward_group(ops.sum_of_range, SUM, begin, end, NONE, t, v, w)
        else:
            _forward_group(ops.many, SUM, begin, end, NONE, t, v, w)
    else:
        _forward_group(ops.many, LARGEST, begin, end, NONE, t, v, w)


@called
def _backward_any(opcode: int, begin: int, end: int, run: int, t: Any, v: Any, d: Any, x: Any, w: int) -> None:
    """The operations from ``begin`` on, all of one opcode, backward."""
    if EXP <= opcode <= SOFTPLUS:
        call_back(opcode, begin, end, run, t, v, d, x, w)
    elif opcode == MUL:
        _backward_pairs(MUL, begin, end, run, t, v, d, x, w)
    elif opcode == SQUARE:
        _backward_group(ops.few_back, SQUARE, begin, end, run, t, v, d, x, w)
    elif opcode == RECIPROCAL:
        _backward_group(ops.few_back, RECIPROCAL, begin, end, run, t, v, d, x, w)
    elif opcode == ADD:
        _backward_pairs(ADD, begin, end, run, t, v, d, x, w)
    elif opcode == MAX:
        _backward_pairs(MAX, begin, end, run, t, v, d, x, w)
    elif opcode == MAX_SPLIT:
        _backward_pairs(MAX_SPLIT, begin, end, run, t, v, d, x, w)
    elif opcode == POWER:
        _backward_group(ops.power_back, POWER, begin, end, NONE, t, v, d, x, w)
    elif opcode == PRODUCT:
        _backward_group(ops.product_back, PRODUCT, begin, end, NONE, t, v, d, x, w)
    elif opcode == SUM:
        if run == RANGES:
            _backward_group(ops.sum_of_range_back, SUM, begin, end, NONE, t, v, d, x, w)
        else:
            _backward_group(ops.sum_back, SUM, begin, end, NONE, t, v, d, x, w)
    elif opcode == LARGEST:
        _backward_group(ops.largest_back, LARGEST, begin, end, NONE, t, v, d, x, w)
    else:
        _backward_group(ops.largest_back, LARGEST_SPLIT, begin, end, NONE, t, v, d, x, w)


@compiled
def forward(
    groups: Any,
    opcodes: Any,
    a: Any,
    b: Any,
    lists: Any,
    exponents: Any,
    constants: Any,
    results: Any,
    first: int,
    values: Any,
    out: Any,
    lanes: int,
    width: int,
) -> None:
    """Compute the values of all groups in turn, and give those of results.

    Args:
        groups: For each group its KIND, BEGIN and so on, [groups, COLUMNS].
        opcodes: For each operation.
        a: For each operation, where its first argument is; see ``Operations``.
        b: The same of its second argument.
        lists: Places of arguments.
        exponents: Those of POWER.
        constants: Numbers, whose places come before those of operations.
        results: Places.
        first: Place of the first operation.
        values: [places, lanes] for ``width`` lanes after another; those of operands are given.
        out: Room for the values of results, [results, lanes].
        lanes: Lanes in all.
        width: Lanes at a time; so many values of all places stay in the cache.
    """
    places, one = len(values) // lanes, values.dtype.type(1)
    codes = numbers_of(opcodes, 0)
    t = Operations(
        numbers_of(a, 0), numbers_of(b, 0), numbers_of(lists, 0), numbers_of(exponents, 0), unsigned(first), one
    )
    for start in range(0, lanes, width):
        wide = min(width, lanes - start)
        v, w = numbers_of(values, places * start), unsigned(wide)
        for c in range(len(constants)):
            p = unsigned(first - len(constants) + c) * w
            for lane in range(w):
                v[p + lane] = constants[c]
        for r in range(len(groups)):
            kind, begin, end, run = groups[r, KIND], groups[r, BEGIN], groups[r, END], groups[r, RUN]
            if kind == MIXED and w == 1:
                _forward_mixed(begin, end, codes, t, v)
                continue
            step = 1 if kind == MIXED else end - begin
            for k in range(begin, end, step):
                _forward_any(codes[k], k, k + step, run, t, v, w)
        for r in range(len(results)):
            p, s = unsigned(results[r]) * w, unsigned(r * lanes + start)
            for lane in range(w):
                out[s + lane] = v[p + lane]


@compiled
def backward(
    groups: Any,
    opcodes: Any,
    a: Any,
    b: Any,
    lists: Any,
    exponents: Any,
    results: Any,
    first: int,
    values: Any,
    lanes: int,
    width: int,
    seeds: Any,
    adjoints: Any,
    scratch: Any,
    back: Any,
    reached: Any,
) -> bool:
    """Compute the gradients of all places, and give those of operands; whether those that are reached are finite.

    The first ten and ``width`` are what ``forward`` got, and has written.

    Args:
        groups: [groups, COLUMNS].
        opcodes: For each operation.
        a: For each operation.
        b: For each operation.
        lists: Places.
        exponents: Those of POWER.
        results: Places.
        first: Place of the first operation.
        values: [places, lanes] for ``width`` lanes after another.
        lanes: Lanes in all.
        width: Lanes at a time.
        seeds: Gradients of results, [results, lanes].
        adjoints: Room for [places, width] gradients.
        scratch: Room for a line for each of the most arguments that an operation has, and for CHUNK numbers.
        back: Room for the gradients of operands, [elements, lanes].
        reached: For each place, whether it gets a gradient; none if all do.
    """
    places, one = len(values) // lanes, values.dtype.type(1)
    codes = numbers_of(opcodes, 0)
    t = Operations(
        numbers_of(a, 0), numbers_of(b, 0), numbers_of(lists, 0), numbers_of(exponents, 0), unsigned(first), one
    )
    finite = True
    for start in range(0, lanes, width):
        wide = min(width, lanes - start)
        v, d, x, w = numbers_of(values, places * start), numbers_of(adjoints, 0), numbers_of(scratch, 0), unsigned(wide)
        # All below has no gradient yet, and is not zero yet, but for operands and constants.
        zeroed = places
        for r in range(len(results)):
            zeroed = min(zeroed, results[r])
        zeroed = max(first, zeroed)
        _zero(d, 0, first * wide)
        _zero(d, zeroed * wide, places * wide)
        for r in range(len(results)):
            p, s = unsigned(results[r]) * w, unsigned(r * lanes + start)
            for lane in range(w):
                d[p + lane] += seeds[s + lane]
        # All from here on has its gradient, and is finite, as far as that is so.
        seen, sound = places, True
        for r in range(len(groups) - 1, -1, -1):
            kind, begin, end, run = groups[r, KIND], groups[r, BEGIN], groups[r, END], groups[r, RUN]
            if groups[r, LOWEST] < zeroed:
                lower = max(first, min(groups[r, LOWEST], zeroed - AHEAD // wide))
                _zero(d, lower * wide, zeroed * wide)
                zeroed = lower
            if kind == MIXED and w == 1:
                _backward_mixed(begin, end, codes, t, v, d)
            else:
                step = 1 if kind == MIXED else end - begin
                for k in range(end - step, begin - 1, -step):
                    _backward_any(codes[k], k, k + step, run, t, v, d, x, w)
            if (seen - first - begin) * wide >= CHUNK:
                sound &= _finite(d, (first + begin) * wide, (seen - first - begin) * wide)
                seen = first + begin
        sound &= _finite(d, 0, seen * wide)
        # As one row, if these are all lanes.
        rows, n = (1, len(back)) if wide == lanes else (len(back) // lanes, wide)
        for e in range(rows):
            p, s = unsigned(e) * w, unsigned(e * lanes + start)
            for lane in range(unsigned(n)):
                back[s + lane] = d[p + lane]
        if not sound:
            if len(reached) == 0:
                finite = False
            for p in range(len(reached)):
                if reached[p]:
                    finite &= _finite(d, p * wide, wide)
    return finite
