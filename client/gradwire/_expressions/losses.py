"""Losses, composed in their stable form; labels and targets are operands like any other."""

from __future__ import annotations

import math

from gradwire._errors import InvalidGraphError
from gradwire._expressions.composed import LEAST, at_least, below_largest, log_softmax, log_total, square
from gradwire._expressions.expression import Expression, Operand, as_expression
from gradwire._expressions.primitives import abs as abs_
from gradwire._expressions.primitives import (
    add,
    divide,
    exp,
    less,
    log,
    maximum,
    mul,
    negative,
    power,
    sigmoid,
    softplus,
    subtract,
    take,
    where,
)
from gradwire._expressions.primitives import sum as sum_over
from gradwire._expressions.shapes import check_elements
from gradwire._numbers import real


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
    return negative(sum_over(mul(labels, at_least(log_softmax(node, axis), LEAST)), axis))


def softmax_cross_entropy_with_integer_labels(logits: Operand, label: Operand) -> Expression:
    """-log_softmax(logits)[label], for one vector of logits and the index of its class; as Optax names it."""
    node = as_expression(logits)
    if node.ndim != 1:
        raise InvalidGraphError(f"{node!r} is no vector of logits; an example has one logit for each class")
    check_elements("softmax_cross_entropy_with_integer_labels", node, 0)
    shifted = below_largest(node, 0)
    return subtract(log_total(shifted, 0, keepdims=False), take(shifted, label))


def huber_loss(prediction: Operand, target: Operand, delta: float = 1.0) -> Expression:
    """Half the squared error up to an error of ``delta``, linear beyond (Huber 1964); as Optax names it."""
    bound = _number("huber_loss", "delta", delta)
    error = abs_(subtract(prediction, target))
    return where(less(error, bound), mul(0.5, square(error)), mul(bound, subtract(error, 0.5 * bound)))


def quantile_loss(prediction: Operand, target: Operand, quantile: float = 0.5) -> Expression:
    """q (target - prediction) where that is above 0, else (1 - q) (prediction - target): the pinball loss."""
    q = _number("quantile_loss", "quantile", quantile)
    error = subtract(target, prediction)
    return maximum(mul(q, error), mul(q - 1, error))


def sigmoid_focal_loss(logits: Operand, labels: Operand, alpha: float | None = None, gamma: float = 2.0) -> Expression:
    """Cross-entropy of sigmoid(logits) times (1 - p)^gamma for the probability p of the label (Lin et al. 2017).

    Args:
        logits: Any shape.
        labels: 0 or 1, or probabilities.
        alpha: Weight of the label 1; of 0 it is 1 - alpha. None weighs none.
        gamma: How much well-classified examples count less.
    """
    y, g = as_expression(labels), _number("sigmoid_focal_loss", "gamma", gamma)
    # log p and log(1 - p) of the label's probability where labels are 0 or 1.
    cross = sigmoid_binary_cross_entropy(logits, y)
    likely = sigmoid(logits)
    wrong = add(mul(likely, subtract(1, y)), mul(subtract(1, likely), y))
    loss = mul(cross, power(wrong, g))
    if alpha is None:
        return loss
    weight = _number("sigmoid_focal_loss", "alpha", alpha)
    return mul(loss, add(mul(weight, y), mul(1 - weight, subtract(1, y))))


def gaussian_nll(mean: Operand, target: Operand, variance: Operand) -> Expression:
    """Negative log-likelihood of the normal distribution: (log(2 pi variance) + (target - mean)^2 / variance) / 2."""
    error = square(subtract(target, mean))
    return mul(0.5, add(math.log(2 * math.pi), log(variance), divide(error, variance)))


def poisson_nll(log_rate: Operand, target: Operand) -> Expression:
    """Negative log-likelihood of the Poisson distribution, without the term log(target!), from the log of its rate."""
    return subtract(exp(log_rate), mul(target, log_rate))


def _number(called: str, option: str, value: object) -> float:
    number = real(value)
    if number is None or not math.isfinite(number):
        raise InvalidGraphError(f"{called} with {option}={value!r:.64}; expected a number")
    return number
