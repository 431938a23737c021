"""The table of primitives that frameworks have alike, by their names in JAX and in ONNX."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from gradwire._expressions import functions as gw
from gradwire._expressions import numpy_functions as _numpy_functions  # noqa: F401  (it fills a table)
from gradwire._expressions.arcs import arccos, arccosh, arcsin, arcsinh, arctan, arctan2, arctanh, cbrt
from gradwire._expressions.expression import Expression, Operand, as_expression
from gradwire._expressions.tables import UFUNCS

_MOST_EXPONENTS = 16
"""Different exponents in one constant tensor, at most."""


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
    ("is_finite", None, _ufunc(np.isfinite)),
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
    ("pow", None, power),
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
    ("xor", "Xor", gw.logical_xor),
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
