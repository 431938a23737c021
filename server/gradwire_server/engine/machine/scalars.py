"""Operations on scalars, forward and backward, each for some lanes of its places.

They serve one lane and a vector of lanes alike. Whatever they are told of the lanes is known when they are compiled,
or does not change in the loop that they are in.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from gradwire_server.engine.graph.opcodes import Opcode
from gradwire_server.engine.lowering import rows as r
from gradwire_server.engine.machine.elementwise import (
    ADD,
    MAX,
    MAX_SPLIT,
    MUL,
    POWER,
    SELECT,
    arithmetic,
    arithmetic_back,
    power,
    power_back,
    selected,
    stopped,
)
from gradwire_server.engine.machine.memory import inlined, unsigned
from gradwire_server.engine.machine.vectors import lanes_of, larger, line, load, select, store

PRODUCT, TOTAL = map(np.int64, [Opcode.PRODUCT, Opcode.TOTAL])
GREATEST, GREATEST_SPLIT = map(np.int64, [Opcode.GREATEST, Opcode.GREATEST_SPLIT])


class Operations(NamedTuple):
    """Operations of a swarm, by their number."""

    a: Any
    """Place of the first argument; of TOTAL and the like, where places of arguments begin in ``lists``, or in RANGES
    the first of these places."""
    b: Any
    """Place of the second argument, or where those end; of POWER, which of the exponents."""
    lists: Any
    """Places."""
    exponents: Any
    first: Any
    """Place of the first operation."""
    one: Any
    """The number 1, of the type of values."""


class Lanes(NamedTuple):
    """Lanes that are computed together, which are next to each other."""

    width: Any
    """How many lanes a place has."""
    lane: Any
    """The first of them."""
    one: Any
    """A number 1, or a vector of them."""


@inlined
def get(x: Any, place: int, at: Lanes) -> Any:
    """The numbers of a place in ``x``."""
    return load(x, unsigned(place) * at.width + at.lane, at.one)


@inlined
def put(x: Any, place: int, at: Lanes, numbers: Any) -> None:
    """Set the numbers of a place in ``x``."""
    store(x, unsigned(place) * at.width + at.lane, numbers)


@inlined
def add(x: Any, place: int, at: Lanes, numbers: Any) -> None:
    """Add to the numbers of a place in ``x``."""
    put(x, place, at, get(x, place, at) + numbers)


# In what follows ``k`` is an operation of ``t``, the Operations of a swarm, ``v`` are values, ``d`` gradients, ``x`` is
# scratch, ``at`` are the lanes. Forward an operation sets its value, backward it adds to the gradients of arguments.


@inlined
def forward(opcode: int, run: int, k: int, t: Operations, v: Any, at: Lanes) -> None:
    """One operation."""
    if opcode == POWER:
        put(v, t.first + k, at, power(get(v, t.a[k], at), t.exponents[t.b[k]]))
    elif opcode == SELECT:
        c, i, j = _choice(k, t)
        put(v, t.first + k, at, selected(get(v, c, at), get(v, i, at), get(v, j, at), at.one))
    elif opcode == TOTAL and run == r.RANGES:
        _sum_of_range(k, t, v, at)
    elif opcode >= PRODUCT:
        _many(opcode, k, t, v, at)
    else:
        put(v, t.first + k, at, arithmetic(opcode, get(v, t.a[k], at), get(v, t.b[k], at), at.one))


@inlined
def backward(opcode: int, run: int, k: int, t: Operations, v: Any, d: Any, x: Any, at: Lanes) -> None:
    """What one operation adds to the gradients of its arguments."""
    if opcode == POWER:
        _power_back(k, t, v, d, at)
    elif opcode == SELECT:
        c, i, j = _choice(k, t)
        chooser, g, zero = get(v, c, at), get(d, t.first + k, at), at.one - at.one
        add(d, i, at, selected(chooser, g, zero, at.one))
        add(d, j, at, selected(chooser, zero, g, at.one))
    elif opcode == TOTAL and run == r.RANGES:
        _sum_of_range_back(k, t, d, at)
    elif opcode == TOTAL:
        _sum_back(k, t, d, at)
    elif opcode == PRODUCT:
        _product_back(k, t, v, d, x, at)
    elif opcode >= GREATEST:
        _largest_back(opcode, k, t, v, d, at)
    else:
        _few_back(opcode, k, t, v, d, at)


@inlined
def _few_back(opcode: int, k: int, t: Operations, v: Any, d: Any, at: Lanes) -> None:
    """What an operation on one argument or two adds to their gradients."""
    i, j, o = t.a[k], t.b[k], t.first + k
    first, second = arithmetic_back(opcode, get(d, o, at), get(v, i, at), get(v, j, at), get(v, o, at), at.one)
    add(d, i, at, first)
    if opcode in (MUL, ADD, MAX, MAX_SPLIT):
        add(d, j, at, second)


@inlined
def spread(opcode: int, k: int, t: Operations, run: int, v: Any, at: Lanes) -> None:
    """Operations from ``k`` on, which are the lanes, on an argument that they have in common and one of their own."""
    i, j = t.a[k], t.b[k]
    x = line(v[unsigned(i)]) if run == r.FIRST else get(v, i, at)
    y = line(v[unsigned(j)]) if run == r.SECOND else get(v, j, at)
    put(v, t.first + k, at, arithmetic(opcode, x, y, at.one))


@inlined
def spread_back(opcode: int, k: int, t: Operations, run: int, v: Any, d: Any, at: Lanes) -> Any:
    """What ``spread`` adds to gradients, but for the argument in common; gives what is to be added to that one's."""
    common, own, o, zero = (t.a[k], t.b[k], t.first + k, at.one - at.one)
    if run == r.SECOND:
        common, own = own, common
    g = load(d, unsigned(o) + at.lane, zero)
    # What goes back to one argument of these operations is to the other as that would be in its place.
    first, second = arithmetic_back(opcode, g, line(v[unsigned(common)]), get(v, own, at), zero, at.one)
    add(d, own, at, second)
    return first


@inlined
def _choice(k: int, t: Operations) -> Any:
    """Places of what a SELECT looks at, and of what it selects from."""
    begin = unsigned(t.a[k])
    return t.lists[begin], t.lists[begin + unsigned(1)], t.lists[begin + unsigned(2)]


@inlined
def _power_back(k: int, t: Operations, v: Any, d: Any, at: Lanes) -> None:
    exponent = t.exponents[t.b[k]]
    if exponent != 0:
        g = get(d, t.first + k, at)
        add(d, t.a[k], at, power_back(g, get(v, t.a[k], at), exponent, t.one))


@inlined
def _many(opcode: int, k: int, t: Operations, v: Any, at: Lanes) -> None:
    """An operation on arguments that are listed, from the first to the last."""
    result = get(v, t.lists[t.a[k]], at)
    for m in range(unsigned(t.a[k]) + unsigned(1), unsigned(t.b[k])):
        y = get(v, t.lists[m], at)
        if opcode == PRODUCT:
            result = result * y
        elif opcode == TOTAL:
            result = result + y
        else:
            result = larger(result, y)
    put(v, t.first + k, at, result)


@inlined
def _sum_back(k: int, t: Operations, d: Any, at: Lanes) -> None:
    """TOTAL of arguments that are listed, backward."""
    g = get(d, t.first + k, at)
    for m in range(unsigned(t.a[k]), unsigned(t.b[k])):
        add(d, t.lists[m], at, g)


@inlined
def _sum_of_range(k: int, t: Operations, v: Any, at: Lanes) -> None:
    """TOTAL of arguments that stand one after another."""
    result = get(v, t.a[k], at)
    for place in range(unsigned(t.a[k]) + unsigned(1), unsigned(t.b[k])):
        result = result + get(v, place, at)
    put(v, t.first + k, at, result)


@inlined
def _sum_of_range_back(k: int, t: Operations, d: Any, at: Lanes) -> None:
    """TOTAL of arguments that stand one after another, backward."""
    g = get(d, t.first + k, at)
    for place in range(unsigned(t.a[k]), unsigned(t.b[k])):
        add(d, place, at, g)


@inlined
def _product_back(k: int, t: Operations, v: Any, d: Any, x: Any, at: Lanes) -> None:
    """PRODUCT, backward."""
    g, next_, zero = get(d, t.first + k, at), unsigned(1), at.one - at.one
    begin, last = unsigned(t.a[k]), unsigned(t.b[k]) - next_
    # x: the products of what stands to the left; then from the right.
    left = get(v, t.lists[begin], at)
    for m in range(begin + next_, last):
        store(x, (m - begin) * lanes_of(at.one), left)
        left = left * get(v, t.lists[m], at)
    i = t.lists[last]
    right = get(v, i, at)
    add(d, i, at, stopped(g, g * left, zero))
    for u in range(next_, last - begin):
        m = last - u
        i = t.lists[m]
        add(d, i, at, stopped(g, g * (load(x, (m - begin) * lanes_of(at.one), at.one) * right), zero))
        right = right * get(v, i, at)
    add(d, t.lists[begin], at, stopped(g, g * right, zero))


@inlined
def _largest_back(opcode: int, k: int, t: Operations, v: Any, d: Any, at: Lanes) -> None:
    """GREATEST or GREATEST_SPLIT, backward."""
    g, z, zero = get(d, t.first + k, at), get(v, t.first + k, at), at.one - at.one
    tied = zero
    for m in range(unsigned(t.a[k]), unsigned(t.b[k])):
        tied = tied + select(get(v, t.lists[m], at) == z, at.one, zero)
    share = select(tied > at.one, g / tied if opcode == GREATEST_SPLIT else zero, g)
    for m in range(unsigned(t.a[k]), unsigned(t.b[k])):
        i = t.lists[m]
        add(d, i, at, select(get(v, i, at) == z, share, zero))
