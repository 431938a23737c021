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
    EQUAL,
    LESS,
    MAX,
    MAX_SPLIT,
    MUL,
    POWER,
    RECIPROCAL,
    SELECT,
    SQUARE,
    is_function,
    passed_back,
    value,
)
from gradwire_server.engine.machine.memory import inlined, invoke, item_size, pointer, unsigned
from gradwire_server.engine.machine.scalars import GREATEST, GREATEST_SPLIT, PRODUCT, TOTAL, Lanes, Operations
from gradwire_server.engine.machine.vectors import lanes_of, line, store

MIXED = int(Opcode.MIXED)

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
def _forward(opcode: int, begin: int, end: int, run: int, t: Any, v: Any, d: Any, x: Any, w: int) -> None:
    """The operations from ``begin`` on, all of one opcode: vectors of lanes, then other lanes one by one."""
    ones = line(t.one)
    count = lanes_of(ones)
    if opcode in (MUL, ADD, MAX, MAX_SPLIT, LESS, EQUAL) and run > r.RANGES and w == 1:
        n = unsigned(end - begin)
        whole = n - n % count
        for lane in range(unsigned(0), whole, count):
            ops.spread(opcode, begin, t, run, v, Lanes(w, lane, ones))
        begin += int64(whole)
    step = unsigned(end - begin if run == r.RANGES and opcode < SELECT else 1)
    lanes = step * w
    whole = lanes - lanes % count
    if whole:
        for k in range(unsigned(begin), unsigned(end), step):
            for lane in range(unsigned(0), whole, count):
                ops.forward(opcode, run, k, t, v, Lanes(w, lane, ones))
    if lanes == unsigned(1):
        for k in range(unsigned(begin), unsigned(end)):
            ops.forward(opcode, run, k, t, v, Lanes(unsigned(1), unsigned(0), t.one))
        return
    for lane in range(whole, lanes):
        for k in range(unsigned(begin), unsigned(end), step):
            ops.forward(opcode, run, k, t, v, Lanes(w, lane, t.one))


@inlined
def _backward(opcode: int, begin: int, end: int, run: int, t: Any, v: Any, d: Any, x: Any, w: int) -> None:
    """Gradients of the operations from ``begin`` on, all of one opcode, from the last to the first."""
    ones = line(t.one)
    count = lanes_of(ones)
    if opcode in (MUL, ADD, MAX, MAX_SPLIT, LESS, EQUAL) and run > r.RANGES and w == 1:
        n, total = unsigned(end - begin), ones - ones
        whole = n - n % count
        for lane in range(unsigned(0), whole, count):
            total = total + ops.spread_back(opcode, begin, t, run, v, d, Lanes(w, lane, ones))
        store(x, unsigned(0), total)
        common = unsigned(t.a[begin] if run == r.FIRST else t.b[begin])
        for lane in range(count):
            d[common] += x[lane]
        begin += int64(whole)
    step, steps = unsigned(end - begin if run == r.RANGES and opcode < SELECT else 1), unsigned(end - begin)
    lanes = step * w
    whole = lanes - lanes % count
    if whole:
        for m in range(unsigned(0), steps, step):
            for lane in range(unsigned(0), whole, count):
                ops.backward(opcode, run, unsigned(end) - step - m, t, v, d, x, Lanes(w, lane, ones))
    if lanes == unsigned(1):
        for m in range(steps):
            k = unsigned(end) - unsigned(1) - m
            ops.backward(opcode, run, k, t, v, d, x, Lanes(unsigned(1), unsigned(0), t.one))
        return
    for lane in range(whole, lanes):
        for m in range(unsigned(0), steps, step):
            ops.backward(opcode, run, unsigned(end) - step - m, t, v, d, x, Lanes(w, lane, t.one))


@inlined
def _each(loop: Any, opcode: int, begin: int, end: int, run: int, t: Any, v: Any, d: Any, x: Any, w: int) -> None:
    """A loop of its own for each opcode, which is a constant in it."""
    if opcode == MUL:
        loop(MUL, begin, end, run, t, v, d, x, w)
    elif opcode == ADD:
        loop(ADD, begin, end, run, t, v, d, x, w)
    elif opcode == MAX:
        loop(MAX, begin, end, run, t, v, d, x, w)
    elif opcode == MAX_SPLIT:
        loop(MAX_SPLIT, begin, end, run, t, v, d, x, w)
    elif opcode == SQUARE:
        loop(SQUARE, begin, end, run, t, v, d, x, w)
    elif opcode == RECIPROCAL:
        loop(RECIPROCAL, begin, end, run, t, v, d, x, w)
    elif opcode == POWER:
        loop(POWER, begin, end, run, t, v, d, x, w)
    elif opcode == LESS:
        loop(LESS, begin, end, run, t, v, d, x, w)
    elif opcode == EQUAL:
        loop(EQUAL, begin, end, run, t, v, d, x, w)
    elif opcode == SELECT:
        loop(SELECT, begin, end, run, t, v, d, x, w)
    elif opcode == PRODUCT:
        loop(PRODUCT, begin, end, run, t, v, d, x, w)
    elif opcode == TOTAL:
        loop(TOTAL, begin, end, run, t, v, d, x, w)
    elif opcode == GREATEST:
        loop(GREATEST, begin, end, run, t, v, d, x, w)
    else:
        loop(GREATEST_SPLIT, begin, end, run, t, v, d, x, w)


@inlined
def _forward_mixed(begin: int, end: int, opcodes: Any, t: Operations, v: Any) -> None:
    """Operations of one lane, each with an opcode of its own: no loop is worth its beginning and its end there."""
    base, one = unsigned(t.first), t.one
    # What was written last is not read again: in a chain all would wait for memory.
    last, y = base + unsigned(begin), one
    for k in range(unsigned(begin), unsigned(end)):
        i = t.a[k]
        y = value(int64(opcodes[k]), y if i == last else v[i], v[t.b[k]], one)
        last = base + k
        v[last] = y


@inlined
def _backward_mixed(begin: int, end: int, opcodes: Any, t: Operations, v: Any, d: Any) -> None:
    """Gradients of operations of one lane, each with an opcode of its own."""
    base, step, n = unsigned(t.first), unsigned(1), unsigned(end - begin)
    one = t.one
    last, total = base + unsigned(end), one - one
    for m in range(n):
        k = unsigned(end) - step - m
        opcode, i, j, o = int64(opcodes[k]), t.a[k], t.b[k], base + k
        g = total if last == o else d[o]
        first, second = passed_back(opcode, g, v[i], v[j], v[o], one)
        if opcode in (MUL, ADD, MAX, MAX_SPLIT, LESS, EQUAL):
            d[j] += second
        total = d[i] + first
        last = unsigned(i)
        d[last] = total


@compiled
def group(block: int, address: int, opcode: int, begin: int, end: int, run: int, one: Any) -> None:
    """The operations from ``begin`` on, all of one opcode."""
    c, row = pointer(block, int64(0)), pointer(address, int64(0))
    t, w, x = _table(row, one), unsigned(c[r.C_LANES]), pointer(c[r.C_SCRATCH], one)
    v = pointer(address_of(c, row, r.S_REFS, item_size(one)), one)
    if is_function(opcode):
        call(c, opcode, begin, end, run, t, v, x, w)
    else:
        _each(_forward, opcode, begin, end, run, t, v, v, x, w)


@compiled
def group_back(block: int, address: int, opcode: int, begin: int, end: int, run: int, one: Any) -> None:
    """Gradients of arguments of the operations from ``begin`` on, all of one opcode."""
    c, row = pointer(block, int64(0)), pointer(address, int64(0))
    t, w, x = _table(row, one), unsigned(c[r.C_LANES]), pointer(c[r.C_SCRATCH], one)
    v = pointer(address_of(c, row, r.S_REFS, item_size(one)), one)
    d = pointer(address_of(c, row, r.S_REFS + r.REF, item_size(one)), one)
    if is_function(opcode):
        call_back(c, opcode, begin, end, run, t, v, d, x, w)
    else:
        _each(_backward, opcode, begin, end, run, t, v, d, x, w)


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
