"""Back-propagation on objects of Python, one for each number, as tutorials teach it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(slots=True, eq=False)
class Value:
    """A number that knows what it was made of, and its derivative in each."""

    number: float
    operands: tuple[tuple[Value, float], ...] = ()
    gradient: float = field(default=0.0, init=False)

    def __mul__(self, factor: float) -> Value:
        return Value(self.number * factor, ((self, factor),))


def _add(a: Value, b: Value) -> Value:
    return Value(a.number + b.number, ((a, 1.0), (b, 1.0)))


def _mul(a: Value, b: Value) -> Value:
    return Value(a.number * b.number, ((a, b.number), (b, a.number)))


def _max(a: Value, b: Value) -> Value:
    return Value(max(a.number, b.number), ((a, float(a.number > b.number)), (b, float(b.number > a.number))))


def _sigmoid(a: Value) -> Value:
    s = 1 / (1 + math.exp(-a.number))
    return Value(s, ((a, s * (1 - s)),))


def _tanh(a: Value) -> Value:
    t = math.tanh(a.number)
    return Value(t, ((a, 1 - t * t),))


WRITE = (_add, _mul, _max, _sigmoid, _tanh)


def total(values: Sequence[Value]) -> Value:
    """The sum."""
    return Value(sum(value.number for value in values), tuple((value, 1.0) for value in values))


def backward(loss: Value) -> None:
    """Give every value that leads to the loss its gradient."""
    order: list[Value] = []
    seen: set[int] = set()
    pending = [(loss, False)]
    while pending:
        value, done = pending.pop()
        if done:
            order.append(value)
        elif id(value) not in seen:
            seen.add(id(value))
            pending.append((value, True))
            pending.extend((operand, False) for operand, _ in value.operands)
    loss.gradient = 1.0
    for value in reversed(order):
        for operand, derivative in value.operands:
            operand.gradient += derivative * value.gradient
