"""Ops that work element by element, with NumPy's broadcasting."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import reduce
from itertools import accumulate
from math import erf, isqrt, pi, sqrt

import numpy as np

from gradwire_server.engine.graph.graph import Array, Ties
from gradwire_server.engine.graph.opcodes import Opcode
from gradwire_server.engine.reference.rule import Facts, Rule, each, stop, unbroadcast


def _add(facts: Facts, operands: Sequence[Array]) -> Array:
    return reduce(np.add, each(facts, operands))


def _add_vjp(facts: Facts, g: Array, operands: Sequence[Array], out: Array) -> Iterator[Array]:
    return (unbroadcast(g, a.shape) for a in each(facts, operands))


def _mul(facts: Facts, operands: Sequence[Array]) -> Array:
    return reduce(np.multiply, each(facts, operands))


def _mul_vjp(facts: Facts, g: Array, operands: Sequence[Array], out: Array) -> Iterator[Array]:
    # What stands to the left times what stands to the right: the product may not be divided by an operand that is 0.
    one = np.ones((), out.dtype)
    before = accumulate(operands[:-1], np.multiply, initial=one)
    for a, left, right in zip(each(facts, operands), before, _products_after(facts, operands, one), strict=True):
        yield unbroadcast(stop(g, g * (left * right)), a.shape)


def _products_after(facts: Facts, factors: Sequence[Array], one: Array) -> Iterator[Array]:
    """For each factor the product of those to its right, made from right to left; about 2 sqrt(n) exist at a time."""
    stride = isqrt(len(factors)) + 1
    parts = [factors[start : start + stride] for start in range(0, len(factors), stride)]
    carries = [one]
    for part in parts[:0:-1]:
        carries.append(reduce(np.multiply, each(facts, part[::-1]), carries[-1]))
    for part in parts:
        yield from [*accumulate(part[:0:-1], np.multiply, initial=carries.pop())][::-1]


def _max(facts: Facts, operands: Sequence[Array]) -> Array:
    return reduce(np.maximum, each(facts, operands))


def _max_vjp(facts: Facts, g: Array, operands: Sequence[Array], out: Array) -> Iterator[Array]:
    if len(operands) == 1:
        return iter([g])
    # Losers get exactly 0 by selection, whatever g is. Where NaN wins, nobody equals it.
    tied = sum((a == out).astype(g.dtype) for a in each(facts, operands))
    share = g / np.maximum(tied, 1) if facts.ties is Ties.SPLIT else np.where(tied == 1, g, 0)
    return (unbroadcast(np.where(a == out, share, 0), a.shape) for a in each(facts, operands))


def sigmoid(a: Array) -> Array:
    """The logistic function, without overflow in either tail."""
    z = np.exp(-np.abs(a))
    s: Array = np.where(a >= 0, 1, z) / (1 + z)
    return s


def _softplus(a: Array) -> Array:
    z: Array = np.log1p(np.exp(-np.abs(a)))
    return np.maximum(a, 0) + z


EXACT: Mapping[float, Callable[[Array], Array]] = {
    0: np.ones_like,
    1: np.positive,
    2: np.square,
    -1: np.reciprocal,
    0.5: np.sqrt,
}
"""Exponents for which NumPy has a function that is more exact than its power."""


def _raised(a: Array, p: np.floating) -> Array:
    power: Array = EXACT[float(p)](a) if float(p) in EXACT else np.power(a, p)
    return power


def _power(facts: Facts, operands: Sequence[Array]) -> Array:
    return _raised(operands[0], operands[0].dtype.type(facts.number))


def _power_vjp(facts: Facts, g: Array, operands: Sequence[Array], out: Array) -> list[Array]:
    p = out.dtype.type(facts.number)
    if p == 0:
        return [np.zeros_like(g)]
    if p == 1:
        return [g]
    if p == -1:
        # 1 / a^2 may leave the range of floats where the product does not.
        return [stop(g, -(g * out) * out)]
    return [stop(g, g * (p * _raised(operands[0], p - 1)))]


def _indicator(compared: Callable[[Array, Array], Array]) -> Rule:
    """The rule of a comparison: 1 where it holds, and no gradient."""
    return Rule(
        lambda facts, operands: compared(*operands).astype(operands[0].dtype),
        lambda facts, g, operands, out: [np.zeros(a.shape, g.dtype) for a in operands],
    )


def _select(facts: Facts, operands: Sequence[Array]) -> Array:
    c, a, b = operands
    return np.where(c != 0, a, b)


def _select_vjp(facts: Facts, g: Array, operands: Sequence[Array], out: Array) -> list[Array]:
    # As for max, by selection: what is not selected gets exactly 0, whatever g is.
    c, a, b = operands
    to_a, to_b = np.where(c != 0, g, 0), np.where(c != 0, 0, g)
    return [np.zeros(c.shape, g.dtype), unbroadcast(to_a, a.shape), unbroadcast(to_b, b.shape)]


_erf_of_each = np.vectorize(erf, otypes=[np.float64])


def _erf(a: Array) -> Array:
    found: Array = _erf_of_each(a).astype(a.dtype)
    return found


def _unary(value: Callable[[Array], Array], vjp: Callable[[Array, Array, Array], Array]) -> Rule:
    """The rule of an op of one operand, from ``value(a)`` and ``vjp(g, a, out)``."""
    return Rule(
        lambda facts, operands: value(operands[0]),
        lambda facts, g, operands, out: [stop(g, vjp(g, operands[0], out))],
    )


ELEMENTWISE = {
    Opcode.ADD: Rule(_add, _add_vjp),
    Opcode.MUL: Rule(_mul, _mul_vjp),
    Opcode.MAX: Rule(_max, _max_vjp),
    Opcode.SIGMOID: _unary(sigmoid, lambda g, a, s: g * (s * (1 - s))),
    Opcode.EXP: _unary(np.exp, lambda g, a, e: g * e),
    Opcode.LOG: _unary(np.log, lambda g, a, out: g / a),
    # (1 - t)(1 + t) keeps the digits that 1 - t^2 loses where |t| is near 1.
    Opcode.TANH: _unary(np.tanh, lambda g, a, t: g * ((1 - t) * (1 + t))),
    Opcode.SOFTPLUS: _unary(_softplus, lambda g, a, out: g * sigmoid(a)),
    Opcode.POWER: Rule(_power, _power_vjp),
    Opcode.SIN: _unary(np.sin, lambda g, a, out: g * np.cos(a)),
    Opcode.COS: _unary(np.cos, lambda g, a, out: -(g * np.sin(a))),
    Opcode.LOG1P: _unary(np.log1p, lambda g, a, out: g / (1 + a)),
    Opcode.EXPM1: _unary(np.expm1, lambda g, a, out: g * np.exp(a)),
    Opcode.ERF: _unary(_erf, lambda g, a, out: g * (2 / sqrt(pi) * np.exp(-np.square(a)))),
    Opcode.LESS: _indicator(np.less),
    Opcode.EQUAL: _indicator(np.equal),
    Opcode.SELECT: Rule(_select, _select_vjp),
}
