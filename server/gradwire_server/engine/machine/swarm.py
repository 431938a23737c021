"""Swarms of scalars: groups of operations on places, forward and backward.

A group applies one opcode to a range of places, whose arguments two tables list, or, if it is MIXED, to each its own.
Values are [places, lanes], lanes innermost. With one lane the loops go over the operations of a group, with several
over the lanes; where the arguments of a group stand one after another, as its values do, it is like one operation
with more lanes.
"""

from __future__ import annotations

from typing import Any

from numba import int8, int32, int64, uint32

from gradwire_server.engine.compiled import compiled
from gradwire_server.engine.graph.opcodes import Opcode
from gradwire_server.engine.lowering import rows as r
from gradwire_server.engine.machine import scalars as ops
from gradwire_server.engine.machine.calls import CHUNK, call, call_back
from gradwire_server.engine.machine.control import address_of, stops
from gradwire_server.engine.machine.elementwise import (
    ADD,
    EXP,
    LOG,
    MAX,
    MAX_SPLIT,
    MUL,
    POWER,
    RECIPROCAL,
    SIGMOID,
    SOFTPLUS,
    SQUARE,
    TANH,
    arithmetic,
    arithmetic_back,
    function,
    function_back,
)
from gradwire_server.engine.machine.memory import inlined, invoke, item_size, pointer, unsigned
from gradwire_server.engine.machine.scalars import PRODUCT, TOTAL, Lanes, Operations
from gradwire_server.engine.machine.vectors import lanes_of, line, store

GREATEST, GREATEST_SPLIT, MIXED = int(Opcode.GREATEST), int(Opcode.GREATEST_SPLIT), int(Opcode.MIXED)

AHEAD = 2048
"""Gradients that are set to zero at a time, so that they are in the cache when they are added to."""

COLUMNS = 5
"""Integers of a group: its opcode, the first operation and the one after the last, where arguments are; and the
lowest place of an argument that is an operation's."""


@inlined
def _table(row: Any, one: Any) -> Operations:
    exponents = row[r.S_WIDE_EXPONENTS] if item_size(one) == 8 else row[r.S_EXPONENTS]
    return Operations(
        pointer(row[r.S_A], uint32(0)),
        pointer(row[r.S_B], uint32(0)),
        pointer(row[r.S_LISTS], uint32(0)),
        pointer(exponents, one),
        unsigned(row[r.S_PLACE]),
        one,
    )


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
    """The operations from ``begin`` on, all of one opcode: vectors of lanes, then other lanes one by one."""
    ones = line(t.one)
    count, step = lanes_of(ones), unsigned(end - begin if run == r.RANGES else 1)
    lanes = step * w
    whole = lanes - lanes % count
    if whole:
        for k in range(unsigned(begin), unsigned(end), step):
            for lane in range(unsigned(0), whole, count):
                operation(opcode, k, t, v, Lanes(w, lane, ones))
    if lanes == unsigned(1):
        for k in range(unsigned(begin), unsigned(end)):
            operation(opcode, k, t, v, Lanes(unsigned(1), unsigned(0), t.one))
        return
    for lane in range(whole, lanes):
        for k in range(unsigned(begin), unsigned(end), step):
            operation(opcode, k, t, v, Lanes(w, lane, t.one))


@inlined
def _backward_group(
    operation: Any, opcode: int, begin: int, end: int, run: int, t: Any, v: Any, d: Any, x: Any, w: int
) -> None:
    """Gradients of the operations from ``begin`` on, all of one opcode, from the last to the first."""
    ones = line(t.one)
    count, step = lanes_of(ones), unsigned(end - begin if run == r.RANGES else 1)
    lanes, steps = step * w, unsigned(end - begin)
    whole = lanes - lanes % count
    if whole:
        for m in range(unsigned(0), steps, step):
            for lane in range(unsigned(0), whole, count):
                operation(opcode, unsigned(end) - step - m, t, v, d, x, Lanes(w, lane, ones))
    if lanes == unsigned(1):
        for m in range(steps):
            operation(opcode, unsigned(end) - unsigned(1) - m, t, v, d, x, Lanes(unsigned(1), unsigned(0), t.one))
        return
    for lane in range(whole, lanes):
        for m in range(unsigned(0), steps, step):
            operation(opcode, unsigned(end) - step - m, t, v, d, x, Lanes(w, lane, t.one))


@inlined
def _forward_pairs(opcode: int, begin: int, end: int, run: int, t: Any, v: Any, w: int) -> None:
    """Operations on two arguments."""
    if run > r.RANGES and w == 1:
        ones = line(t.one)
        count, n = lanes_of(ones), unsigned(end - begin)
        whole = n - n % count
        for lane in range(unsigned(0), whole, count):
            ops.spread(opcode, begin, t, run, v, Lanes(w, lane, ones))
        begin += int64(whole)
    _forward_group(ops.few, opcode, begin, end, run, t, v, w)


@inlined
def _backward_pairs(opcode: int, begin: int, end: int, run: int, t: Any, v: Any, d: Any, x: Any, w: int) -> None:
    """Gradients of operations on two arguments."""
    if run > r.RANGES and w == 1:
        ones = line(t.one)
        count, n = lanes_of(ones), unsigned(end - begin)
        whole = n - n % count
        total = ones - ones
        for lane in range(unsigned(0), whole, count):
            total = total + ops.spread_back(opcode, begin, t, run, v, d, Lanes(w, lane, ones))
        store(x, unsigned(0), total)
        common = unsigned(t.a[begin] if run == r.FIRST else t.b[begin])
        for lane in range(count):
            d[common] += x[lane]
        begin += int64(whole)
    _backward_group(ops.few_back, opcode, begin, end, run, t, v, d, x, w)


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
            y = arithmetic(MUL, x, v[t.b[k]], one)
        elif opcode == ADD:
            y = arithmetic(ADD, x, v[t.b[k]], one)
        elif opcode in (MAX, MAX_SPLIT):
            y = arithmetic(MAX, x, v[t.b[k]], one)
        elif opcode == SQUARE:
            y = arithmetic(SQUARE, x, x, one)
        elif opcode == RECIPROCAL:
            y = arithmetic(RECIPROCAL, x, x, one)
        elif opcode == EXP:
            y = function(EXP, x)
        elif opcode == LOG:
            y = function(LOG, x)
        elif opcode == SIGMOID:
            y = function(SIGMOID, x)
        elif opcode == TANH:
            y = function(TANH, x)
        else:
            y = function(SOFTPLUS, x)
        last = base + k
        v[last] = y


@inlined
def _pair_back(opcode: int, g: Any, i: int, j: int, v: Any, d: Any, one: Any) -> Any:
    """Add to the gradient of the second argument; gives that of the first."""
    first, second = arithmetic_back(opcode, g, v[i], v[j], one, one)
    d[j] += second
    return d[i] + first


@inlined
def _backward_mixed(begin: int, end: int, opcodes: Any, t: Operations, v: Any, d: Any) -> None:
    """Gradients of operations of one lane, each with an opcode of its own."""
    base, step, n = unsigned(t.first), unsigned(1), unsigned(end - begin)
    one = t.one
    last, total = base + unsigned(end), one - one
    for m in range(n):
        k = unsigned(end) - step - m
        opcode, i, j, o = opcodes[k], t.a[k], t.b[k], base + k
        g = total if last == o else d[o]
        if opcode == MUL:
            total = _pair_back(MUL, g, i, j, v, d, one)
        elif opcode == ADD:
            total = _pair_back(ADD, g, i, j, v, d, one)
        elif opcode == MAX:
            total = _pair_back(MAX, g, i, j, v, d, one)
        elif opcode == MAX_SPLIT:
            total = _pair_back(MAX_SPLIT, g, i, j, v, d, one)
        elif opcode == SQUARE:
            total = d[i] + arithmetic_back(SQUARE, g, v[i], one, one, one)[0]
        elif opcode == RECIPROCAL:
            total = d[i] + arithmetic_back(RECIPROCAL, g, one, one, v[o], one)[0]
        elif opcode == EXP:
            total = d[i] + function_back(EXP, g, one, v[o], one)
        elif opcode == LOG:
            total = d[i] + function_back(LOG, g, v[i], one, one)
        elif opcode == SIGMOID:
            total = d[i] + function_back(SIGMOID, g, one, v[o], one)
        elif opcode == TANH:
            total = d[i] + function_back(TANH, g, one, v[o], one)
        else:
            total = d[i] + function_back(SOFTPLUS, g, v[i], one, one)
        last = unsigned(i)
        d[last] = total


@compiled
def group(block: int, address: int, opcode: int, begin: int, end: int, run: int, one: Any) -> None:
    """The operations from ``begin`` on, all of one opcode."""
    c, row = pointer(block, int64(0)), pointer(address, int64(0))
    t, w = _table(row, one), unsigned(c[r.C_LANES])
    v = pointer(address_of(c, row, r.S_REFS, item_size(one)), one)
    if SIGMOID <= opcode <= SOFTPLUS:
        call(c, opcode, begin, end, run, t, v, pointer(c[r.C_SCRATCH], one), w)
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
        _forward_group(ops.raised, POWER, begin, end, r.NONE, t, v, w)
    elif opcode == PRODUCT:
        _forward_group(ops.many, PRODUCT, begin, end, r.NONE, t, v, w)
    elif opcode == TOTAL:
        if run == r.RANGES:
            _forward_group(ops.sum_of_range, TOTAL, begin, end, r.NONE, t, v, w)
        else:
            _forward_group(ops.many, TOTAL, begin, end, r.NONE, t, v, w)
    else:
        _forward_group(ops.many, GREATEST, begin, end, r.NONE, t, v, w)


@compiled
def group_back(block: int, address: int, opcode: int, begin: int, end: int, run: int, one: Any) -> None:
    """Gradients of arguments of the operations from ``begin`` on, all of one opcode."""
    c, row = pointer(block, int64(0)), pointer(address, int64(0))
    t, w, x = _table(row, one), unsigned(c[r.C_LANES]), pointer(c[r.C_SCRATCH], one)
    v = pointer(address_of(c, row, r.S_REFS, item_size(one)), one)
    d = pointer(address_of(c, row, r.S_REFS + r.REF, item_size(one)), one)
    if SIGMOID <= opcode <= SOFTPLUS:
        call_back(c, opcode, begin, end, run, t, v, d, x, w)
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
        _backward_group(ops.raised_back, POWER, begin, end, r.NONE, t, v, d, x, w)
    elif opcode == PRODUCT:
        _backward_group(ops.product_back, PRODUCT, begin, end, r.NONE, t, v, d, x, w)
    elif opcode == TOTAL:
        if run == r.RANGES:
            _backward_group(ops.sum_of_range_back, TOTAL, begin, end, r.NONE, t, v, d, x, w)
        else:
            _backward_group(ops.sum_back, TOTAL, begin, end, r.NONE, t, v, d, x, w)
    elif opcode == GREATEST:
        _backward_group(ops.largest_back, GREATEST, begin, end, r.NONE, t, v, d, x, w)
    else:
        _backward_group(ops.largest_back, GREATEST_SPLIT, begin, end, r.NONE, t, v, d, x, w)


@inlined
def _group(groups: Any, number: int) -> Any:
    at = number * COLUMNS
    return groups[at], int64(groups[at + 1]), int64(groups[at + 2]), groups[at + 3]


@compiled
def swarm(block: int, address: int, one: Any) -> None:
    """Values of all groups in turn."""
    c, row = pointer(block, int64(0)), pointer(address, int64(0))
    groups, codes = pointer(row[r.S_GROUPS], int32(0)), pointer(row[r.S_OPCODES], int8(0))
    t, w = _table(row, one), unsigned(c[r.C_LANES])
    v = pointer(address_of(c, row, r.S_REFS, item_size(one)), one)
    for number in range(row[r.S_COUNT]):
        kind, begin, end, run = _group(groups, number)
        if number % 64 == 0 and stops(c):
            return
        if kind == MIXED and w == 1:
            _forward_mixed(begin, end, codes, t, v)
            continue
        step = 1 if kind == MIXED else end - begin
        for k in range(begin, end, step):
            invoke(c[r.C_GROUP], (block, address, int64(codes[k]), k, k + step, int64(run), one))


@compiled
def swarm_back(block: int, address: int, one: Any) -> None:
    """Gradients of the arguments of all groups, from the last to the first; not finite ones are noted."""
    c, row = pointer(block, int64(0)), pointer(address, int64(0))
    groups, codes = pointer(row[r.S_GROUPS], int32(0)), pointer(row[r.S_OPCODES], int8(0))
    t, wide, first = _table(row, one), c[r.C_LANES], row[r.S_PLACE]
    w, count = unsigned(wide), row[r.S_COUNT]
    v = pointer(address_of(c, row, r.S_REFS, item_size(one)), one)
    d = pointer(address_of(c, row, r.S_REFS + r.REF, item_size(one)), one)
    zeroed = row[r.S_ZEROED]
    # Gradients from ``seen`` to ``last`` are complete, and are looked at while they are in the cache.
    sound, seen, last = True, int64(0), int64(0)
    for number in range(count - 1, -1, -1):
        kind, begin, end, run = _group(groups, number)
        lowest = groups[number * COLUMNS + 4]
        if number % 64 == 0 and stops(c):
            return
        if lowest < zeroed:
            lower = max(first, min(int64(lowest), zeroed - AHEAD // wide))
            _zero(d, lower * wide, zeroed * wide)
            zeroed = lower
        if end != seen or (last - seen) * wide >= CHUNK:
            sound &= _finite(d, (first + seen) * wide, (last - seen) * wide)
            last = end
        seen = begin
        if kind == MIXED and w == 1:
            _backward_mixed(begin, end, codes, t, v, d)
        else:
            step = 1 if kind == MIXED else end - begin
            for k in range(end - step, begin - 1, -step):
                invoke(c[r.C_GROUP_BACK], (block, address, int64(codes[k]), k, k + step, int64(run), one))
    sound &= _finite(d, (first + seen) * wide, (last - seen) * wide)
    if not sound:
        c[r.C_STATUS] |= r.BAD_GRADIENT
