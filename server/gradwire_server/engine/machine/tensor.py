"""Elementwise steps on tensors: values, and what goes back to operands; a reduction is one whose results add up."""

from __future__ import annotations

from typing import Any, NamedTuple

from numba import int64

from gradwire_server.engine.compiled import compiled
from gradwire_server.engine.graph.opcodes import Opcode
from gradwire_server.engine.lowering import rows as r
from gradwire_server.engine.machine import functions, strided
from gradwire_server.engine.machine.control import address_of, lengthened, stops
from gradwire_server.engine.machine.elementwise import (
    ADD,
    COS,
    EQUAL,
    ERF,
    EXP,
    EXPM1,
    LESS,
    LOG,
    LOG1P,
    MAX,
    MAX_SPLIT,
    MUL,
    POWER,
    RECIPROCAL,
    SELECT,
    SIGMOID,
    SIN,
    SOFTPLUS,
    SQUARE,
    TANH,
    passed_back,
    power,
    power_back,
    selected,
    value,
)
from gradwire_server.engine.machine.memory import (
    address_in,
    called,
    converted,
    float_of,
    inlined,
    invoke,
    item_size,
    pointer,
    unsigned,
)
from gradwire_server.engine.machine.strided import CHUNK

COPY = int(Opcode.COPY)
SHIFTED_EXP, LOG_TOTAL, SOFTMAX = int(Opcode.SHIFTED_EXP), int(Opcode.LOG_TOTAL), int(Opcode.SOFTMAX)
SHARE, SHARE_SPLIT, WINNER = int(Opcode.SHARE), int(Opcode.SHARE_SPLIT), int(Opcode.WINNER)
BACK = int(Opcode.BACK)

AT_ONCE = 1 << 20
"""Elements that are gone through without a look at whether to stop."""


class _Elements(NamedTuple):
    """Numbers of operands and result; those of an operand that a step does not have are the ones before."""

    x: Any
    y: Any
    z: Any
    out: Any
    number: Any
    one: Any


@inlined
def _values(opcode: int, p: _Elements, n: int) -> None:
    for k in range(n):
        p.out[k] = value(opcode, p.x[k], p.y[k], p.one)


@inlined
def _powers(opcode: int, p: _Elements, n: int) -> None:
    for k in range(n):
        p.out[k] = power(p.x[k], p.number)


@inlined
def _selected(p: _Elements, n: int) -> None:
    for k in range(n):
        p.out[k] = selected(p.x[k], p.y[k], p.z[k], p.one)


@inlined
def _gradients(opcode: int, p: _Elements, n: int) -> None:
    # Of its argument and its value a function needs one: it is there as both.
    for k in range(n):
        p.out[k], _ = passed_back(opcode, p.x[k], p.y[k], p.z[k], p.y[k], p.one)


@inlined
def _gradients_of_powers(opcode: int, p: _Elements, n: int) -> None:
    for k in range(n):
        p.out[k] = power_back(p.x[k], p.y[k], p.number, p.one)


@inlined
def _each(loop: Any, powers: Any, opcode: int, first: int, second: int, third: int, out: int, n: int, a: Any) -> None:
    """A loop of its own for each opcode, which is a constant in it."""
    one, n = converted(1.0, a), unsigned(n)
    p = _Elements(pointer(first, one), pointer(second, one), pointer(third, one), pointer(out, one), a, one)
    if opcode == MUL:
        loop(MUL, p, n)
    elif opcode == ADD:
        loop(ADD, p, n)
    elif opcode == MAX:
        loop(MAX, p, n)
    elif opcode == MAX_SPLIT:
        loop(MAX_SPLIT, p, n)
    elif opcode == SQUARE:
        loop(SQUARE, p, n)
    elif opcode == RECIPROCAL:
        loop(RECIPROCAL, p, n)
    elif opcode == EXP:
        loop(EXP, p, n)
    elif opcode == LOG:
        loop(LOG, p, n)
    elif opcode == SIGMOID:
        loop(SIGMOID, p, n)
    elif opcode == TANH:
        loop(TANH, p, n)
    elif opcode == SOFTPLUS:
        loop(SOFTPLUS, p, n)
    elif opcode == SIN:
        loop(SIN, p, n)
    elif opcode == COS:
        loop(COS, p, n)
    elif opcode == LOG1P:
        loop(LOG1P, p, n)
    elif opcode == EXPM1:
        loop(EXPM1, p, n)
    elif opcode == ERF:
        loop(ERF, p, n)
    elif opcode == LESS:
        loop(LESS, p, n)
    elif opcode == EQUAL:
        loop(EQUAL, p, n)
    elif opcode == SELECT:
        _selected(p, n)
    elif opcode == POWER:
        powers(POWER, p, n)
    else:
        strided.move(p.out, p.x, n)


@compiled
def apply(opcode: int, first: int, second: int, third: int, out: int, n: int, number: Any) -> None:
    """Values of ``n`` elements; operands and result are addresses."""
    _each(_values, _powers, opcode, first, second, third, out, n, number)


@compiled
def apply_back(opcode: int, first: int, second: int, third: int, out: int, n: int, number: Any) -> None:
    """What goes back to ``n`` elements, of a gradient and up to two operands; all are addresses."""
    _each(_gradients, _gradients_of_powers, opcode - BACK, first, second, third, out, n, number)


@compiled
def apply_other(opcode: int, first: int, second: int, third: int, out: int, n: int, number: Any) -> None:
    """Steps of reductions and ties on ``n`` elements; operands and result are addresses."""
    one, n = converted(1.0, number), unsigned(n)
    x, y, w, z = pointer(first, one), pointer(second, one), pointer(third, one), pointer(out, one)
    zero = one - one
    if opcode == SHARE:
        # Of a gradient, by how many tie: nobody, or equal shares.
        for k in range(n):
            z[k] = x[k] if y[k] == one else zero
    elif opcode == SHARE_SPLIT:
        for k in range(n):
            z[k] = zero if x[k] == zero or y[k] == zero else x[k] / y[k]
    elif opcode == WINNER:
        for k in range(n):
            z[k] = x[k] if y[k] == w[k] else zero
    elif opcode == SHIFTED_EXP:
        # Where all are minus infinity, or one is infinite, the difference is no number, but each is as large as they.
        for k in range(n):
            z[k] = one if x[k] == y[k] else functions.exp(x[k] - y[k])
    elif opcode == LOG_TOTAL:
        for k in range(n):
            z[k] = x[k] + functions.log(y[k])
    else:
        least = -one / zero
        for k in range(n):
            z[k] = zero if x[k] == zero or w[k] == least else x[k] * functions.exp(y[k] - w[k])


@inlined
def _operand(c: Any, row: Any, slot: int, one: Any) -> int:
    """The address of an operand, 0 for the result."""
    return address_of(c, row, r.T_REFS + slot * r.REF, item_size(one))


@called
def _pass(c: Any, row: Any, kind: int, e: int, slot: int, first: int, n: int, p: int, one: Any) -> None:
    pairs = c[r.C_SCRATCH] + 4 * CHUNK * item_size(one)
    nest = address_in(row, r.T_NEST)
    invoke(c[r.C_PASS], (kind, e, nest, r.NEST, row[r.T_RANK], slot, c[r.C_LANES], first, n, p, pairs, one))


@called
def _chunk(c: Any, row: Any, slot: int, first: int, n: int, one: Any) -> int:
    """The address of numbers of an operand: where they are, or loaded into scratch."""
    access, size = row[r.T_ACCESS + slot], item_size(one)
    if access == r.DIRECT:
        return _operand(c, row, slot, one) + first * size
    place = (slot - 1) * CHUNK
    if access == r.LOADED:
        _pass(c, row, strided.LOAD, _operand(c, row, slot, one), slot, first, n, c[r.C_SCRATCH] + place * size, one)
    return c[r.C_SCRATCH] + place * size


@called
def _compute(c: Any, opcode: int, x: int, y: int, w: int, out: int, n: int, number: Any) -> None:
    if opcode >= BACK:
        invoke(c[r.C_APPLY_BACK], (opcode, x, y, w, out, n, number))
    elif SHARE <= opcode <= SOFTMAX:
        invoke(c[r.C_APPLY_OTHER], (opcode, x, y, w, out, n, number))
    else:
        invoke(c[r.C_APPLY], (opcode, x, y, w, out, n, number))


@compiled
def tensor_step(block: int, address: int, one: Any) -> None:
    """One row: a result of up to three operands, which is stored, added up, or the largest kept."""
    c, row = pointer(block, int64(0)), pointer(address, int64(0))
    d = pointer(address + 8 * r.T_NEST, int64(0))
    opcode, rank, lanes, combine = row[r.T_OPCODE], row[r.T_RANK], c[r.C_LANES], row[r.T_COMBINE]
    number = converted(float_of(row[r.T_NUMBER]), one)
    size, scratch = item_size(one), pointer(c[r.C_SCRATCH], one)
    total = strided.count(d, r.NEST, rank, lanes)
    stored = combine == r.STORED and row[r.T_ACCESS] == r.DIRECT
    direct = row[r.T_ACCESS] == r.DIRECT
    for slot in range(1, 4):
        access = row[r.T_ACCESS + slot]
        direct = direct and access in (r.DIRECT, r.ABSENT)
        if access == r.SPREAD and total > 0:
            strided.fill(scratch, (slot - 1) * CHUNK, CHUNK, pointer(_operand(c, row, slot, one), one)[0])
    z = _operand(c, row, 0, one)
    wide = lengthened(c, row, r.T_WIDE)
    totals = pointer(c[r.C_WIDE], 1.0)
    strided.fill(totals, 0, wide, 0.0)
    step = AT_ONCE if direct and combine == r.STORED else CHUNK
    result = c[r.C_SCRATCH] + 3 * CHUNK * size
    for first in range(0, total, step):
        if stops(c):
            return
        n = min(step, total - first)
        x = _chunk(c, row, 1, first, n, one)
        y = x if row[r.T_ACCESS + 2] == r.ABSENT else _chunk(c, row, 2, first, n, one)
        w = y if row[r.T_ACCESS + 3] == r.ABSENT else _chunk(c, row, 3, first, n, one)
        into = z + first * size if stored else result
        if not stored and opcode == COPY:
            into = x
        else:
            _compute(c, opcode, x, y, w, into, n, number)
        if combine == r.STORED and not stored:
            _pass(c, row, strided.STORE, z, 0, first, n, into, one)
        elif combine == r.LARGEST:
            _pass(c, row, strided.LARGEST, z, 0, first, n, into, one)
        elif combine == r.ADDED and wide:
            _pass(c, row, strided.ADD_WIDE, c[r.C_WIDE], 0, first, n, into, one)
        elif combine == r.ADDED and row[r.T_ACCESS] == r.DIRECT:
            strided.add_all(pointer(z + first * size, one), pointer(into, one), n)
        elif combine == r.ADDED:
            _pass(c, row, strided.ADD, z, 0, first, n, into, one)
    if wide:
        strided.add_all(pointer(z, one), totals, wide)
