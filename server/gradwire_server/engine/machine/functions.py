"""e^x, the logarithm and their kin as scalar functions for the innermost loops of kernels.

LLVM makes vectors of such loops if they are without branches (only selects) and without calls into libm, so the bits of
exponents are moved by casts. Each function takes a float64 or a float32 and returns its like, from one source: only
constants differ. Results are within 2 ulp of exact over the whole range, subnormal operands and results included, and
NaN stays NaN.

There is nothing but additions, multiplications, divisions and fused multiply-adds, each rounded once as IEEE 754 says.
LLVM neither reorders nor contracts them: what is fused is written so. So an operand gives the same bits in a vector, in
the remainder of a loop, and on any machine; one without fused multiply-adds computes them in software, slowly.

The polynomials are near to minimax in the relative error of the function: made for this file with Remez' algorithm in
200 bits, then rounded. The constants ln 2, in two parts, and the way of log to its polynomial are those of fdlibm; the
seam of tanh, at 0.625, is that of Cephes.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import copysign, sqrt
from typing import Any, NamedTuple

import numpy as np
from numba import types

from gradwire_server.engine.machine.instructions import (
    add,
    and_,
    bits_of,
    compiled,
    constants,
    fma,
    left,
    or_,
    polynomial,
    real_of,
    right,
    subtract,
)
from gradwire_server.engine.machine.vectors import root


class _Bits(NamedTuple):
    """Integers as wide as the type."""

    one: int
    """How far to shift to halve."""

    mantissa: int
    """Bits of the mantissa that are stored."""

    fraction: int
    """The mask of these bits."""

    sqrt_half: int
    """The bits of the square root of 1/2: mantissas are taken from there to twice that, on both sides of 1."""

    sqrt_half_to_one: int
    """How far the bits of 1 are from there."""

    integer: int
    """The bits of 2^mantissa: with a small integer in the low bits, that number plus the integer."""


class _Exp(NamedTuple):
    log2_e: float
    ln2_high: float
    ln2_low: float
    """Together ln 2; the first has so few bits that its product with an exponent is exact."""

    shifter: float
    """Leaves a small number that it is added to rounded to an integer, and this plus twice the bias in the low bits."""

    lowest: float
    highest: float
    """From here on e^x is 0, or infinite, by rounding."""

    polynomial: Sequence[float]
    """(e^r - 1 - r) / r^2, in r, for |r| <= ln 2 / 2."""


class _Log(NamedTuple):
    smallest_normal: float

    lift: float
    """A power of 2 that makes the subnormal normal."""

    bias: float
    bias_lifted: float
    """What to take from the integer of bits for the exponent."""

    polynomial: Sequence[float]
    """(2 artanh(s) / s - 2) / s^2, in s^2, for |s| <= (sqrt 2 - 1) / (sqrt 2 + 1)."""

    seam: float
    """Above this z, softplus halves 1 + z."""


class _Tanh(NamedTuple):
    seam: float
    numerator: Sequence[float]
    denominator: Sequence[float]
    """(1 - tanh(x) / x) / x^2, in x^2, for |x| <= seam."""


class _Constants(NamedTuple):
    """What the functions know of a floating-point type: numbers of this type, and integers as wide as it is."""

    zero: float
    half: float
    one: float
    two: float
    infinity: float
    nan: float
    bits: _Bits
    exp: _Exp
    log: _Log
    tanh: _Tanh


def _constants_of(
    real: type[np.floating[Any]],
    *,
    ln2: tuple[float, float],
    exp_range: tuple[float, float],
    exp: Sequence[float],
    log: Sequence[float],
    tanh: tuple[Sequence[float], Sequence[float]],
) -> _Constants:
    info = np.finfo(real)
    unsigned = np.dtype(f"u{info.bits // 8}").type
    mantissa, bias = int(info.nmant), int(info.maxexp) - 1
    lift = mantissa + 1

    def bits(x: float) -> Any:
        return real(x).view(unsigned)

    def number(x: float) -> Any:
        return real(x)

    def numbers(x: Sequence[float]) -> Sequence[Any]:
        return tuple(map(real, x))

    return _Constants(
        zero=number(0),
        half=number(0.5),
        one=number(1),
        two=number(2),
        infinity=number(np.inf),
        nan=number(np.nan),
        bits=_Bits(
            one=unsigned(1),
            mantissa=unsigned(mantissa),
            fraction=unsigned(2**mantissa - 1),
            sqrt_half=bits(sqrt(0.5)),
            sqrt_half_to_one=bits(1) - bits(sqrt(0.5)),
            integer=bits(2.0**mantissa),
        ),
        exp=_Exp(
            log2_e=number(1.4426950408889634),
            ln2_high=number(ln2[0]),
            ln2_low=number(ln2[1]),
            shifter=number(1.5 * 2.0**mantissa + 2 * bias),
            lowest=number(exp_range[0]),
            highest=number(exp_range[1]),
            polynomial=numbers(exp),
        ),
        log=_Log(
            smallest_normal=number(float(info.smallest_normal)),
            lift=number(2.0**lift),
            bias=number(2.0**mantissa + bias),
            bias_lifted=number(2.0**mantissa + bias + lift),
            polynomial=numbers(log),
            seam=number(sqrt(2) - 1),
        ),
        tanh=_Tanh(seam=number(0.625), numerator=numbers(tanh[0]), denominator=numbers(tanh[1])),
    )


_CONSTANTS = {
    types.float64: _constants_of(
        np.float64,
        ln2=(6.93147180369123816490e-01, 1.90821492927058770002e-10),
        exp_range=(-746, 710),
        # Relative error 2^-57.9.
        exp=(
            0.5000000000000011,
            0.16666666666666413,
            0.041666666666530155,
            0.00833333333349447,
            0.0013888888943630361,
            0.00019841269506555356,
            2.4801493098733352e-05,
            2.755758639674158e-06,
            2.763024842243285e-07,
            2.5000053878886233e-08,
        ),
        # 2^-59.5.
        log=(
            0.6666666666666734,
            0.3999999999941432,
            0.2857142874247574,
            0.22222198563362894,
            0.18183564873559646,
            0.15314035654664684,
            0.14796107279774906,
        ),
        # 2^-60.5.
        tanh=(
            (0.33333333333333326, 0.02049678592498038, 0.00019908890171592834),
            (1.0, 0.4614903577749261, 0.023288647910615252, 0.0002064382737520883),
        ),
    ),
    types.float32: _constants_of(
        np.float32,
        ln2=(6.9313812256e-01, 9.0580006145e-06),
        exp_range=(-104, 89),
        # 2^-28.3.
        exp=(0.4999999403953552, 0.1666652113199234, 0.04166838899254799, 0.008368716575205326, 0.00138146395329386),
        # 2^-30.2.
        log=(0.6666677594184875, 0.39977535605430603, 0.29871881008148193),
        # 2^-27.7.
        tanh=((0.3333330750465393, 0.0015415683155879378), (1.0, 0.404612272977829)),
    ),
}

_constants = constants(_CONSTANTS)


@compiled
def _halves(shifted: float) -> tuple[float, float]:
    """2^k in two factors, given shifter + k: in one it may be too large, or subnormal."""
    c = _constants(shifted)
    # The shifts to the left drop all bits but those of the exponents.
    exponents = bits_of(shifted)
    half = right(exponents, c.bits.one)
    return real_of(left(half, c.bits.mantissa)), real_of(left(subtract(exponents, half), c.bits.mantissa))


@compiled
def _exp_of(shifted: float, r: float) -> float:
    """2^k e^r for |r| <= ln 2 / 2, given shifter + k."""
    less_one = fma(r * r, polynomial(r, _constants(r).exp.polynomial), r)
    first, second = _halves(shifted)
    return fma(less_one, first, first) * second


@compiled
def exp_of_minus(x: float) -> float:
    """e^-x for x >= 0."""
    c = _constants(x)
    x = min(x, -c.exp.lowest)  # of NaN and a number, min and max give the first
    shifted = fma(x, -c.exp.log2_e, c.exp.shifter)
    k = shifted - c.exp.shifter
    return _exp_of(shifted, -fma(k, c.exp.ln2_low, fma(k, c.exp.ln2_high, x)))


@compiled
def _split(x: float) -> tuple[float, float]:
    """k + bias and m of a normal x = 2^k m, with m from the square root of 1/2 to that of 2."""
    c = _constants(x)
    bits = add(bits_of(x), c.bits.sqrt_half_to_one)
    k = real_of(or_(right(bits, c.bits.mantissa), c.bits.integer))
    return k, real_of(add(and_(bits, c.bits.fraction), c.bits.sqrt_half))


@compiled
def _log(k: float, f: float) -> float:
    """ln(2^k (1 + f)) for 1 + f from the square root of 1/2 to that of 2."""
    c = _constants(f)
    s = f / (c.two + f)
    z = s * s
    square = c.half * f * f
    rest = fma(s, fma(z, polynomial(z, c.log.polynomial), square), k * c.exp.ln2_low)
    return fma(k, c.exp.ln2_high, f - (square - rest))


@compiled
def exp(x: float) -> float:
    """e^x."""
    c = _constants(x)
    x = min(max(x, c.exp.lowest), c.exp.highest)
    shifted = fma(x, c.exp.log2_e, c.exp.shifter)
    k = shifted - c.exp.shifter
    return _exp_of(shifted, fma(-k, c.exp.ln2_low, fma(-k, c.exp.ln2_high, x)))


@compiled
def expm1(x: float) -> float:
    """e^x - 1."""
    c = _constants(x)
    y = min(max(x, c.exp.lowest), c.exp.highest)
    shifted = fma(y, c.exp.log2_e, c.exp.shifter)
    k = shifted - c.exp.shifter
    high, low = fma(-k, c.exp.ln2_high, y), -k * c.exp.ln2_low
    r = high + low
    first, second = _halves(shifted)
    # 2^k (1 + high) - 1, the larger part, and what is missing, both divided by the second factor of 2^k.
    inverse = real_of(subtract(add(bits_of(c.one), bits_of(c.one)), bits_of(second)))
    larger = fma(high, first, first - inverse)
    return copysign(fma(fma(r * r, polynomial(r, c.exp.polynomial), low), first, larger) * second, x)


@compiled
def log(x: float) -> float:
    """The natural logarithm: NaN of a negative number, minus infinity of zeros."""
    c = _constants(x)
    subnormal = x < c.log.smallest_normal
    k, m = _split(x * c.log.lift if subnormal else x)
    y = _log(k - (c.log.bias_lifted if subnormal else c.log.bias), m - c.one)
    y = y if x < c.infinity else x
    y = -c.infinity if x == c.zero else y
    return c.nan if x < c.zero else y


@compiled
def log1p(x: float) -> float:
    """ln(1 + x): NaN below -1, minus infinity of -1."""
    c = _constants(x)
    u = c.one + x
    k, m = _split(u)
    # What rounding took from u goes into m, times m / u = 2^-k; for the largest u there is nothing, and no such number.
    scale = max(real_of(add(subtract(bits_of(m), bits_of(u)), bits_of(c.one))), c.zero)
    y = copysign(_log(k - c.log.bias, fma(x - (u - c.one), scale, m - c.one)), x)
    y = y if x < c.infinity else x
    y = -c.infinity if u == c.zero else y
    return c.nan if u < c.zero else y


@compiled
def sigmoid(x: float) -> float:
    """1 / (1 + e^-x)."""
    c = _constants(x)
    z = exp_of_minus(abs(x))
    # For a negative x, z / (1 + z) = z - z z / (1 + z): the quotient's error counts less as a correction.
    base = z if x < c.zero else c.one
    return fma(-base, z / (c.one + z), base)


@compiled
def tanh(x: float) -> float:
    """The hyperbolic tangent."""
    c = _constants(x)
    y = abs(x)
    square = y * y
    z = exp_of_minus(y + y)
    # y less a correction for a small y, 1 less one for others, with one division for both.
    small = y < c.tanh.seam
    numerator = y * (square * polynomial(square, c.tanh.numerator)) if small else z + z
    denominator = polynomial(square, c.tanh.denominator) if small else c.one + z
    return copysign((y if small else c.one) - numerator / denominator, x)


@compiled
def softplus(x: float) -> float:
    """ln(1 + e^x)."""
    c = _constants(x)
    z = exp_of_minus(abs(x))
    # max(x, 0) + ln(1 + z); for a large z that is ln(2 (1 + (z - 1) / 2)).
    large = z > c.log.seam
    rest = _log(c.one if large else c.zero, c.half * (z - c.one) if large else z)
    return max(c.zero, x) + rest


@compiled
def power(x: float, exponent: float) -> float:
    """x to the exponent; to 1/2 the root, NaN of a negative infinity, where the C library's power is infinite."""
    return root(x) if exponent == _constants(exponent).half else x**exponent
