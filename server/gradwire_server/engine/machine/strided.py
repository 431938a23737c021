"""Elements of tensors with strides, in runs that fit the nearest cache.

A nest is a table of loops, outermost first: for each its length, whether lanes multiply that, and the stride of each
operand. Its elements are numbered in the order in which the loops go through them. What stands one after another
is computed with where it is; anything else passes through scratch.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import int64

from gradwire_server.engine.compiled import compiled
from gradwire_server.engine.machine.memory import called, converted, inlined, pointer, unsigned
from gradwire_server.engine.machine.vectors import lanes_of, larger, line, load, store, sum_of_lanes, widened

CHUNK = 512
"""Numbers that pass through scratch at a time."""

LOAD, STORE, ADD, ADD_WIDE, LARGEST = map(np.int64, range(5))
"""What becomes of an element: it is read, set, added to, added to in float64, or kept if it is the largest."""


@inlined
def length(d: Any, columns: int, loop: int, lanes: int) -> int:
    """How often a loop of the nest ``d`` runs."""
    own = d[loop * columns]
    return own * lanes if d[loop * columns + 1] else own


@inlined
def count(d: Any, columns: int, rank: int, lanes: int) -> int:
    """Elements of a nest."""
    total = 1
    for loop in range(rank):
        total *= length(d, columns, loop, lanes)
    return total


@called
def row_sum(p: Any, at: int, n: int) -> float:
    """The sum of up to CHUNK numbers in float64: of each lane of four vectors, then of all lanes in pairs."""
    at, n, like = unsigned(at), unsigned(n), line(converted(0.0, p[at]))
    zeros, count = widened(like), lanes_of(like)
    whole = n - n % count
    fours = whole - whole % (unsigned(4) * count)
    a, b, c, d = zeros, zeros, zeros, zeros
    for k in range(unsigned(0), fours, unsigned(4) * count):
        a = a + widened(load(p, at + k, like))
        b = b + widened(load(p, at + k + count, like))
        c = c + widened(load(p, at + k + unsigned(2) * count, like))
        d = d + widened(load(p, at + k + unsigned(3) * count, like))
    for k in range(fours, whole, count):
        a = a + widened(load(p, at + k, like))
    total = sum_of_lanes((a + b) + (c + d))
    for k in range(whole, n):
        total += p[at + k]
    return total


@called
def row_largest(most: Any, p: Any, at: int, n: int, scratch: Any) -> Any:
    """The largest of ``most`` and of up to CHUNK numbers, or NaN if one is."""
    at, n, mosts = unsigned(at), unsigned(n), line(most)
    count = lanes_of(mosts)
    whole = n - n % count
    if whole:
        for k in range(unsigned(0), whole, count):
            mosts = larger(load(p, at + k, mosts), mosts)
        store(scratch, unsigned(0), mosts)
        for k in range(count):
            most = larger(scratch[k], most)
    for k in range(whole, n):
        most = larger(p[at + k], most)
    return most


@inlined
def _run(kind: int, e: Any, place: int, stride: int, p: Any, at: int, n: int, scratch: Any) -> None:
    """One run of the innermost loop: ``n`` elements of ``e`` from ``place`` on, and numbers of ``p`` from ``at`` on."""
    i, s, k, n = unsigned(place), unsigned(stride), unsigned(at), unsigned(n)
    if kind == LOAD:
        if stride == 1:
            for m in range(n):
                p[k + m] = e[i + m]
        elif stride == 0:
            number = e[i]
            for m in range(n):
                p[k + m] = number
        else:
            for m in range(n):
                p[k + m] = e[i + m * s]
    elif kind == STORE:
        for m in range(n):
            e[i + m * s] = p[k + m]
    elif kind == LARGEST:
        if stride == 0:
            e[i] = row_largest(converted(e[i], p[k]), p, at, n, scratch)
        else:
            for m in range(n):
                e[i + m * s] = larger(p[k + m], converted(e[i + m * s], p[k]))
    elif stride == 0:
        e[i] += row_sum(p, at, n)
    elif stride == 1:
        for m in range(n):
            e[i + m] += p[k + m]
    else:
        for m in range(n):
            e[i + m * s] += p[k + m]


@inlined
def _walk(
    kind: int,
    e: Any,
    d: Any,
    columns: int,
    rank: int,
    operand: int,
    lanes: int,
    first: int,
    n: int,
    p: Any,
    at: int,
    scratch: Any,
) -> None:
    """``n`` elements of a nest, from the ``first`` on, and as many numbers of ``p`` from ``at`` on."""
    own = 2 + operand
    inner = length(d, columns, rank - 1, lanes)
    stride = d[(rank - 1) * columns + own]
    outer, outer_stride = 1, 0
    if rank > 1:
        outer, outer_stride = length(d, columns, rank - 2, lanes), d[(rank - 2) * columns + own]
    done = 0
    while done < n:
        rest, i = divmod(first + done, inner)
        rest, j = divmod(rest, outer)
        base = 0
        for loop in range(rank - 3, -1, -1):
            rest, index = divmod(rest, length(d, columns, loop, lanes))
            base += index * d[loop * columns + own]
        while done < n and j < outer:
            run = min(inner - i, n - done)
            _run(kind, e, base + j * outer_stride + i * stride, stride, p, at + done, run, scratch)
            done += run
            i = 0
            j += 1


@compiled
def pass_elements(
    kind: int, numbers: int, nest: int, columns: int, rank: int, operand: int, lanes: int, first: int, n: int, p: int,
    scratch: int, one: Any,
) -> None:  # fmt: skip
    """``n`` elements of a nest, from the ``first`` on, and as many numbers of ``p``; all three are addresses.

    They are loaded there, or set to these; or numbers are added to elements, of which several may be one, and which
    are of float64 if ADD_WIDE; or elements become numbers that are larger, or NaN.
    """
    e, d, q, x = pointer(numbers, one), pointer(nest, int64(0)), pointer(p, one), pointer(scratch, one)
    if kind == LOAD:
        _walk(LOAD, e, d, columns, rank, operand, lanes, first, n, q, 0, x)
    elif kind == STORE:
        _walk(STORE, e, d, columns, rank, operand, lanes, first, n, q, 0, x)
    elif kind == ADD:
        _walk(ADD, e, d, columns, rank, operand, lanes, first, n, q, 0, x)
    elif kind == ADD_WIDE:
        _walk(ADD, pointer(numbers, 1.0), d, columns, rank, operand, lanes, first, n, q, 0, x)
    else:
        _walk(LARGEST, e, d, columns, rank, operand, lanes, first, n, q, 0, x)


@called
def fill(p: Any, at: int, n: int, number: Any) -> None:
    """Set ``n`` numbers."""
    at, n = unsigned(at), unsigned(n)
    for k in range(n):
        p[at + k] = number


@called
def add_all(p: Any, q: Any, n: int) -> None:
    """Add ``n`` numbers of ``q`` to those of ``p``, which may be wider."""
    n = unsigned(n)
    for k in range(n):
        p[k] += q[k]


@called
def move(p: Any, q: Any, n: int) -> None:
    """Set ``n`` numbers of ``p`` to those of ``q``, rounded if they are wider."""
    n = unsigned(n)
    for k in range(n):
        p[k] = q[k]


@called
def all_finite(bits: Any, n: int, exponent: Any) -> bool:
    """Whether no number has an exponent of ones only, as infinities and NaN have; integers compare in any order."""
    n = unsigned(n)
    bad = False
    for k in range(n):
        bad = bad | ((bits[k] & exponent) == exponent)
    return not bad
