"""Functions composed of the ops, each in the form that is stable in value and gradient, under either tie rule."""

from __future__ import annotations

import math

import numpy as np

from gradwire._errors import InvalidGraphError
from gradwire._expressions.expression import Expression, Operand, as_expression
from gradwire._expressions.primitives import (
    abs as abs_,
)
from gradwire._expressions.primitives import (
    add,
    as_numbers,
    chosen,
    counted,
    divide,
    equal,
    erf,
    exp,
    expm1,
    less,
    logsumexp,
    maximum,
    mean,
    mul,
    negative,
    part,
    power,
    reshape,
    sigmoid,
    softplus,
    subtract,
    tanh,
    transpose,
)
from gradwire._expressions.primitives import max as max_over
from gradwire._expressions.primitives import min as min_over
from gradwire._expressions.primitives import sum as sum_over
from gradwire._expressions.primitives import (
    where as choose,
)
from gradwire._expressions.shapes import Axis, axes_of, check_elements, check_floats, flag, reduced
from gradwire._numbers import real

LEAST = -1e38
"""About the least number of float32."""

_FAR = 1e20
"""Two numbers beyond it, of either float dtype, are equal or more than 1000 apart."""


def square(x: Operand) -> Expression:
    """x^2."""
    return power(x, 2)


def sqrt(x: Operand) -> Expression:
    """Square root. Its derivative at 0 is infinite."""
    return power(x, 0.5)


def minimum(*operands: Operand) -> Expression:
    """min(a, b, ...) = -max(-a, -b, ...), elementwise; ties as for ``maximum``."""
    if not operands:
        raise InvalidGraphError("minimum of nothing; give at least one operand")
    nodes = list(map(as_expression, operands))
    if all(node.is_mask for node in nodes):
        return mul(*nodes)
    return negative(maximum(*map(negative, nodes)))


def clip(x: Operand, low: Operand | None = None, high: Operand | None = None) -> Expression:
    """min(max(x, low), high); None is no bound."""
    raised = as_expression(x) if low is None else maximum(x, low)
    return raised if high is None else minimum(raised, high)


def var(x: Operand, axis: Axis = None, *, keepdims: bool = False, ddof: float = 0, where: Operand = True) -> Expression:
    """Sum of the squared distances from the mean, over axes of one example, by their number less ``ddof``.

    ``where`` is a mask of the elements that count.
    """
    node, less_ = as_expression(x), real(ddof)
    if less_ is None or not math.isfinite(less_):
        raise InvalidGraphError(f"ddof={ddof!r:.64} is no number")
    distances = square(subtract(node, mean(node, axis, keepdims=True, where=where)))
    if where is not True:
        count = counted(node, axis, keepdims=keepdims, where=where)
        return divide(sum_over(distances, axis, keepdims=keepdims, where=where), subtract(count, less_))
    size = math.prod(node.shape[a] for a in axes_of(node, axis))
    if less_ and size <= less_:
        raise InvalidGraphError(f"var of {size} elements of {node!r} with ddof={ddof}; expected more of them")
    spread = mean(distances, axis, keepdims=keepdims)
    return mul(spread, size / (size - less_)) if less_ else spread


def std(x: Operand, axis: Axis = None, *, keepdims: bool = False, ddof: float = 0, where: Operand = True) -> Expression:
    """Square root of ``var``; its gradient is 0 where all elements are equal."""
    return _root(var(x, axis, keepdims=keepdims, ddof=ddof, where=where))


def prod(
    x: Operand, axis: Axis = None, *, keepdims: bool = False, initial: float | None = None, where: Operand = True
) -> Expression:
    """Product over axes; 1 over an empty one. Its gradient is right where elements are 0.

    ``initial`` is one more factor; ``where`` is a mask of the elements that are factors.
    """
    node = as_numbers(chosen(x, where, 1))
    keep = flag("keepdims", keepdims)
    check_floats("prod", [node])
    axes = axes_of(node, axis)
    rest = tuple(a for a in range(node.ndim) if a not in axes)
    sizes = tuple(node.shape[a] for a in rest)
    count = math.prod(node.shape[a] for a in axes)
    rows = reshape(transpose(node, (*axes, *rest)), (count, *sizes))
    whole = [(0, size, 1) for size in sizes]
    factors = [reshape(part(rows, [(i, 1, 1), *whole]), sizes) for i in range(count)]
    product = mul(*factors) if factors else as_expression(np.ones(sizes))
    shaped = reshape(product, reduced(node, axes, keepdims=keep))
    return shaped if initial is None else mul(shaped, initial)


def norm(
    x: Operand,
    ord: float | str | None = None,  # noqa: A002  (NumPy's name)
    axis: Axis = None,
    *,
    keepdims: bool = False,
) -> Expression:
    """Norm of a vector, with an ``ord`` from 0 to infinity or of -inf, 2 by default; or of a matrix.

    Of two axes ``ord`` is ``"fro"``, the default, or 1, -1, inf or -inf. The gradient at 0 is 0.
    """
    node = as_numbers(as_expression(x))
    axes = axes_of(node, axis)
    if ord in (None, "fro"):
        return _root(sum_over(square(node), axis, keepdims=keepdims))
    if len(axes) == 2:
        return _matrix_norm(node, ord, axes, keepdims=keepdims)
    if len(axes) != 1:
        raise InvalidGraphError(f"norm of {node!r} with ord={ord!r}, which is for vectors and matrices; give axis=")
    return _vector_norm(node, ord, axis, keepdims=keepdims)


def _vector_norm(node: Expression, order: object, axis: Axis, *, keepdims: bool) -> Expression:
    """The root of the sum of powers, and what that tends to."""
    number = real(order)
    if number is None or not (number >= 0 or number == -math.inf):
        raise InvalidGraphError(f"norm of {node!r} with ord={order!r:.64}; choose a number from 0 to infinity, or -inf")
    if number == 2:
        return _root(sum_over(square(node), axis, keepdims=keepdims))
    if math.isinf(number):
        return (max_over if number > 0 else min_over)(abs_(node), axis, keepdims=keepdims)
    if number == 0:
        return sum_over(equal(equal(node, 0), 0), axis, keepdims=keepdims)
    total = sum_over(power(abs_(node), number), axis, keepdims=keepdims)
    return total if number == 1 else choose(total, power(total, 1 / number), 0)


def _matrix_norm(node: Expression, order: object, axes: tuple[int, ...], *, keepdims: bool) -> Expression:
    """The largest or smallest sum of a column's or row's absolute numbers."""
    if order not in (1, -1, math.inf, -math.inf):
        raise InvalidGraphError(
            f"norm of matrices {node!r} with ord={order!r:.64}: singular values are no ops; choose 'fro', 1, -1, inf "
            "or -inf"
        )
    rows, columns = axes if order in (1, -1) else axes[::-1]
    sums = sum_over(abs_(node), rows, keepdims=True)
    over = (max_over if order in (1, math.inf) else min_over)(sums, columns, keepdims=True)
    return over if keepdims else reshape(over, reduced(node, axes, keepdims=False))


def _root(node: Expression) -> Expression:
    """The square root, with gradient 0 at 0, where nothing is selected that the gradient could go to."""
    return choose(node, sqrt(node), 0)


def relu(x: Operand) -> Expression:
    """max(0, x). Its derivative at 0 is 0, or 1/2 if the graph splits ties."""
    return maximum(0, x)


def leaky_relu(x: Operand, negative_slope: float = 0.01) -> Expression:
    """slope x + (1 - slope) relu(x), for a slope between 0 and 1.

    Its derivative at 0 is the slope, as in PyTorch, or (1 + slope) / 2 if the graph splits ties.
    """
    slope = real(negative_slope)
    if slope is None or not 0 <= slope <= 1:
        raise InvalidGraphError(f"leaky_relu with a slope of {negative_slope!r:.64}; it is a number between 0 and 1")
    return add(mul(slope, x), mul(1 - slope, relu(x)))


def silu(x: Operand) -> Expression:
    """x sigmoid(x), also called swish (Elfwing et al. 2018)."""
    return mul(x, sigmoid(x))


def gelu(x: Operand, *, approximate: bool = True) -> Expression:
    """Gaussian error linear unit, in its tanh form by default, as ``jax.nn.gelu`` (Hendrycks and Gimpel 2016)."""
    if not flag("approximate", approximate):
        return mul(0.5, x, add(1, erf(mul(math.sqrt(0.5), x))))
    inner = mul(math.sqrt(2 / math.pi), add(x, mul(0.044715, power(x, 3))))
    return mul(0.5, x, add(1, tanh(inner)))


def elu(x: Operand, alpha: float = 1.0) -> Expression:
    """x where it is above 0, else alpha (exp(x) - 1) (Clevert et al. 2015)."""
    return choose(less(0, x), x, mul(alpha, expm1(minimum(x, 0))))


def log_sigmoid(x: Operand) -> Expression:
    """log(sigmoid(x)) = -softplus(-x)."""
    return negative(softplus(negative(x)))


def logaddexp(a: Operand, b: Operand) -> Expression:
    """log(exp(a) + exp(b)) = m + softplus(-|a - b|) with the maximum m; beyond 1e20 it is m, with its ties."""
    # What is far out is drawn near, for infinities have no difference; beside m nothing of the softplus remains there.
    left, right = clip(a, -_FAR, _FAR), clip(b, -_FAR, _FAR)
    near = maximum(left, right)
    # One of the two is 0, the other -|a - b|. Written so, the gradient through the maxima cancels where a = b.
    return add(maximum(a, b), softplus(add(subtract(left, near), subtract(right, near))))


def below_largest(node: Expression, axis: Axis) -> Expression:
    """x - max(x) over ``axis``, so that logits that are all large lose no digits; of -inf alone it is -inf."""
    return subtract(node, maximum(max_over(node, axis, keepdims=True), LEAST))


def log_total(shifted: Expression, axis: Axis, *, keepdims: bool) -> Expression:
    """logsumexp(x - max(x)), which is 0 or more; of -inf alone, which has no sum, it is -1."""
    return at_least(logsumexp(shifted, axis, keepdims=keepdims), -1)


def at_least(node: Expression, bound: float) -> Expression:
    """The larger of a number and a bound; NaN keeps its gradient, of which a maximum gives its operands none."""
    return choose(less(node, bound), bound, node)


def log_softmax(x: Operand, axis: int | tuple[int, ...] = -1) -> Expression:
    """x - logsumexp(x) over ``axis``; of -inf alone it is -inf."""
    node = as_expression(x)
    check_elements("log_softmax", node, axis)
    shifted = below_largest(node, axis)
    return subtract(shifted, log_total(shifted, axis, keepdims=True))


def softmax(x: Operand, axis: int | tuple[int, ...] = -1) -> Expression:
    """exp(x) / sum(exp(x)) over ``axis``; of -inf alone, as where all is masked, it is 0, with gradient 0."""
    node = as_expression(x)
    check_elements("softmax", node, axis)
    return exp(log_softmax(node, axis))
