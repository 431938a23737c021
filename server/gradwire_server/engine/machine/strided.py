"""Elements of tensors with strides, in runs that fit the nearest cache.

A nest is a table of loops, outermost first: for each its length, whether lanes multiply that, and the stride of each
operand. Its elements are numbered in the order in which the loops go through them. What stands one after another
is computed with where it is; anything else passes through scratch.
"""

from __future__ import annotations

from typing import Any

from numba import int64

from gradwire_server.engine.compiled import compiled
from gradwire_server.engine.machine.memory import called, converted, inlined, pointer, unsigned

CHUNK = 512
"""Numbers that pass through scratch at a time."""

LOAD, ADD, ADD_WIDE, LARGEST = range(4)
"""What becomes of an element: it is read, added to, added to in float64, or kept if it is the largest."""


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
def pair_sum(p: Any, at: int, n: int, scratch: Any) -> Any:
    """The sum of up to CHUNK numbers, in pairs: its error hardly grows with n, and LLVM makes vectors of it."""
    at, n, one = unsigned(at), unsigned(n), unsigned(1)
    if n < unsigned(8):
        total = converted(0.0, p[at])
        for k in range(n):
            total += p[at + k]
        return total
    half = n >> one
    odd = p[at + n - one] if n & one else converted(0.0, p[at])
    for k in range(half):
        scratch[k] = p[at + k] + p[at + half + k]
    n = half
    while n > one:
        half = n >> one
        if n & one:
            odd += scratch[n - one]
        for k in range(half):
            scratch[k] = scratch[k] + scratch[half + k]
        n = half
    return scratch[unsigned(0)] + odd


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
    elif kind == LARGEST:
        if stride == 0:
            most = e[i]
            for m in range(n):
                x = p[k + m]
                most = x if x > most or x != x else most  # noqa: PLR0124  (NaN)
            e[i] = most
        else:
            for m in range(n):
                x, most = p[k + m], e[i + m * s]
                e[i + m * s] = x if x > most or x != x else most  # noqa: PLR0124  (NaN)
    elif stride == 0:
        e[i] += pair_sum(p, at, n, scratch)
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

    They are loaded there; or numbers are added to elements, of which several may be one, and which are of float64 if
    ADD_WIDE; or elements become numbers that are larger, or NaN.
    """
    e, d, q, x = pointer(numbers, one), pointer(nest, int64(0)), pointer(p, one), pointer(scratch, one)
    if kind == LOAD:
        _walk(LOAD, e, d, columns, rank, operand, lanes, first, n, q, 0, x)
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
