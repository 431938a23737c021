"""Comparisons and choices: 1 where something holds, else 0, as NumPy's True and False count."""

from __future__ import annotations

from gradwire._expressions.expression import Expression, Operand, as_expression
from gradwire._expressions.primitives import equal, less, maximum, mul, subtract, where

_COMPARISONS = {"less", "equal"}


def less_equal(a: Operand, b: Operand) -> Expression:
    """1 where a <= b, else 0, elementwise; with NaN it is 0."""
    return maximum(less(a, b), equal(a, b))


def greater(a: Operand, b: Operand) -> Expression:
    """1 where a > b, else 0, elementwise; with NaN it is 0."""
    return less(b, a)


def greater_equal(a: Operand, b: Operand) -> Expression:
    """1 where a >= b, else 0, elementwise; with NaN it is 0."""
    return less_equal(b, a)


def not_equal(a: Operand, b: Operand) -> Expression:
    """0 where a = b, else 1, elementwise; with NaN it is 1."""
    return logical_not(equal(a, b))


def logical_not(x: Operand) -> Expression:
    """1 where x is 0, else 0, elementwise."""
    return equal(x, 0)


def logical_and(a: Operand, b: Operand) -> Expression:
    """1 where neither is 0, else 0, elementwise."""
    return mul(_truth(a), _truth(b))


def logical_or(a: Operand, b: Operand) -> Expression:
    """1 where one of both is not 0, else 0, elementwise."""
    return maximum(_truth(a), _truth(b))


def sign(x: Operand) -> Expression:
    """-1, 0 or 1, elementwise; NaN is passed on. Its gradient is 0."""
    node = as_expression(x)
    return where(equal(node, node), subtract(less(0, node), less(node, 0)), node)


def _truth(x: Operand) -> Expression:
    """1 where x is not 0, else 0; the expression itself, where it is seen to be a mask."""
    node = as_expression(x)
    joined = node.kind in ("mul", "max") and all(operand.kind in _COMPARISONS for operand in node.operands)
    return node if joined or node.kind in _COMPARISONS else logical_not(logical_not(node))
