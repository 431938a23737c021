"""The operations of tapes, forward and backward, each for some lanes of its places.

They serve one lane and a vector of lanes alike. Whatever they are told of the lanes is known when they are compiled,
or does not change in the loop that they are in.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit

from gradwire_server.engine.kernels import functions
from gradwire_server.engine.kernels.opcodes import Run, TapeOpcode
from gradwire_server.engine.kernels.vectors import line, load, select, store

inlined = njit(nogil=True, error_model="numpy", forceinline=True)
called = njit(nogil=True, error_model="numpy")
"""For what has so many loops that LLVM, if it were part of another, would keep counters for all of them at once."""

MUL, SQUARE, RECIPROCAL, ADD, MAX, MAX_SPLIT, POWER, EXP, LOG, SIGMOID, TANH, SOFTPLUS = map(int, list(TapeOpcode)[:12])
PRODUCT, SUM, LARGEST, LARGEST_SPLIT, MIXED = map(int, list(TapeOpcode)[12:])

NONE, RANGES, FIRST, SECOND = map(int, Run)

unsigned: Any = np.uint64
"""Of an index that is not unsigned Numba asks whether it counts from the end, and LLVM makes no vectors then."""


class Operations(NamedTuple):
    """Those of a tape, by their number."""

    a: Any
    """Place of the first argument; of SUM and the like, where the places of arguments begin in ``lists``, or in RANGES
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
    mask: Any
    """Which lanes of the vector there are, or None."""
    count: Any
    """Of the vector."""


@inlined
def get(x: Any, place: int, at: Lanes) -> Any:
    """The numbers of a place in ``x``; 1 where there is no lane."""
    return load(x, unsigned(place) * at.width + at.lane, at.one, at.mask)


@inlined
def put(x: Any, place: int, at: Lanes, numbers: Any) -> None:
    """Set the numbers of a place in ``x``."""
    store(x, unsigned(place) * at.width + at.lane, numbers, at.mask)


@inlined
def add(x: Any, place: int, at: Lanes, numbers: Any) -> None:
    """Add to the numbers of a place in ``x``."""
    put(x, place, at, get(x, place, at) + numbers)


@inlined
def larger(a: Any, b: Any) -> Any:
    """The larger one; NaN of either wins, and of two zeros the second, as with NumPy."""
    return select((a > b) | (a != a), a, b)  # noqa: PLR0124  (NaN)


# In what follows ``k`` is an operation of ``t``, the tape's Operations, ``v`` are values, ``d`` gradients, and ``x`` is
# scratch; ``at`` are the lanes. Forward an operation sets its value, backward it adds to the gradients of arguments.


@inlined
def _value(opcode: int, x: Any, y: Any, one: Any) -> Any:
    """What an operation gives of its arguments, if it is no function."""
    if opcode == MUL:
        return x * y
    if opcode == ADD:
        return x + y
    if opcode in (MAX, MAX_SPLIT):
        return larger(x, y)
    if opcode == SQUARE:
        return x * x
    return one / x


@inlined
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


@inlined
def few(opcode: int, k: int, t: Operations, v: Any, at: Lanes) -> None:
    """An operation on one argument or two."""
    put(v, t.first + k, at, _value(opcode, get(v, t.a[k], at), get(v, t.b[k], at), at.one))


@inlined
def few_back(opcode: int, k: int, t: Operations, v: Any, d: Any, x: Any, at: Lanes) -> None:
    """The same, backward."""
    i, j, o = t.a[k], t.b[k], t.first + k
    first, second = _shares(opcode, get(d, o, at), get(v, i, at), get(v, j, at), get(v, o, at), at.one)
    add(d, i, at, first)
    if opcode in (MUL, ADD, MAX, MAX_SPLIT):
        add(d, j, at, second)


@inlined
def spread(opcode: int, k: int, t: Operations, run: int, v: Any, at: Lanes) -> None:
    """Operations from ``k`` on, which are the lanes, on an argument that they have in common and one of their own."""
    i, j = t.a[k], t.b[k]
    x = line(v[unsigned(i)]) if run == FIRST else get(v, i, at)
    y = line(v[unsigned(j)]) if run == SECOND else get(v, j, at)
    put(v, t.first + k, at, _value(opcode, x, y, at.one))


@inlined
def spread_back(opcode: int, k: int, t: Operations, run: int, v: Any, d: Any, at: Lanes) -> Any:
    """The same, backward, but for the argument in common: gives what is to be added to its gradient."""
    common, own, o, zero = (t.a[k], t.b[k], t.first + k, at.one - at.one)
    if run == SECOND:
        common, own = own, common
    g = load(d, unsigned(o) + at.lane, zero, at.mask)
    # What goes back to one argument of these operations is to the other as that would be in its place.
    first, second = _shares(opcode, g, line(v[unsigned(common)]), get(v, own, at), zero, at.one)
    add(d, own, at, second)
    return first


@inlined
def power(opcode: int, k: int, t: Operations, v: Any, at: Lanes) -> None:
    """POWER."""
    put(v, t.first + k, at, functions.power(get(v, t.a[k], at), t.exponents[t.b[k]]))


@inlined
def power_back(opcode: int, k: int, t: Operations, v: Any, d: Any, x: Any, at: Lanes) -> None:
    """The same, backward."""
    p = t.exponents[t.b[k]]
    if p != 0:
        i = t.a[k]
        derivative = p * functions.power(get(v, i, at), p - t.one)
        add(d, i, at, get(d, t.first + k, at) * derivative)


@inlined
def many(opcode: int, k: int, t: Operations, v: Any, at: Lanes) -> None:
    """An operation on arguments that are listed, from the first to the last."""
    result = get(v, t.lists[t.a[k]], at)
    for m in range(unsigned(t.a[k]) + unsigned(1), unsigned(t.b[k])):
        y = get(v, t.lists[m], at)
        if opcode == PRODUCT:
            result = result * y
        elif opcode == SUM:
            result = result + y
        else:
            result = larger(result, y)
    put(v, t.first + k, at, result)


@inlined
def sum_back(opcode: int, k: int, t: Operations, v: Any, d: Any, x: Any, at: Lanes) -> None:
    """SUM of arguments that are listed, backward."""
    g = get(d, t.first + k, at)
    for m in range(unsigned(t.a[k]), unsigned(t.b[k])):
        add(d, t.lists[m], at, g)


@inlined
def sum_of_range(opcode: int, k: int, t: Operations, v: Any, at: Lanes) -> None:
    """SUM of arguments that stand one after another."""
    result = get(v, t.a[k], at)
    for place in range(unsigned(t.a[k]) + unsigned(1), unsigned(t.b[k])):
        result = result + get(v, place, at)
    put(v, t.first + k, at, result)


@inlined
def sum_of_range_back(opcode: int, k: int, t: Operations, v: Any, d: Any, x: Any, at: Lanes) -> None:
    """The same, backward."""
    g = get(d, t.first + k, at)
    for place in range(unsigned(t.a[k]), unsigned(t.b[k])):
        add(d, place, at, g)


@inlined
def product_back(opcode: int, k: int, t: Operations, v: Any, d: Any, x: Any, at: Lanes) -> None:
    """PRODUCT, backward."""
    g, next_ = get(d, t.first + k, at), unsigned(1)
    begin, last = unsigned(t.a[k]), unsigned(t.b[k]) - next_
    # x: the products of what stands to the left; then from the right.
    left = get(v, t.lists[begin], at)
    for m in range(begin + next_, last):
        store(x, (m - begin) * at.count, left, None)
        left = left * get(v, t.lists[m], at)
    i = t.lists[last]
    right = get(v, i, at)
    add(d, i, at, g * left)
    for u in range(next_, last - begin):
        m = last - u
        i = t.lists[m]
        add(d, i, at, g * (load(x, (m - begin) * at.count, at.one, None) * right))
        right = right * get(v, i, at)
    add(d, t.lists[begin], at, g * right)


@inlined
def largest_back(opcode: int, k: int, t: Operations, v: Any, d: Any, x: Any, at: Lanes) -> None:
    """LARGEST or LARGEST_SPLIT, backward."""
    g, z, zero = get(d, t.first + k, at), get(v, t.first + k, at), at.one - at.one
    tied = zero
    for m in range(unsigned(t.a[k]), unsigned(t.b[k])):
        tied = tied + select(get(v, t.lists[m], at) == z, at.one, zero)
    share = select(tied > at.one, g / tied if opcode == LARGEST_SPLIT else zero, g)
    for m in range(unsigned(t.a[k]), unsigned(t.b[k])):
        i = t.lists[m]
        add(d, i, at, select(get(v, i, at) == z, share, zero))
