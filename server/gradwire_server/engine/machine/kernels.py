"""Compiled functions of the machine, by their addresses."""

from __future__ import annotations

import ctypes
import logging
from functools import cache
from typing import Any

import numpy as np
from numba import float32, float64, int64
from numpy.typing import NDArray

from gradwire_server.engine.graph.graph import Array
from gradwire_server.engine.lowering import rows as r
from gradwire_server.engine.machine import moves, products, strided, substitute, swarm, tensor, walker
from gradwire_server.engine.machine.blas import library

STEPS = {
    r.TENSOR: tensor.tensor_step,
    r.PRODUCT: products.product,
    r.SWARM: swarm.swarm,
    r.SWARM_BACK: swarm.swarm_back,
    r.ELEMENTS: moves.elements,
    r.ELEMENTS_BACK: moves.elements_back,
    r.STACK: moves.stack,
    r.STACK_BACK: moves.stack_back,
    r.GATHER: moves.gather,
    r.SCATTER: moves.scatter,
    r.FILL: walker.fill_row,
    r.FINITE: walker.look,
    r.LOSS: walker.add_losses,
    r.CONSTANTS: walker.constants,
    r.COMBINE: walker.combine,
    r.SCAN: moves.scan,
}
"""What does each kind of row."""

LOOPS = {r.C_APPLY: tensor.apply, r.C_APPLY_BACK: tensor.apply_back, r.C_APPLY_OTHER: tensor.apply_other}
GROUPS = {r.C_GROUP: swarm.group, r.C_GROUP_BACK: swarm.group_back}

REALS = {np.dtype(np.float64): float64, np.dtype(np.float32): float32}


def address_of(kernel: Any, signature: tuple[Any, ...]) -> int:
    """The address of a kernel for arguments of these types, compiled or loaded."""
    kernel.compile(signature)
    compiled = kernel.overloads[signature]
    address: int = compiled.library.get_pointer_to_function(compiled.fndesc.llvm_func_name)
    return address


@cache
def table(dtype: np.dtype[Any]) -> NDArray[np.int64]:
    """What the block of a thread holds for each number below BUFFERS that is an address."""
    real = REALS[dtype]
    block = np.zeros(r.C_BUFFERS, np.int64)
    for kind, step in STEPS.items():
        block[r.C_KINDS + kind] = address_of(step, (int64, int64, real))
    for number, loop in (LOOPS | GROUPS).items():
        block[number] = address_of(loop, (int64,) * 6 + (real,))
    block[r.C_PASS] = address_of(strided.pass_elements, (int64,) * 11 + (real,))
    block[r.C_GEMM], block[r.C_GEMV] = blas_addresses(dtype)
    return block


def blas_addresses(dtype: np.dtype[Any]) -> tuple[int, int]:
    """Addresses of gemm and gemv for a type: of NumPy's OpenBLAS, or of NumPy itself where it has another library."""
    found, letter = library(), "d" if dtype == np.float64 else "s"
    for pattern in ("scipy_cblas_{}64_", "cblas_{}64_", "cblas_{}"):
        functions = [getattr(found, pattern.format(letter + name), None) for name in ("gemm", "gemv")]
        if all(functions):
            return _address(functions[0]), _address(functions[1])
    logging.getLogger(__name__).warning(
        "NumPy has no OpenBLAS that can be called by address; matrix products go through Python, which is slower"
    )
    return substitute.addresses(ctypes.c_double if dtype == np.float64 else ctypes.c_float)


def _address(function: Any) -> int:
    return ctypes.cast(function, ctypes.c_void_p).value or 0


@cache
def yielding() -> int:
    """The address of sched_yield."""
    return _address(ctypes.CDLL(None).sched_yield)


def ones(dtype: np.dtype[Any]) -> Array:
    """1 in a type, as kernels take it to know the type."""
    return dtype.type(1)
