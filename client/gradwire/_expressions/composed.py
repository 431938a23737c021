"""Functions composed of the ops, each in the form that is stable in value and gradient, under either tie rule."""

from __future__ import annotations

import math

from gradwire._errors import InvalidGraphError
from gradwire._expressions.expression import (
    Expression,
    Operand,
    add,
    as_expression,
    exp,
    logsumexp,
    maximum,
    mean,
    mul,
    negative,
    power,
    sigmoid,
    softplus,
    subtract,
    take,
    tanh,
)
from gradwire._expressions.expression import max as max_over
from gradwire._expressions.expression import sum as sum_over
from gradwire._expressions.shapes import Axis, check_elements
from gradwire._numbers import real

_LEAST = -1e38
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
    return negative(maximum(*map(negative, operands)))


def clip(x: Operand, low: Operand | None = None, high: Operand | None = None) -> Expression:
    """min(max(x, low), high); None is no bound."""
    raised = as_expression(x) if low is None else maximum(x, low)
    return raised if high is None else minimum(raised, high)


def var(x: Operand, axis: Axis = None, *, keepdims: bool = False) -> Expression:
    """Mean of the squared distance from the mean, over axes of one example (NumPy's ``var`` with ddof 0)."""
    node = as_expression(x)
    return mean(square(subtract(node, mean(node, axis, keepdims=True))), axis, keepdims=keepdims)


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


def gelu(x: Operand) -> Expression:
    """Gaussian error linear unit in its tanh form (Hendrycks and Gimpel 2016), as ``jax.nn.gelu`` by default."""
    inner = mul(math.sqrt(2 / math.pi), add(x, mul(0.044715, power(x, 3))))
    return mul(0.5, x, add(1, tanh(inner)))


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


def _below_largest(node: Expression, axis: Axis) -> Expression:
    """x - max(x) over ``axis``, so that logits that are all large lose no digits; of -inf alone it is -inf."""
    return subtract(node, maximum(max_over(node, axis, keepdims=True), _LEAST))


def _log_total(shifted: Expression, axis: Axis, *, keepdims: bool) -> Expression:
    """logsumexp(x - max(x)), which is 0 or more; of -inf alone, which has no sum, it is -1."""
    return maximum(logsumexp(shifted, axis, keepdims=keepdims), -1)


def log_softmax(x: Operand, axis: int | tuple[int, ...] = -1) -> Expression:
    """x - logsumexp(x) over ``axis``; of -inf alone it is -inf."""
    node = as_expression(x)
    check_elements("log_softmax", node, axis)
    shifted = _below_largest(node, axis)
    return subtract(shifted, _log_total(shifted, axis, keepdims=True))


def softmax(x: Operand, axis: int | tuple[int, ...] = -1) -> Expression:
    """exp(x) / sum(exp(x)) over ``axis``; of -inf alone, as where all is masked, it is 0, with gradient 0."""
    node = as_expression(x)
    check_elements("softmax", node, axis)
    return exp(log_softmax(node, axis))


def hinge_loss(score: Operand, label: Operand) -> Expression:
    """max(0, 1 - score label), for labels -1 and 1; its gradient in the score is -I(score label < 1) label."""
    return maximum(0, subtract(1, mul(score, label)))


def squared_error(prediction: Operand, target: Operand) -> Expression:
    """(prediction - target)^2."""
    return square(subtract(prediction, target))


def sigmoid_binary_cross_entropy(logits: Operand, labels: Operand) -> Expression:
    """-y log(s) - (1 - y) log(1 - s) with s = sigmoid(logits), for labels y between 0 and 1; as Optax names it."""
    y = as_expression(labels)
    return add(mul(y, softplus(negative(logits))), mul(subtract(1, y), softplus(logits)))


def softmax_cross_entropy(logits: Operand, labels: Operand, axis: int | tuple[int, ...] = -1) -> Expression:
    """-sum(labels log_softmax(logits)) over ``axis``, for labels that are probabilities; as Optax names it."""
    node = as_expression(logits)
    check_elements("softmax_cross_entropy", node, axis)
    # A label of 0 times -inf is 0, as is what has no chance and does not occur.
    return negative(sum_over(mul(labels, maximum(log_softmax(node, axis), _LEAST)), axis))


def softmax_cross_entropy_with_integer_labels(logits: Operand, label: Operand) -> Expression:
    """-log_softmax(logits)[label], for one vector of logits and the index of its class; as Optax names it."""
    node = as_expression(logits)
    if node.ndim != 1:
        raise InvalidGraphError(f"{node!r} is no vector of logits; an example has one logit for each class")
    check_elements("softmax_cross_entropy_with_integer_labels", node, 0)
    shifted = _below_largest(node, 0)
    return subtract(_log_total(shifted, 0, keepdims=False), take(shifted, label))
