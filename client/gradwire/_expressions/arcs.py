"""Arcs, hyperbolic functions and two roots, composed of the ops to about 1e-15 over the range of floats."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import reduce

from gradwire._expressions import functions as gw
from gradwire._expressions.expression import Expression, Operand, as_expression

_ATAN_P = (-64.85021904942025, -122.88666844901361, -75.00855792314705, -16.157537187333652, -0.8750608600031904)
_ATAN_Q = (194.5506571482614, 485.3903996359137, 432.88106049129027, 165.02700983169885, 24.858464901423062, 1.0)
"""Coefficients of Cephes for the arc tangent up to tan(pi / 8), by ascending powers."""


def _odd(function: Callable[[Expression], Expression], x: Operand) -> Expression:
    """An odd function, of what it is for numbers that are not negative; with its derivative at 0."""
    node = as_expression(x)
    below = gw.less(node, 0)
    return gw.mul(gw.where(below, -1, 1), function(gw.where(below, gw.negative(node), node)))


def _polynomial(coefficients: Sequence[float], x: Expression) -> Expression:
    return reduce(
        lambda total, c: gw.add(gw.mul(total, x), c), reversed(coefficients[:-1]), as_expression(coefficients[-1])
    )


def arctan(x: Operand) -> Expression:
    """Arc tangent, by Cephes: what is large is brought below 2/3, then a quotient of polynomials."""

    def positive(u: Expression) -> Expression:
        large, middle = gw.less(math.tan(3 * math.pi / 8), u), gw.less(0.66, u)
        # No quotient that is not selected is infinite.
        inverse = gw.divide(-1, gw.where(large, u, 1))
        between = gw.divide(gw.subtract(u, 1), gw.add(gw.where(large, 1, u), 1))
        t = gw.where(large, inverse, gw.where(middle, gw.where(large, 1, between), u))
        z = gw.square(t)
        series = gw.add(gw.mul(t, z, gw.divide(_polynomial(_ATAN_P, z), _polynomial(_ATAN_Q, z))), t)
        return gw.add(gw.where(large, math.pi / 2, gw.where(middle, math.pi / 4, 0)), series)

    return _odd(positive, x)


def arctan2(y: Operand, x: Operand) -> Expression:
    """The angle of the point (x, y), from the quotient of the smaller by the larger coordinate; at the origin 0."""
    across, along = as_expression(y), as_expression(x)
    steep = gw.less(gw.abs(along), gw.abs(across))
    small, large = gw.where(steep, along, across), gw.where(steep, across, along)
    # Infinities, which alone but for 0 are equal to their halves, have no quotient, but signs.
    both = gw.where(small, gw.equal(small, gw.mul(0.5, small)), 0)
    small, large = (gw.where(both, gw.clip(one, -1, 1), one) for one in (small, large))
    quotient = gw.where(large, gw.divide(small, gw.where(large, large, 1)), 0)
    left, under = gw.less(along, 0), gw.less(across, 0)
    side = gw.where(left, gw.where(under, -math.pi, math.pi), 0)
    start = gw.where(steep, gw.where(under, -math.pi / 2, math.pi / 2), side)
    return gw.add(start, gw.mul(gw.where(steep, -1, 1), arctan(quotient)))


def _with_ends(
    x: Operand, inner: Callable[[Expression], Expression], end: Callable[[Expression], Expression]
) -> Expression:
    """A function of numbers up to 1, and at 1 and -1 one of an arc sine that has these values and infinite slopes.

    There a formula for the inside has slopes that are sums of infinities of both signs.
    """
    node = as_expression(x)
    ends = gw.equal(gw.square(node), 1)
    held = gw.where(ends, node, 0)
    arc = gw.mul(held, gw.subtract(math.pi / 2, gw.sqrt(gw.subtract(1, gw.square(held)))))
    return gw.where(ends, end(arc), inner(gw.where(ends, 0, node)))


def arcsin(x: Operand) -> Expression:
    """Arc sine, as 2 arctan(x / (1 + sqrt(1 - x) sqrt(1 + x)))."""

    def inner(node: Expression) -> Expression:
        cosine = gw.mul(gw.sqrt(gw.subtract(1, node)), gw.sqrt(gw.add(1, node)))
        return gw.mul(2, arctan(gw.divide(node, gw.add(1, cosine))))

    return _with_ends(x, inner, lambda arc: arc)


def arccos(x: Operand) -> Expression:
    """Arc cosine, as 2 arctan(sqrt(1 - x) / sqrt(1 + x)), or where x is negative of its mirror image."""

    def inner(node: Expression) -> Expression:
        below = gw.less(node, 0)
        u = gw.where(below, gw.negative(node), node)
        angle = gw.mul(2, arctan(gw.mul(gw.sqrt(gw.subtract(1, u)), gw.power(gw.add(1, u), -0.5))))
        return gw.add(gw.where(below, math.pi, 0), gw.mul(gw.where(below, -1, 1), angle))

    return _with_ends(x, inner, lambda arc: gw.subtract(math.pi / 2, arc))


def hypot(a: Operand, b: Operand) -> Expression:
    """sqrt(a^2 + b^2), of numbers brought nearer to 1 by a power of two; its gradient at 0 is 0."""
    size = gw.maximum(gw.abs(a), gw.abs(b))
    # Within these bounds the third power of the root, which second derivatives have, is a float32.
    step = gw.where(gw.less(size, 2.0**-42), 2.0**65, gw.where(gw.less(2.0**45, size), 2.0**-65, 1))
    # In float32 this bound is 0, and nothing is beyond.
    beyond = gw.logical_or(gw.less(size, 2.0**-400), gw.less(1, gw.mul(size, 2.0**-400)))
    scale = gw.mul(step, gw.power(gw.where(beyond, step, 1), 7))
    total = gw.add(gw.square(gw.mul(a, scale)), gw.square(gw.mul(b, scale)))
    return gw.divide(gw.where(total, gw.sqrt(total), 0), scale)


def _growing(near: Callable[[Expression], Expression], u: Expression) -> Expression:
    """A function up to 20, and exp(u) / 2 from there on, whose exp(u) may be too large where its half is not."""
    far = gw.less(20, u)
    # The 1 is subtracted without rounding.
    grown = gw.mul(math.e / 2, gw.exp(gw.subtract(gw.where(far, u, 1), 1)))
    return gw.where(far, grown, near(gw.where(far, 1, u)))


def _small_sinh(u: Expression) -> Expression:
    return gw.mul(0.5, gw.subtract(gw.expm1(u), gw.expm1(gw.negative(u))))


def sinh(x: Operand) -> Expression:
    """Hyperbolic sine."""
    return _odd(lambda u: _growing(_small_sinh, u), x)


def cosh(x: Operand) -> Expression:
    """Hyperbolic cosine, of small numbers as 1 + 2 sinh(x / 2)^2."""
    node = as_expression(x)
    u = gw.where(gw.less(node, 0), gw.negative(node), node)
    return _growing(lambda near: gw.add(1, gw.mul(2, gw.square(_small_sinh(gw.mul(0.5, near))))), u)


def arcsinh(x: Operand) -> Expression:
    """Inverse hyperbolic sine; from 1e8 on log(2x), which is the same to the last digit."""

    def positive(u: Expression) -> Expression:
        far = gw.less(1e8, u)
        near = gw.where(far, 1, u)
        squared = gw.square(near)
        own = gw.log1p(gw.add(near, gw.divide(squared, gw.add(1, gw.sqrt(gw.add(1, squared))))))
        return gw.where(far, gw.add(gw.log(gw.where(far, u, 1)), math.log(2)), own)

    return _odd(positive, x)


def arccosh(x: Operand) -> Expression:
    """Inverse hyperbolic cosine, as 2 arcsinh(sqrt((x - 1) / 2)); at 1, for its infinite slopes, sqrt(2 (x - 1))."""
    node = as_expression(x)
    end = gw.equal(node, 1)
    inner = gw.mul(2, arcsinh(gw.sqrt(gw.mul(0.5, gw.subtract(gw.where(end, 2, node), 1)))))
    return gw.where(end, gw.sqrt(gw.mul(2, gw.subtract(gw.where(end, node, 2), 1))), inner)


def arctanh(x: Operand) -> Expression:
    """Inverse hyperbolic tangent."""
    return gw.mul(0.5, gw.subtract(gw.log1p(x), gw.log1p(gw.negative(x))))


def cbrt(x: Operand) -> Expression:
    """Cube root, of negative numbers too."""
    return _odd(lambda u: gw.power(u, 1 / 3), x)
