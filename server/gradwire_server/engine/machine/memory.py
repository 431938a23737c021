"""Memory by address, and what threads agree by: pointers, casts, atomic counters.

A row of code names places in memory by numbers, so that one call takes one integer, whatever the graph.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

inlined = njit(nogil=True, error_model="numpy", forceinline=True)
called = njit(nogil=True, error_model="numpy")
"""For what has so many loops that LLVM, if it were part of another, would keep counters for all of them at once."""

unsigned: Any = np.uint64
"""An index that is signed may count from the end, Numba thinks, and LLVM makes no vectors then."""

_INT64 = ir.IntType(64)


@intrinsic
def pointer(typing: Any, address: Any, like: Any) -> Any:
    """The numbers from an address on, of the type of ``like``."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Sequence[Any]) -> Any:
        return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

    return types.CPointer(like)(types.int64, like), generate


@intrinsic
def address_in(typing: Any, numbers: Any, index: Any) -> Any:
    """The address of one of the numbers that a pointer points to."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Sequence[Any]) -> Any:
        return builder.ptrtoint(builder.gep(arguments[0], [arguments[1]]), _INT64)

    return types.int64(numbers, index), generate


@intrinsic
def item_size(typing: Any, like: Any) -> Any:
    """Bytes of a number of this type."""
    size = like.bitwidth // 8
    return types.int64(like), lambda context, *_: context.get_constant(types.int64, size)


@intrinsic
def converted(typing: Any, number: Any, like: Any) -> Any:
    """A float64 in the type of ``like``, rounded."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Sequence[Any]) -> Any:
        return context.cast(builder, arguments[0], types.float64, signature.return_type)

    return like(types.float64, like), generate


@intrinsic
def float_of(typing: Any, bits: Any) -> Any:
    """The float64 that these 64 bits are."""
    return types.float64(types.int64), lambda _, builder, __, arguments: builder.bitcast(arguments[0], ir.DoubleType())


@intrinsic
def bits_like(typing: Any, like: Any) -> Any:
    """Zero, as an unsigned integer as wide as ``like``."""
    kind = types.uint64 if like.bitwidth == 64 else types.uint32
    return kind(like), lambda context, *_: context.get_constant(kind, 0)


def _address(builder: Any, address: Any) -> Any:
    return builder.inttoptr(address, _INT64.as_pointer())


@intrinsic
def fetch_add(typing: Any, address: Any, number: Any) -> Any:
    """Add to an integer that threads share; gives what it was."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Sequence[Any]) -> Any:
        return builder.atomic_rmw("add", _address(builder, arguments[0]), arguments[1], "seq_cst")

    return types.int64(types.int64, types.int64), generate


@intrinsic
def peek(typing: Any, address: Any) -> Any:
    """An integer that another thread may set at any time."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Sequence[Any]) -> Any:
        return builder.load_atomic(_address(builder, arguments[0]), "acquire", 8)

    return types.int64(types.int64), generate


@intrinsic
def poke(typing: Any, address: Any, number: Any) -> Any:
    """Set an integer that other threads look at."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Sequence[Any]) -> Any:
        builder.store_atomic(arguments[1], _address(builder, arguments[0]), "release", 8)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), generate


@intrinsic
def give_way(typing: Any, address: Any) -> Any:
    """Let another thread have the core; ``address`` is that of the C library's sched_yield."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Sequence[Any]) -> Any:
        kind = ir.FunctionType(ir.IntType(32), [])
        builder.call(builder.inttoptr(arguments[0], kind.as_pointer()), [])
        return context.get_dummy_value()

    return types.void(types.int64), generate


@intrinsic
def invoke(typing: Any, address: Any, arguments: Any) -> Any:
    """Call a compiled function by its address, which takes these arguments and returns nothing.

    LLVM optimises each function by itself so; linked together they take several times as long to compile.
    """

    def generate(context: Any, builder: Any, signature: Any, given: Sequence[Any]) -> Any:
        kinds = list(arguments.types)
        values = [builder.extract_value(given[1], i) for i in range(len(kinds))]
        kind = context.call_conv.get_function_type(types.none, kinds)
        callee = builder.inttoptr(given[0], kind.as_pointer())
        context.call_conv.call_function(builder, callee, types.none, kinds, values)
        return context.get_dummy_value()

    return types.void(types.int64, arguments), generate
