"""BLAS by address: products of matrices, and of a matrix and a vector, without Python."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

ROW_MAJOR, PLAIN, TRANSPOSED = 101, 111, 112
"""What CBLAS calls the order of elements, a matrix as it is, and one that is to be transposed."""

_INT32, _INT64, _POINTER = ir.IntType(32), ir.IntType(64), ir.IntType(8).as_pointer()


def _call(builder: Any, address: Any, arguments: Sequence[tuple[Any, Any]]) -> None:
    """Call what is at an address, with values of these types."""
    kinds = [kind for kind, _ in arguments]
    function = builder.inttoptr(address, ir.FunctionType(ir.VoidType(), kinds).as_pointer())
    passed = []
    for kind, value in arguments:
        if kind == _POINTER:
            passed.append(builder.inttoptr(value, kind))
        else:
            passed.append(builder.trunc(value, kind) if kind == _INT32 else value)
    builder.call(function, passed)


@intrinsic
def gemm(
    typing: Any,
    f: Any,
    ta: Any,
    tb: Any,
    m: Any,
    n: Any,
    k: Any,
    a: Any,
    lda: Any,
    b: Any,
    ldb: Any,
    beta: Any,
    c: Any,
    ldc: Any,
) -> Any:
    """C = A B + beta C, row-major; ``f`` is the address of the routine, matrices are addresses."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Sequence[Any]) -> Any:
        f, ta, tb, m, n, k, a, lda, b, ldb, beta, c, ldc = arguments
        real = beta.type
        order, alpha = ir.Constant(_INT64, ROW_MAJOR), ir.Constant(real, 1.0)
        head = [(_INT32, order), (_INT32, ta), (_INT32, tb), (_INT64, m), (_INT64, n), (_INT64, k)]
        factors = [(real, alpha), (_POINTER, a), (_INT64, lda), (_POINTER, b), (_INT64, ldb)]
        _call(builder, f, [*head, *factors, (real, beta), (_POINTER, c), (_INT64, ldc)])
        return context.get_dummy_value()

    i = types.int64
    return types.void(i, i, i, i, i, i, i, i, i, i, beta, i, i), generate


@intrinsic
def gemv(
    typing: Any, f: Any, t: Any, m: Any, n: Any, a: Any, lda: Any, x: Any, step: Any, beta: Any, y: Any, y_step: Any
) -> Any:
    """y = A x + beta y, or with A transposed, for A of ``m`` rows and ``n`` columns as it is stored."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Sequence[Any]) -> Any:
        f, t, m, n, a, lda, x, step, beta, y, y_step = arguments
        real = beta.type
        order, alpha = ir.Constant(_INT64, ROW_MAJOR), ir.Constant(real, 1.0)
        head = [(_INT32, order), (_INT32, t), (_INT64, m), (_INT64, n), (real, alpha), (_POINTER, a), (_INT64, lda)]
        _call(builder, f, [*head, (_POINTER, x), (_INT64, step), (real, beta), (_POINTER, y), (_INT64, y_step)])
        return context.get_dummy_value()

    i = types.int64
    return types.void(i, i, i, i, i, i, i, i, beta, i, i), generate


def library() -> ctypes.CDLL | None:
    """NumPy's own OpenBLAS; None if NumPy was built with another library."""
    import numpy as np  # noqa: PLC0415, F401  (loads it)
    from threadpoolctl import threadpool_info  # noqa: PLC0415  (slow to import, and asked for once)

    for found in threadpool_info():
        if found["internal_api"] == "openblas" and "numpy" in found["filepath"]:
            return ctypes.CDLL(found["filepath"])
    return None
