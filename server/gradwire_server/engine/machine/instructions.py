"""What elementary functions are written with: instructions of LLVM on a float64 or a float32, and on its bits."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from typing import Any

from numba import njit, typeof, types
from numba.core.errors import TypingError
from numba.extending import intrinsic

OPTIONS = {
    "error_model": "numpy",  # x / 0 is an infinity: a check for it would be a branch
    "forceinline": True,  # a call that LLVM leaves in a loop keeps it from making vectors
    "nogil": True,
}

compiled = njit(**OPTIONS)

_UNSIGNED = {types.float64: types.uint64, types.float32: types.uint32}
_REAL = {unsigned: real for real, unsigned in _UNSIGNED.items()}


def constants(table: Mapping[Any, Any]) -> Any:
    """A function of a number that has for it what the table has for its type."""

    @intrinsic
    def constants_of(typing: Any, x: Any) -> Any:
        if x not in table:
            raise TypingError(f"these are functions of float64 and float32, not of {x}")
        values = table[x]
        result = typeof(values)
        return result(x), lambda context, builder, *_: context.get_constant_generic(builder, result, values)

    return constants_of


def _cast(context: Any, builder: Any, signature: Any, arguments: Sequence[Any]) -> Any:
    return builder.bitcast(arguments[0], context.get_value_type(signature.return_type))


@intrinsic
def bits_of(typing: Any, x: Any) -> Any:
    """The bits of a number, as an unsigned integer."""
    return _UNSIGNED[x](x), _cast


@intrinsic
def real_of(typing: Any, bits: Any) -> Any:
    """The number that has these bits."""
    return _REAL[bits](bits), _cast


def _instruction(name: str) -> Callable[..., Any]:
    """An instruction of LLVM on two operands of a type; Numba would widen integers of 32 bits to 64."""

    @intrinsic
    def instruction(typing: Any, a: Any, b: Any) -> Any:
        return a(a, b), lambda _, builder, __, arguments: getattr(builder, name)(*arguments)

    return instruction


add, subtract, and_, or_, xor = map(_instruction, ("add", "sub", "and_", "or_", "xor"))
left, right = map(_instruction, ("shl", "lshr"))


@intrinsic
def fma(typing: Any, a: Any, b: Any, c: Any) -> Any:
    """a b + c, rounded once."""
    return a(a, b, c), lambda _, builder, __, arguments: builder.fma(*arguments)


@intrinsic
def polynomial(typing: Any, x: Any, coefficients: Any) -> Any:
    """The polynomial in x: odd and even powers apart by Horner's rule, which is half as long a chain of waiting."""

    def evaluate(_: Any, builder: Any, __: Any, arguments: Sequence[Any]) -> Any:
        x, numbers = arguments
        square = builder.fmul(x, x)
        values = [builder.extract_value(numbers, i) for i in range(len(coefficients))]
        odd_and_even = [
            reduce(lambda sum_, value: builder.fma(sum_, square, value), reversed(part))
            for part in (values[1::2], values[::2])
            if part
        ]
        return reduce(lambda odd, even: builder.fma(odd, x, even), odd_and_even)

    return x(x, coefficients), evaluate
