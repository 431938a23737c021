"""What a node does: the one numbering of columns, reference and machine."""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray


class Opcode(IntEnum):
    """Kind of a node. The numbers of what graphs have are part of their ids and stay."""

    PARAMETER = 0
    INPUT = 1
    CONSTANT = 2
    ADD = 3
    MUL = 4
    MAX = 5
    SIGMOID = 6
    EXP = 7
    LOG = 8
    TANH = 9
    SOFTPLUS = 10
    POWER = 11
    SUM = 12
    REDUCE_MAX = 13
    LOGSUMEXP = 14
    MATMUL = 15
    RESHAPE = 16
    TRANSPOSE = 17
    TAKE = 18
    ELEMENT = 19
    """One element of a float tensor, by its flat index; the codec makes it of a packed node's operand."""
    STACK = 20
    """Vector of scalars; the codec makes it of a packed node's results."""
    STOP_GRADIENT = 24

    EQUAL = 30
    SIN = 37
    COS = 38
    LOG1P = 39
    EXPM1 = 40
    ERF = 41
    LESS = 42
    CUMSUM = 43
    CONCATENATE = 44
    SLICE = 45
    SCATTER_ADD = 46
    SELECT = 47

    # Special cases of powers, of ties, and of more than two operands, in code only.
    SQUARE = 21
    RECIPROCAL = 22
    MAX_SPLIT = 23
    PRODUCT = 48
    TOTAL = 49
    GREATEST = 50
    GREATEST_SPLIT = 51
    MIXED = 52
    # Steps of the machine, in code only.
    COPY = 29
    SHARE = 31
    SHARE_SPLIT = 32
    WINNER = 33
    SHIFTED_EXP = 34
    LOG_TOTAL = 35
    SOFTMAX = 36
    BACK = 64
    """Added to an opcode, it means what goes back to the first operand."""


SOURCES = frozenset({Opcode.PARAMETER, Opcode.INPUT, Opcode.CONSTANT})
"""Nodes without operands."""

FUNCTIONS = frozenset(
    {
        Opcode.SIGMOID,
        Opcode.EXP,
        Opcode.LOG,
        Opcode.TANH,
        Opcode.SOFTPLUS,
        Opcode.SIN,
        Opcode.COS,
        Opcode.LOG1P,
        Opcode.EXPM1,
        Opcode.ERF,
    }
)
"""Functions of one number."""

ELEMENTWISE = FUNCTIONS | {
    Opcode.ADD,
    Opcode.MUL,
    Opcode.MAX,
    Opcode.POWER,
    Opcode.LESS,
    Opcode.EQUAL,
    Opcode.SELECT,
}
"""Operations that work element by element."""

COMPUTING = ELEMENTWISE | {
    Opcode.SUM,
    Opcode.REDUCE_MAX,
    Opcode.LOGSUMEXP,
    Opcode.MATMUL,
    Opcode.CUMSUM,
    Opcode.SCATTER_ADD,
}
"""Operations that make new numbers; the others move those that there are."""


def marks(opcodes: Iterable[Opcode]) -> NDArray[np.bool_]:
    """By number, whether it is one of these."""
    marked = np.zeros(max(Opcode) + 1, np.bool_)
    marked[list(opcodes)] = True
    return marked
