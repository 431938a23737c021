"""Products by NumPy, called back from compiled code, where NumPy's BLAS cannot be called by address."""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Any

import numpy as np

from gradwire_server.engine.machine.blas import TRANSPOSED

_INT32, _INT64, _ADDRESS = ctypes.c_int32, ctypes.c_int64, ctypes.c_size_t


def _elements(real: Any, address: int, count: int, step: int) -> Any:
    """A vector of ``count`` numbers at an address, of which each is ``step`` behind the last one."""
    if count == 0:
        return np.empty(0, real)
    whole = np.ctypeslib.as_array((real * ((count - 1) * step + 1)).from_address(address))
    return whole[::step]


def _matrix(real: Any, address: int, rows: int, columns: int, step: int) -> Any:
    if rows * columns == 0:
        return np.empty((rows, columns), real)
    whole = np.ctypeslib.as_array((real * ((rows - 1) * step + columns)).from_address(address))
    return np.lib.stride_tricks.as_strided(whole, (rows, columns), (step * whole.itemsize, whole.itemsize))


@cache
def addresses(real: Any) -> tuple[int, int]:
    """Addresses of functions like CBLAS's gemm and gemv, for ``ctypes.c_double`` or ``c_float``."""

    def gemm(_: int, ta: int, tb: int, m: int, n: int, k: int, __: float, a: int, lda: int, b: int, ldb: int,
             beta: float, c: int, ldc: int) -> None:  # fmt: skip
        left = _matrix(real, a, k, m, lda).T if ta == TRANSPOSED else _matrix(real, a, m, k, lda)
        right = _matrix(real, b, n, k, ldb).T if tb == TRANSPOSED else _matrix(real, b, k, n, ldb)
        out = _matrix(real, c, m, n, ldc)
        out[...] = left @ right + out if beta else left @ right

    def gemv(_: int, t: int, m: int, n: int, __: float, a: int, lda: int, x: int, step: int, beta: float, y: int,
             y_step: int) -> None:  # fmt: skip
        matrix = _matrix(real, a, m, n, lda)
        matrix = matrix.T if t == TRANSPOSED else matrix
        out = _elements(real, y, matrix.shape[0], y_step)
        product = matrix @ _elements(real, x, matrix.shape[1], step)
        out[...] = product + out if beta else product

    head = None, _INT32, _INT32
    of_gemm = ctypes.CFUNCTYPE(
        *head, _INT32, _INT64, _INT64, _INT64, real, _ADDRESS, _INT64, _ADDRESS, _INT64, real, _ADDRESS, _INT64
    )
    of_gemv = ctypes.CFUNCTYPE(*head, _INT64, _INT64, real, _ADDRESS, _INT64, _ADDRESS, _INT64, real, _ADDRESS, _INT64)
    KEPT.extend((of_gemm(gemm), of_gemv(gemv)))
    first, second = (ctypes.cast(function, ctypes.c_void_p).value or 0 for function in KEPT[-2:])
    return first, second


KEPT: list[Any] = []
"""Functions whose addresses were given away."""
