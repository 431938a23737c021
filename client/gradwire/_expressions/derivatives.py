"""Gradients as expressions: reverse-mode differentiation that writes a graph instead of computing.

Each op has a rule here, in terms of the ops, with the meaning that the engine gives its derivative. So gradients are
differentiated like anything else. Where a gradient of 0 must stop at a derivative that is infinite or NaN, the
derivative is replaced there and not the product, whose own derivative in the gradient would be lost otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from typing import NamedTuple

import numpy as np

from gradwire._errors import InvalidGraphError
from gradwire._expressions.arranging import broadcast_to, flip, split, swapaxes
from gradwire._expressions.expression import Expression, as_expression
from gradwire._expressions.node import Shape, postorder
from gradwire._expressions.primitives import (
    add,
    cos,
    cumsum,
    divide,
    equal,
    exp,
    less,
    matmul,
    maximum,
    mul,
    power,
    reshape,
    scatter_add,
    sigmoid,
    sin,
    subtract,
    take,
    transpose,
    where,
)
from gradwire._expressions.primitives import sum as sum_over
from gradwire._expressions.shapes import is_integer

TIES = ("zero", "split")


class _Facts(NamedTuple):
    """What a rule is given besides the gradient."""

    node: Expression
    ties: str
    stopped: Callable[[Expression, Expression, Expression], Expression]
    """From a gradient, a local derivative and what tells whether it may be infinite or NaN: the derivative,
    but 0 where the gradient is 0 and it is not finite."""

    @property
    def a(self) -> Expression:
        """The first operand."""
        return self.node.operands[0]


Contributions = Sequence[Expression | None]
Rule = Callable[[_Facts, Expression], Contributions]
"""What a node adds to the gradients of its operands, in their shapes; None adds nothing."""


def gradients(loss: Expression, wrt: Sequence[Expression], ties: str) -> list[Expression]:
    """The gradient of a loss in each of these, zeros where it does not depend on one.

    Raises:
        InvalidGraphError: They are no expressions of floats, or the loss is no scalar one.
    """
    if not isinstance(loss, Expression) or loss.shape != () or is_integer(loss):  # type: ignore[redundant-expr]  # as a caller gives it
        raise InvalidGraphError(
            f"gradient of {loss!r:.200}, which is no scalar expression; reduce it first, with gw.sum"
        )
    if not isinstance(ties, str) or ties not in TIES:  # type: ignore[redundant-expr]  # as a caller gives it
        raise InvalidGraphError(f"ties={ties!r} is unknown; choose {' or '.join(map(repr, TIES))}")
    for node in wrt:
        if not isinstance(node, Expression) or is_integer(node):  # type: ignore[redundant-expr]  # as a caller gives it
            raise InvalidGraphError(f"gradient in {node!r:.200}, which is no expression of floats")
    return _gradients(loss, wrt, ties)


def _gradients(loss: Expression, wrt: Sequence[Expression], ties: str) -> list[Expression]:
    order = list(postorder(loss))
    asked = {_key(node) for node in wrt}
    active = set(asked)
    for node in order:
        if any(_key(operand) in active for operand in node.operands):
            active.add(_key(node))
    risks = _Risks()
    found: dict[object, list[Expression]] = {_key(loss): [as_expression(1.0)]}
    for node in reversed(order):
        terms = found.get(_key(node))
        if terms is None or _key(node) not in active:
            continue
        g = add(*terms)
        found[_key(node)] = [g]
        if not any(_key(operand) in active for operand in node.operands):
            continue
        contributions = RULES[node.kind](_Facts(node, ties, risks.stopped), g)
        for operand, contribution in zip(node.operands, contributions, strict=True):
            if contribution is not None and _key(operand) in active:
                found.setdefault(_key(operand), []).append(contribution)
    return [found[key][0] if (key := _key(node)) in found and key in active else _zeros(node.shape) for node in wrt]


def _key(node: Expression) -> object:
    """Sources of one name are one source."""
    return node.name if node.kind in ("parameter", "input") else id(node)


def _zeros(shape: Shape) -> Expression:
    return as_expression(np.zeros(shape))


class _Risks:
    """Which expressions may be infinite or NaN although the sources are finite."""

    def __init__(self) -> None:
        self._known: dict[int, bool] = {}
        self._kept: list[Expression] = []
        """What ids are known of, so that nothing else gets them."""

    def stopped(self, g: Expression, derivative: Expression, of: Expression) -> Expression:
        """See ``_Facts``."""
        if not self._at(of):
            return derivative
        # Of what is infinite or NaN 0 times it is NaN.
        finite = equal(mul(derivative, 0), 0)
        return where(g, derivative, where(finite, derivative, 0))

    def _at(self, node: Expression) -> bool:
        stack = [node]
        while stack:
            other = stack[-1]
            news = [operand for operand in other.operands if id(operand) not in self._known]
            stack += news
            if not news:
                self._known[id(other)] = self._new(other)
                self._kept.append(stack.pop())
        return self._known[id(node)]

    def _new(self, node: Expression) -> bool:
        if node.value is not None:
            return not np.isfinite(node.value).all()
        if node.kind in ("less", "equal"):
            return False
        p = node.attributes.get("exponent", 1.0)
        risky = node.kind in ("exp", "expm1", "log", "log1p") or p < 0 or p != int(p)
        return risky or any(self._known[id(operand)] for operand in node.operands)


def _unbroadcast(g: Expression, shape: Shape) -> Expression:
    """The sum of a gradient over the axes along which an operand of this shape was broadcast."""
    if g.shape == shape:
        return g
    padded = (1,) * (g.ndim - len(shape)) + shape
    axes = tuple(axis for axis, size in enumerate(padded) if size == 1 != g.shape[axis])
    return reshape(sum_over(g, axes, keepdims=True) if axes else g, shape)


# Elementwise ops.


def _function(derivative: Callable[[Expression, Expression], Expression], *, bounded: bool = False) -> Rule:
    """The rule of a function of one number, from its derivative at ``a`` where it is ``out``.

    A bounded derivative is finite where ``a`` is.
    """

    def rule(facts: _Facts, g: Expression) -> Contributions:
        own = derivative(facts.a, facts.node)
        return [mul(g, facts.stopped(g, own, facts.a if bounded else own))]

    return rule


def _add(facts: _Facts, g: Expression) -> Contributions:
    return [_unbroadcast(g, operand.shape) for operand in facts.node.operands]


def _mul(facts: _Facts, g: Expression) -> Contributions:
    operands = facts.node.operands
    before = [None, *accumulate(operands[:-1], mul)]
    after = [None, *accumulate(operands[:0:-1], mul)][::-1]
    contributions = []
    for operand, left, right in zip(operands, before, after, strict=True):
        others = [own for own in (left, right) if own is not None]
        factor = mul(*others) if others else as_expression(1.0)
        contributions.append(_unbroadcast(mul(g, facts.stopped(g, factor, factor)), operand.shape))
    return contributions


def _max(facts: _Facts, g: Expression) -> Contributions:
    node, operands = facts.node, facts.node.operands
    if len(operands) == 2 and facts.ties == "zero":
        wins = [less(operands[1], operands[0]), less(operands[0], operands[1])]
        share = g
    else:
        wins = [equal(operand, node) for operand in operands]
        share = _share(facts, g, add(*wins))
    return [_unbroadcast(where(own, share, 0), operand.shape) for own, operand in zip(wins, operands, strict=True)]


def _share(facts: _Facts, g: Expression, tied: Expression) -> Expression:
    """What each winner gets, where so many tie."""
    return divide(g, maximum(tied, 1)) if facts.ties == "split" else where(equal(tied, 1), g, 0)


def _power(facts: _Facts, g: Expression) -> Contributions:
    p = facts.node.attributes["exponent"]
    if p in (0, 1):
        return [g if p else None]
    if p == -1:
        # 1 / a^2 may leave the range of floats where the product does not.
        out = facts.stopped(g, facts.node, facts.node)
        return [mul(mul(g, out), mul(out, -1))]
    own = mul(p, power(facts.a, p - 1))
    return [mul(g, facts.stopped(g, own, own))]


def _select(facts: _Facts, g: Expression) -> Contributions:
    c, a, b = facts.node.operands
    return [None, _unbroadcast(where(c, g, 0), a.shape), _unbroadcast(where(c, 0, g), b.shape)]


def _none(facts: _Facts, g: Expression) -> Contributions:
    return [None] * len(facts.node.operands)


# Reductions.


def _expanded(facts: _Facts, reduced: Expression) -> Expression:
    """The result with the reduced axes back, at size 1."""
    axes = facts.node.attributes["axes"]
    return reshape(reduced, [1 if axis in axes else size for axis, size in enumerate(facts.a.shape)])


def _sum(facts: _Facts, g: Expression) -> Contributions:
    return [broadcast_to(_expanded(facts, g), facts.a.shape)]


def _reduce_max(facts: _Facts, g: Expression) -> Contributions:
    wins = equal(facts.a, _expanded(facts, facts.node))
    tied = sum_over(wins, facts.node.attributes["axes"], keepdims=True)
    return [where(wins, _share(facts, _expanded(facts, g), tied), 0)]


def _logsumexp(facts: _Facts, g: Expression) -> Contributions:
    total = _expanded(facts, facts.node)
    # Of -inf alone the derivative is 0.
    share = exp(subtract(facts.a, where(equal(total, -np.inf), 0, total)))
    wide = broadcast_to(_expanded(facts, g), facts.a.shape)
    return [mul(wide, facts.stopped(wide, share, facts.a))]


def _cumsum(facts: _Facts, g: Expression) -> Contributions:
    axis = facts.node.attributes["axis"]
    return [flip(cumsum(flip(g, axis), axis), axis)]


def _matmul(facts: _Facts, g: Expression) -> Contributions:
    a, b = facts.node.operands
    # A vector is a row on the left and a column on the right.
    rows = a if a.ndim > 1 else reshape(a, (1, a.size))
    columns = b if b.ndim > 1 else reshape(b, (b.size, 1))
    stack = np.broadcast_shapes(rows.shape[:-2], columns.shape[:-2])
    whole = reshape(g, (*stack, rows.shape[-2], columns.shape[-1]))
    to_rows = _unbroadcast(matmul(whole, swapaxes(columns, -1, -2)), rows.shape)
    to_columns = _unbroadcast(matmul(swapaxes(rows, -1, -2), whole), columns.shape)
    return [reshape(to_rows, a.shape), reshape(to_columns, b.shape)]


# Ops that move elements.


def _reshape(facts: _Facts, g: Expression) -> Contributions:
    return [reshape(g, facts.a.shape)]


def _transpose(facts: _Facts, g: Expression) -> Contributions:
    return [transpose(g, np.argsort(facts.node.attributes["axes"]).tolist())]


def _take(facts: _Facts, g: Expression) -> Contributions:
    axis = facts.node.attributes.get("axis", 0)
    return [scatter_add(g, facts.node.operands[1], facts.a.shape[axis], axis), None]


def _scatter_add(facts: _Facts, g: Expression) -> Contributions:
    return [take(g, facts.node.operands[1], facts.node.attributes["axis"]), None]


def _concatenate(facts: _Facts, g: Expression) -> Contributions:
    axis = facts.node.attributes["axis"]
    sizes = [operand.shape[axis] for operand in facts.node.operands]
    return split(g, np.cumsum(sizes)[:-1].tolist(), axis)


def _slice(facts: _Facts, g: Expression) -> Contributions:
    own = facts.node.attributes
    for axis, (start, size, step) in enumerate(zip(own["starts"], own["sizes"], own["steps"], strict=True)):
        if (start, size, step) != (0, facts.a.shape[axis], 1):
            g = scatter_add(g, start + step * np.arange(size), facts.a.shape[axis], axis)
    return [g]


RULES: Mapping[str, Rule] = {
    "add": _add,
    "mul": _mul,
    "max": _max,
    "sigmoid": _function(lambda a, s: mul(s, subtract(1, s)), bounded=True),
    "exp": _function(lambda a, out: out),
    "log": _function(lambda a, out: power(a, -1)),
    "tanh": _function(lambda a, t: mul(subtract(1, t), add(1, t)), bounded=True),
    "softplus": _function(lambda a, out: sigmoid(a), bounded=True),
    "power": _power,
    "sin": _function(lambda a, out: cos(a), bounded=True),
    "cos": _function(lambda a, out: mul(sin(a), -1), bounded=True),
    "log1p": _function(lambda a, out: power(add(a, 1), -1)),
    "expm1": _function(lambda a, out: exp(a)),
    "erf": _function(lambda a, out: mul(2 / math.sqrt(math.pi), exp(mul(power(a, 2), -1))), bounded=True),
    "less": _none,
    "equal": _none,
    "select": _select,
    "sum": _sum,
    "reduce_max": _reduce_max,
    "logsumexp": _logsumexp,
    "cumsum": _cumsum,
    "matmul": _matmul,
    "reshape": _reshape,
    "transpose": _transpose,
    "take": _take,
    "scatter_add": _scatter_add,
    "concatenate": _concatenate,
    "slice": _slice,
    "stop_gradient": _none,
}
"""By the name of the op."""
