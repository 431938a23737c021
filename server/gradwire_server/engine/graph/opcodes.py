"""What a node does: the one numbering of columns, reference and machine."""

from __future__ import annotations

from enum import IntEnum


class Opcode(IntEnum):
    """Kind of a node. Numbers from ADD to POWER work element by element."""

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

    # Special cases of powers, of ties, and of more than two operands, in code only.
    SQUARE = 21
    RECIPROCAL = 22
    MAX_SPLIT = 23
    PRODUCT = 24
    TOTAL = 25
    GREATEST = 26
    GREATEST_SPLIT = 27
    MIXED = 28
    # Steps of the machine, in code only.
    COPY = 29
    EQUAL = 30
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
