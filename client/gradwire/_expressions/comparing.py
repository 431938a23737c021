"""Masks: 1 where something holds, else 0, as NumPy's True and False count; and arithmetic as NumPy has it for them."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import numpy as np

from gradwire._errors import InvalidGraphError
from gradwire._expressions.expression import Expression, Operand, as_expression
from gradwire._expressions.primitives import add, equal, less, maximum, mul, negative, subtract, where
from gradwire._expressions.primitives import matmul as matmul_
from gradwire._expressions.primitives import max as max_over
from gradwire._expressions.primitives import sum as sum_over
from gradwire._expressions.shapes import Axis, axes_of


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


def logical_xor(a: Operand, b: Operand) -> Expression:
    """1 where one of both is 0 and the other is not, else 0, elementwise."""
    return not_equal(_truth(a), _truth(b))


def any_over(x: Operand, axis: Axis = None, *, keepdims: bool = False) -> Expression:
    """1 where one of the elements over axes is not 0, else 0; over none it is 0: NumPy's ``any``."""
    node = _truth(x)
    if any(node.shape[a] == 0 for a in axes_of(node, axis)):
        return logical_not(logical_not(sum_over(node, axis, keepdims=keepdims)))
    return max_over(node, axis, keepdims=keepdims)


def all_over(x: Operand, axis: Axis = None, *, keepdims: bool = False) -> Expression:
    """1 where none of the elements over axes is 0, else 0; over none it is 1: NumPy's ``all``."""
    return logical_not(any_over(logical_not(x), axis, keepdims=keepdims))


def sign(x: Operand) -> Expression:
    """-1, 0 or 1, elementwise; NaN is passed on. Its gradient is 0."""
    node = as_expression(x)
    return where(equal(node, node), subtract(less(0, node), less(node, 0)), node)


def plus(a: Operand, b: Operand) -> Expression:
    """a + b as NumPy writes it: of two masks the mask of either; ``gw.add`` counts."""
    left, right = as_expression(a), as_expression(b)
    return logical_or(left, right) if left.is_mask and right.is_mask else add(left, right)


def minus(a: Operand, b: Operand) -> Expression:
    """a - b as NumPy writes it, which is an error for two masks."""
    left, right = as_expression(a), as_expression(b)
    _check_numbers("-", "a ^ b is where one of both holds, a & ~b where only the first does", left, right)
    return subtract(left, right)


def opposite(x: Operand) -> Expression:
    """-x as NumPy writes it, which is an error for a mask."""
    node = as_expression(x)
    _check_numbers("-", "~a is where it does not hold, 0 - a counts", node)
    return negative(node)


def product(function: Callable[..., Expression], places: slice = slice(2)) -> Callable[..., Expression]:
    """A sum of products as NumPy has it: of masks alone the mask of where one of the products holds; gw's count.

    Args:
        function: What computes it.
        places: Where its operands stand among the arguments.
    """

    @wraps(function)
    def of_operands(*given: Any, **options: Any) -> Expression:
        found = function(*given, **options)
        operands = [*given[places], *(options[name] for name in ("a", "b") if name in options)]
        masks = not found.is_mask and all(as_expression(operand).is_mask for operand in operands)
        return less(0, found) if masks else found

    return of_operands


matmul = product(matmul_)


def bitwise(function: Callable[[Operand, Operand], Expression]) -> Callable[[Operand, Operand], Expression]:
    """``&`` and its like, which are for masks: a number has more bits than 1 and 0 say."""

    @wraps(function)
    def of_masks(a: Operand, b: Operand) -> Expression:
        for node in map(as_expression, (a, b)):
            if node.value is not None and not np.isin(node.value, (0, 1)).all():
                raise InvalidGraphError(
                    f"bits of {node!r}: expressions are floats, and & and | are for masks; compare first, as (x > 0)"
                )
        return function(a, b)

    return of_masks


def _check_numbers(sign: str, instead: str, *nodes: Expression) -> None:
    if all(node.is_mask for node in nodes):
        shown = " and ".join(map(repr, nodes))
        raise InvalidGraphError(f"{sign} of {shown}, in NumPy booleans, whose result would be no number: {instead}")


def _truth(x: Operand) -> Expression:
    """1 where x is not 0, else 0; the expression itself, where it is a mask."""
    node = as_expression(x)
    if node.value is not None and not node.is_mask:
        return as_expression(node.value != 0)
    return node if node.is_mask else logical_not(logical_not(node))
