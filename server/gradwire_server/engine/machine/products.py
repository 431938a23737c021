"""Matrix products: by BLAS where there is much to do, by loops where a call would take longer than the work."""

from __future__ import annotations

from typing import Any

from numba import int64

from gradwire_server.engine.compiled import compiled
from gradwire_server.engine.lowering import rows as r
from gradwire_server.engine.machine import strided
from gradwire_server.engine.machine.blas import PLAIN, TRANSPOSED, gemm, gemv
from gradwire_server.engine.machine.control import address_of, lengthened, stops
from gradwire_server.engine.machine.memory import called, item_size, pointer, unsigned

AT_ONCE = 1 << 29
"""Multiplications without a look at whether to stop, about a fortieth of a second."""

OFTEN = 256
"""Products of a stack without a look at whether to stop."""

SMALL = 512
"""Multiplications that loops do sooner than a call of BLAS."""


@called
def _loops(m: int, n: int, k: int, a: Any, b: Any, c: Any, s: Any, added: int, gradient: int, one: Any) -> None:
    """The product by loops; a term whose gradient is 0 counts as 0, also times what is not finite."""
    zero = one - one
    cr, cc, ar, ac, br, bc = s[0], s[1], s[2], s[3], s[4], s[5]
    for i in range(m):
        for j in range(n):
            total = zero
            for q in range(k):
                x, y = a[i * ar + q * ac], b[q * br + j * bc]
                if not ((gradient == 1 and x == zero) or (gradient == 2 and y == zero)):
                    total += x * y
            c[i * cr + j * cc] = c[i * cr + j * cc] + total if added else total


@called
def _outer(m: int, n: int, a: Any, b: Any, c: Any, s: Any, added: int) -> None:
    """The product of a column and a row."""
    cr, ar, bc = unsigned(s[0]), unsigned(s[2]), unsigned(s[5])
    n = unsigned(n)
    for i in range(unsigned(m)):
        x, at = a[i * ar], i * cr
        if added:
            for j in range(n):
                c[at + j] += x * b[j * bc]
        elif bc == unsigned(1):
            for j in range(n):
                c[at + j] = x * b[j]
        else:
            for j in range(n):
                c[at + j] = x * b[j * bc]


@called
def _blas(q: Any, m: int, n: int, k: int, a: int, b: int, c: int, s: Any, beta: Any) -> None:
    """The product by BLAS; matrices are addresses."""
    cr, cc, ar, ac, br, bc = s[0], s[1], s[2], s[3], s[4], s[5]
    # Steps of vectors of one element mean nothing, but BLAS refuses 0.
    if n == 1:
        if ac == 1 or k == 1:
            gemv(q[r.C_GEMV], PLAIN, m, k, a, max(ar, k), b, max(1, br), beta, c, max(1, cr))
        else:
            gemv(q[r.C_GEMV], TRANSPOSED, k, m, a, max(ac, m), b, max(1, br), beta, c, max(1, cr))
    elif m == 1:
        if bc == 1 or n == 1:
            gemv(q[r.C_GEMV], TRANSPOSED, k, n, b, max(br, n), a, max(1, ac), beta, c, max(1, cc))
        else:
            gemv(q[r.C_GEMV], PLAIN, n, k, b, max(bc, k), a, max(1, ac), beta, c, max(1, cc))
    else:
        ta, lda = (PLAIN, max(ar, k)) if ac == 1 or k == 1 else (TRANSPOSED, max(ac, m))
        tb, ldb = (PLAIN, max(br, n)) if bc == 1 else (TRANSPOSED, max(bc, k))
        gemm(q[r.C_GEMM], ta, tb, m, n, k, a, lda, b, ldb, beta, c, max(cr, n))


@called
def _parts(q: Any, m: int, n: int, k: int, a: int, b: int, c: int, s: Any, beta: Any, size: int) -> None:
    """The product by BLAS, in parts of rows between which it may stop."""
    part = max(1, AT_ONCE // max(1, n * k))
    for first in range(0, m, part):
        if stops(q):
            return
        _blas(q, min(part, m - first), n, k, a + first * s[2] * size, b, c + first * s[0] * size, s, beta)


@called
def _all_finite(p: Any, n: int, stride: int) -> bool:
    bad = False
    for i in range(n):
        bad = bad | (p[i * stride] - p[i * stride] != 0)
    return not bad


@called
def _carefully(q: Any, m: int, n: int, k: int, a: int, b: int, c: int, s: Any, gradient: int, one: Any) -> None:
    """Add a product one of whose factors, which is no gradient, may not be finite.

    BLAS takes what is finite; other columns of A, or rows of B, are taken by loops, one at a time.
    """
    size, begin = item_size(one), 0
    for end in range(k + 1):
        x, y = a + end * s[3] * size, b + end * s[4] * size
        if end < k:
            sound = _all_finite(pointer(y, one), n, s[5]) if gradient == 1 else _all_finite(pointer(x, one), m, s[2])
            if sound:
                continue
        if end > begin:
            _parts(q, m, n, end - begin, a + begin * s[3] * size, b + begin * s[4] * size, c, s, one, size)
        if stops(q):
            return
        if end < k:
            _loops(m, n, 1, pointer(x, one), pointer(y, one), pointer(c, one), s, 1, gradient, one)
        begin = end + 1


@called
def _matrix(q: Any, row: Any, m: int, n: int, k: int, a: int, b: int, c: int, added: int, one: Any) -> None:
    """One product of a stack."""
    s = pointer(row, int64(0))
    gradient, strides = s[r.P_GRADIENT], pointer(row + 8 * r.P_STRIDES, int64(0))
    x, y, z = pointer(a, one), pointer(b, one), pointer(c, one)
    careful = gradient != 0 and q[r.C_STATUS] & r.BAD_VALUE != 0
    if m * n * k <= SMALL:
        _loops(m, n, k, x, y, z, strides, added, gradient if careful else 0, one)
    elif careful:
        if not added:
            for i in range(m):
                for j in range(n):
                    z[i * strides[0] + j * strides[1]] = one - one
        _carefully(q, m, n, k, a, b, c, strides, gradient, one)
    elif k == 1 and strides[1] == 1:
        _outer(m, n, x, y, z, strides, added)
    else:
        _parts(q, m, n, k, a, b, c, strides, one if added else one - one, item_size(one))


@compiled
def product(block: int, address: int, one: Any) -> None:
    """One row: a stack of products, each stored or added."""
    q, row = pointer(block, int64(0)), pointer(address, int64(0))
    d = pointer(address + 8 * r.P_NEST, int64(0))
    m, n, k = lengthened(q, row, r.P_ROWS), lengthened(q, row, r.P_COLUMNS), lengthened(q, row, r.P_INNER)
    rank, lanes, added, size = row[r.P_RANK], q[r.C_LANES], row[r.P_ADDED], item_size(one)
    c, a, b = (
        address_of(q, row, r.P_REFS, size),
        address_of(q, row, r.P_REFS + r.REF, size),
        address_of(q, row, r.P_REFS + 2 * r.REF, size),
    )
    if m * n == 0:
        return
    for index in range(strided.count(d, r.NEST, rank, lanes)):
        if index % OFTEN == 0 and stops(q):
            return
        ci, ai, bi, rest = c, a, b, index
        for loop in range(rank - 1, -1, -1):
            rest, i = divmod(rest, strided.length(d, r.NEST, loop, lanes))
            ci += i * d[loop * r.NEST + 2] * size
            ai += i * d[loop * r.NEST + 3] * size
            bi += i * d[loop * r.NEST + 4] * size
        _matrix(q, address, m, n, k, ai, bi, ci, added, one)
