"""Sine and cosine of any number, by the rules of ``functions``.

A number is multiplied with 2 / pi as Payne and Hanek did: bits of 2 / pi that would give whole turns are left out, so
that the product holds the quadrant and enough bits of the fraction, for the largest numbers too. Which bits these are
depends on the exponent; a group of exponents shares a row of a table. This needs neither branches nor another way for
small numbers. In quadrants, a float64 is at least 2^-62 off a multiple of pi / 2 and a float32 2^-30, by continued
fractions; the fraction is within 2^-117, or 2^-60, of exact.

The polynomials are near to minimax in the relative error of the function: made with Remez' algorithm in 200 bits, the
coefficients rounded one after the other and the rest fitted anew. Those for float32 are evaluated in float64, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
from numba import types
from numba.extending import overload
from numpy.typing import NDArray

from gradwire_server.engine.machine.instructions import (
    OPTIONS,
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
    xor,
)
from gradwire_server.engine.machine.vectors import select

_TWO_BY_PI = Fraction(
    int(
        "a2f9836e4e441529fc2757d1f534ddc0db6295993c439041fe5163abdebbc561b7246e3a424d"
        "d2e006492eea09d1921cfe1deb1cb129a73ee88235f52ebb4484e99c7026b45f7e413991d639"
        "835339f49c845f8bbdf9283b1ff897ffde05980fef2f118b5a0a6d1f6d367ecf27cb09b74f46"
        "3f669e5fea2d7527bac7ebe5f17b3d0739f78a5292ea6bfb5fb11f8d5d0856033046fc7b6bab",
        16,
    ),
    2**1216,
)


class _Type(NamedTuple):
    """How numbers of a type are taken apart: all integers are as wide as the type."""

    kept: int
    """The mask of the sign, the mantissa and the low bits of the exponent, those within a group."""

    base: int
    """The other bits of the exponent, those of 2: kept bits and these are a number from 2 on."""

    shift: int
    """How far the number of the group is in the bits."""

    groups: int
    """The mask of the number of the group."""

    sine: Sequence[float]
    """sin(pi / 2 f) / f less the float64 next to pi / 2, in f^2, for |f| <= 1/2."""

    cosine: Sequence[float]
    """(cos(pi / 2 f) - 1) / f^2, in f^2."""


def _type_of(mantissa: int, exponent: int, group: int, sine: Sequence[float], cosine: Sequence[float]) -> _Type:
    """The type with so many bits of mantissa and exponent, with 2^group exponents to a group."""
    unsigned = np.dtype(f"u{(1 + exponent + mantissa) // 8}").type
    other = (2**exponent - 2**group) << mantissa
    return _Type(
        unsigned(2 ** (1 + exponent + mantissa) - 1 - other),
        unsigned(2 ** (exponent - 1) << mantissa),
        unsigned(mantissa + group),
        unsigned(2 ** (exponent - group) - 1),
        sine,
        cosine,
    )


def _rows(mantissa: int, exponent: int, group: int, first: int, parts: int) -> NDArray[np.float64]:
    """2 / pi for each group, in parts.

    A number of the group is x = y 2^shift, with y from 2 on and therefore a multiple of 2^(1 - mantissa). Times y, what
    is left out of 2^shift 2 / pi is a multiple of 4. The first part is a multiple of 2^first. Numbers much below 1
    have 0.
    """
    modulus = 2 ** (mantissa + 1)
    rows = np.zeros((2 ** (exponent - group), parts))
    for row in range(2 ** (exponent - 1 - group) - 1, len(rows)):
        rest = _TWO_BY_PI * Fraction(2) ** ((row << group) - 2 ** (exponent - 1))
        rest -= modulus * round(rest / modulus)
        for part in range(parts):
            rows[row, part] = rest if part else round(rest / Fraction(2) ** first) * Fraction(2) ** first
            rest -= Fraction(rows[row, part])
    return rows


_ROWS_64 = _rows(52, 11, 5, -1, 4)
_ROWS_32 = _rows(23, 8, 4, -30, 2)

_constants = constants(
    {
        types.float64: _type_of(
            52,
            11,
            5,
            # The relative error of the sine is 2^-57.9, that of the cosine 2^-61.5.
            (
                6.123233995736766e-17,
                -0.6459640975062448,
                0.07969262624605838,
                -0.00468175413253365,
                0.00016044115191226466,
                -3.598646755055939e-06,
                5.634312959989499e-08,
            ),
            (
                -1.2337005501361697,
                0.2536695079010417,
                -0.020863480763180984,
                0.0009192602726328182,
                -2.5202027451653317e-05,
                4.71033430702523e-07,
                -6.289432370035583e-09,
            ),
        ),
        types.float32: _type_of(
            23,
            8,
            4,
            # 2^-27.9 and 2^-31.1.
            (0.0, -0.6459636092185974, 0.07968107610940933, -0.004603682551532984),
            (-1.2337005138397217, 0.25366854667663574, -0.020855596289038658, 0.0008944863802753389),
        ),
    }
)

_HALF_PI = 1.5707963267948966
_SHIFTER = 1.5 * 2.0**52
"""Leaves a number that it is added to rounded to an integer, and this in the low bits."""

_TURNS = 1.5 * 2.0**87
"""Leaves a number rounded to a multiple of 2^35, that is to whole turns."""

_ONE, _SIGN = np.uint64(1), np.uint64(63)


@compiled
def _two_sum(a: float, b: float) -> tuple[float, float]:
    """The sum, and what rounding took from it (Knuth)."""
    sum_ = a + b
    rounded = sum_ - a
    return sum_, (a - (sum_ - rounded)) + (b - rounded)


def _fraction(x: float) -> tuple[float, float, int]:
    """The fraction of x 2 / pi, in two parts, and the integer, of which the low two bits count; NaN of infinities."""
    raise NotImplementedError  # compiled code has one of the two below, by the type of x


@overload(_fraction, jit_options=OPTIONS)
def _fraction_of_type(x: float) -> Any:
    return {types.float64: _fraction_64, types.float32: _fraction_32}.get(x)


def _fraction_64(x: float) -> tuple[float, float, int]:
    c = _constants(x)
    bits = bits_of(x)
    y = real_of(or_(and_(bits, c.kept), c.base))
    row = and_(right(bits, c.shift), c.groups)
    # The integer of the first product, and its fraction with no error: a multiple of 2^-52 times that of y.
    part = _ROWS_64[row, 0]
    product = fma(y, part, x - x)
    error = fma(y, part, -product)
    product -= (product + _TURNS) - _TURNS
    first = product + _SHIFTER
    fraction = (product - (first - _SHIFTER)) + error
    # The second product.
    part = _ROWS_64[row, 1]
    product = y * part
    error = fma(y, part, -product)
    fraction, low = _two_sum(fraction, product)
    second = fraction + _SHIFTER
    fraction -= second - _SHIFTER
    # What matters if almost nothing is left.
    part = _ROWS_64[row, 2]
    product = y * part
    rest = fma(y, _ROWS_64[row, 3], fma(y, part, -product))
    error, lower = _two_sum(error, product)
    low, lowest = _two_sum(low, error)
    fraction, low = _two_sum(fraction, low)
    return fraction, low + (rest + (lower + lowest)), add(bits_of(first), bits_of(second))


def _fraction_32(x: float) -> tuple[float, float, int]:
    c = _constants(x)
    bits = bits_of(x)
    y = np.float64(real_of(or_(and_(bits, c.kept), c.base)))
    row = and_(right(bits, c.shift), c.groups)
    part = _ROWS_32[row, 0]
    shifted = fma(y, part, _SHIFTER)
    fraction = fma(y, part, _SHIFTER - shifted)  # no error: a multiple of 2^-52 times that of y
    return fma(y, _ROWS_32[row, 1], fraction + (x - x)), 0.0, bits_of(shifted)


@compiled
def _turned(x: float, fraction: float, low: float, quadrant: int) -> float:
    """The sine of pi / 2 (fraction + low + quadrant), as exact as the type of x."""
    c = _constants(x)
    square = fraction * fraction
    sine = fma(fraction, _HALF_PI, fma(low, _HALF_PI, fraction * polynomial(square, c.sine)))
    cosine = fma(square, polynomial(square, c.cosine), 1.0)
    y = select(and_(quadrant, _ONE) == 0, sine, cosine)
    return type(x)(real_of(xor(bits_of(y), left(right(quadrant, _ONE), _SIGN))))


@compiled
def sin(x: float) -> float:
    """The sine: NaN of infinities."""
    fraction, low, quadrant = _fraction(x)
    y = _turned(x, fraction, low, quadrant)
    # By selection: from 3.12 on Python makes two ends of a conditional expression that is returned, and a loop with two
    # ends is no vector.
    return select(fraction == 0, x, y)


@compiled
def cos(x: float) -> float:
    """The cosine: NaN of infinities."""
    fraction, low, quadrant = _fraction(x)
    return _turned(x, fraction, low, add(quadrant, _ONE))
