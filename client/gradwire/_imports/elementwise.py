"""The table of primitives that frameworks have alike, by their names in JAX and in ONNX."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any

import numpy as np

from gradwire._expressions import functions as gw
from gradwire._expressions import numpy_functions as _numpy_functions  # noqa: F401  (it fills a table)
from gradwire._expressions.expression import Expression, Operand, as_expression
from gradwire._expressions.tables import UFUNCS

_MOST_EXPONENTS = 16
"""Different exponents in one constant tensor, at most."""

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
        t = gw.where(gw.less(u, math.inf), t, 0)
        z = gw.square(gw.where(gw.less(gw.abs(t), 1), t, 1))
        series = gw.add(gw.mul(t, z, gw.divide(_polynomial(_ATAN_P, z), _polynomial(_ATAN_Q, z))), t)
        return gw.add(gw.where(large, math.pi / 2, gw.where(middle, math.pi / 4, 0)), series)

    return _odd(positive, x)


def arctan2(y: Operand, x: Operand) -> Expression:
    """The angle of the point (x, y), as 2 arctan(y / (r + x)), or where x is negative of its mirror image."""
    across, along = as_expression(y), as_expression(x)
    behind = gw.less(along, 0)
    radius = gw.sqrt(gw.add(gw.square(across), gw.square(along)))
    half = gw.mul(2, arctan(gw.divide(across, gw.add(radius, gw.where(behind, gw.negative(along), along)))))
    return gw.where(behind, gw.subtract(gw.where(gw.less(across, 0), -math.pi, math.pi), half), half)


def arcsin(x: Operand) -> Expression:
    """Arc sine, as arctan(x / sqrt((1 - x) (1 + x)))."""
    node = as_expression(x)
    return arctan(gw.mul(node, gw.power(gw.mul(gw.subtract(1, node), gw.add(1, node)), -0.5)))


def arccos(x: Operand) -> Expression:
    """Arc cosine, as 2 arctan(sqrt((1 - x) / (1 + x)))."""
    node = as_expression(x)
    return gw.mul(2, arctan(gw.sqrt(gw.divide(gw.subtract(1, node), gw.add(1, node)))))


def arcsinh(x: Operand) -> Expression:
    """Inverse hyperbolic sine."""

    def positive(u: Expression) -> Expression:
        squared = gw.square(u)
        return gw.log1p(gw.add(u, gw.divide(squared, gw.add(1, gw.sqrt(gw.add(1, squared))))))

    return _odd(positive, x)


def arccosh(x: Operand) -> Expression:
    """Inverse hyperbolic cosine."""
    above = gw.subtract(x, 1)
    return gw.log1p(gw.add(above, gw.sqrt(gw.mul(above, gw.add(x, 1)))))


def arctanh(x: Operand) -> Expression:
    """Inverse hyperbolic tangent."""
    return gw.mul(0.5, gw.subtract(gw.log1p(x), gw.log1p(gw.negative(x))))


def cbrt(x: Operand) -> Expression:
    """Cube root, of negative numbers too."""
    return _odd(lambda u: gw.power(u, 1 / 3), x)


def power(x: Operand, exponent: Operand) -> Expression:
    """x to the power of a number, of a tensor with few different numbers, or of an expression, then for x > 0."""
    node = as_expression(exponent)
    if node.value is None:
        return gw.exp(gw.mul(node, gw.log(x)))
    found = np.unique(node.value)
    if len(found) > _MOST_EXPONENTS:
        return gw.exp(gw.mul(node, gw.log(x)))
    powers = [gw.power(x, float(number)) for number in found]
    result = powers[0] if powers else as_expression(x)
    for number, own in zip(found[1:], powers[1:], strict=True):
        result = gw.where(np.equal(node.value, number), own, result)
    shape = np.broadcast_shapes(as_expression(x).shape, node.shape)
    return gw.broadcast_to(result, shape)


def is_finite(x: Operand) -> Expression:
    """1 where x is a finite number, else 0."""
    return gw.less(gw.abs(x), math.inf)


def exclusive_or(a: Operand, b: Operand) -> Expression:
    """1 where one of two masks holds and the other does not, else 0."""
    return gw.not_equal(a, b)


def _ufunc(ufunc: np.ufunc) -> Callable[..., Any]:
    return UFUNCS[ufunc]


TABLE: list[tuple[str | None, str | None, Callable[..., Any]]] = [
    ("abs", "Abs", gw.abs),
    ("acos", "Acos", arccos),
    ("acosh", "Acosh", arccosh),
    ("add", "Add", gw.add),
    ("and", "And", gw.logical_and),
    ("asin", "Asin", arcsin),
    ("asinh", "Asinh", arcsinh),
    ("atan", "Atan", arctan),
    ("atan2", None, arctan2),
    ("atanh", "Atanh", arctanh),
    ("cbrt", None, cbrt),
    ("cos", "Cos", gw.cos),
    ("cosh", "Cosh", _ufunc(np.cosh)),
    ("div", "Div", gw.divide),
    ("eq", "Equal", gw.equal),
    ("erf", "Erf", gw.erf),
    ("exp", "Exp", gw.exp),
    ("exp2", None, _ufunc(np.exp2)),
    ("expm1", None, gw.expm1),
    ("ge", "GreaterOrEqual", gw.greater_equal),
    ("gt", "Greater", gw.greater),
    ("is_finite", None, is_finite),
    ("le", "LessOrEqual", gw.less_equal),
    ("log", "Log", gw.log),
    ("log1p", None, gw.log1p),
    ("logistic", "Sigmoid", gw.sigmoid),
    ("lt", "Less", gw.less),
    ("max", "Max", gw.maximum),
    ("min", "Min", gw.minimum),
    ("mul", "Mul", gw.mul),
    ("ne", None, gw.not_equal),
    ("neg", "Neg", gw.negative),
    ("not", "Not", gw.logical_not),
    ("or", "Or", gw.logical_or),
    ("pow", "Pow", power),
    (None, "Reciprocal", _ufunc(np.reciprocal)),
    ("rsqrt", None, lambda x: gw.power(x, -0.5)),
    ("sign", "Sign", gw.sign),
    ("sin", "Sin", gw.sin),
    ("sinh", "Sinh", _ufunc(np.sinh)),
    ("sqrt", "Sqrt", gw.sqrt),
    ("square", None, gw.square),
    ("sub", "Sub", gw.subtract),
    ("tan", "Tan", _ufunc(np.tan)),
    ("tanh", "Tanh", gw.tanh),
    ("xor", "Xor", exclusive_or),
    (None, "IsNaN", _ufunc(np.isnan)),
    (None, "Softplus", gw.softplus),
    (None, "Softsign", lambda x: gw.divide(x, gw.add(1, gw.abs(x)))),
    (None, "Relu", gw.relu),
    (None, "Mish", lambda x: gw.mul(x, gw.tanh(gw.softplus(x)))),
    (None, "Where", gw.where),
    (None, "Sum", gw.add),
]
"""JAX's name, ONNX's name, and the function that builds it; None where a framework has no such primitive."""

OF_JAX = {name: function for name, _, function in TABLE if name is not None}
OF_ONNX = {name: function for _, name, function in TABLE if name is not None}
