"""What an elementwise op gives, and what it passes back: each formula once, for numbers and vectors alike.

A gradient of 0 stops: what goes on from it is 0 whatever it would be multiplied with, by selection.
"""

from __future__ import annotations

from math import pi, sqrt
from typing import Any

import numpy as np

from gradwire_server.engine.graph.opcodes import Opcode
from gradwire_server.engine.machine import error_function, functions, trigonometric
from gradwire_server.engine.machine.memory import converted, inlined
from gradwire_server.engine.machine.vectors import larger, select

# As numbers of NumPy: Numba would compile a function anew for each plain integer that it is called with.
ADD, MUL, MAX, MAX_SPLIT = map(np.int64, [Opcode.ADD, Opcode.MUL, Opcode.MAX, Opcode.MAX_SPLIT])
SQUARE, RECIPROCAL, POWER = map(np.int64, [Opcode.SQUARE, Opcode.RECIPROCAL, Opcode.POWER])
EXP, LOG, SIGMOID = map(np.int64, [Opcode.EXP, Opcode.LOG, Opcode.SIGMOID])
TANH, SOFTPLUS = map(np.int64, [Opcode.TANH, Opcode.SOFTPLUS])
SIN, COS, LOG1P, EXPM1 = map(np.int64, [Opcode.SIN, Opcode.COS, Opcode.LOG1P, Opcode.EXPM1])
ERF, LESS, EQUAL, SELECT = map(np.int64, [Opcode.ERF, Opcode.LESS, Opcode.EQUAL, Opcode.SELECT])

DENSITY = 2 / sqrt(pi)
"""The derivative of the error function at 0."""


@inlined
def stopped(g: Any, onward: Any, zero: Any) -> Any:
    """What goes on from a gradient ``g``: 0 where that is 0."""
    return select(g == zero, zero, onward)


@inlined
def is_function(opcode: int) -> bool:
    """Whether an opcode is that of a function."""
    return bool(SIGMOID <= opcode <= SOFTPLUS or SIN <= opcode <= ERF)


@inlined
def arithmetic(opcode: int, x: Any, y: Any, one: Any) -> Any:
    """What an operation gives of its arguments, if it is no function."""
    if opcode == MUL:
        return x * y
    if opcode == ADD:
        return x + y
    if opcode in (MAX, MAX_SPLIT):
        return larger(x, y)
    if opcode == SQUARE:
        return x * x
    if opcode == LESS:
        return select(y > x, one, one - one)
    if opcode == EQUAL:
        return select(x == y, one, one - one)
    return one / x


@inlined
def arithmetic_back(opcode: int, g: Any, x: Any, y: Any, z: Any, one: Any) -> Any:
    """What an operation passes back of its gradient ``g`` to its arguments; ``z`` is its value."""
    zero = one - one
    if opcode == MUL:
        return stopped(g, g * y, zero), stopped(g, g * x, zero)
    if opcode == ADD:
        return g, g
    if opcode == MAX:
        return select(x > y, g, zero), select(y > x, g, zero)
    if opcode == MAX_SPLIT:
        share = select(x == y, one / (one + one) * g, zero)
        return select(x > y, g, share), select(y > x, g, share)
    if opcode == SQUARE:
        return stopped(g, g * (x + x), zero), zero
    if opcode in (LESS, EQUAL):
        return zero, zero
    return stopped(g, -(g * z) * z, zero), zero


@inlined
def value(opcode: int, x: Any, y: Any, one: Any) -> Any:
    """What an operation or a function gives of its arguments, which are numbers."""
    if opcode == EXP:
        return functions.exp(x)
    if opcode == LOG:
        return functions.log(x)
    if opcode == SIGMOID:
        return functions.sigmoid(x)
    if opcode == TANH:
        return functions.tanh(x)
    if opcode == SOFTPLUS:
        return functions.softplus(x)
    if opcode == SIN:
        return trigonometric.sin(x)
    if opcode == COS:
        return trigonometric.cos(x)
    if opcode == LOG1P:
        return functions.log1p(x)
    if opcode == EXPM1:
        return functions.expm1(x)
    if opcode == ERF:
        return error_function.erf(x)
    return arithmetic(opcode, x, y, one)


@inlined
def passed_back(opcode: int, g: Any, x: Any, y: Any, z: Any, one: Any) -> Any:
    """What an operation or a function passes back of its gradient ``g`` to its arguments; ``z`` is its value."""
    zero = one - one
    if opcode == EXP:
        return stopped(g, g * z, zero), zero
    if opcode == LOG:
        return stopped(g, g / x, zero), zero
    if opcode == SIGMOID:
        return stopped(g, g * (z * (one - z)), zero), zero
    if opcode == TANH:
        # (1 - z)(1 + z) keeps the digits that 1 - z^2 loses where |z| is near 1.
        return stopped(g, g * ((one - z) * (one + z)), zero), zero
    if opcode == SOFTPLUS:
        return stopped(g, g * functions.sigmoid(x), zero), zero
    if opcode == SIN:
        return stopped(g, g * trigonometric.cos(x), zero), zero
    if opcode == COS:
        return stopped(g, -(g * trigonometric.sin(x)), zero), zero
    if opcode == LOG1P:
        return stopped(g, g / (one + x), zero), zero
    if opcode == EXPM1:
        return stopped(g, g * functions.exp(x), zero), zero
    if opcode == ERF:
        return stopped(g, g * (converted(DENSITY, one) * functions.exp(-(x * x))), zero), zero
    return arithmetic_back(opcode, g, x, y, z, one)


@inlined
def selected(c: Any, x: Any, y: Any, one: Any) -> Any:
    """x where c is not 0, y elsewhere."""
    return select(c != one - one, x, y)


@inlined
def power(x: Any, exponent: Any) -> Any:
    """x to the exponent."""
    return functions.power(x, exponent)


@inlined
def power_back(g: Any, x: Any, exponent: Any, one: Any) -> Any:
    """What a power passes back; exactly 0 for an exponent that is 0 or rounded to it, exactly ``g`` for 1."""
    zero = one - one
    onward = stopped(g, g * (exponent * functions.power(x, exponent - one)), zero)
    return select(exponent == zero, zero, onward)
