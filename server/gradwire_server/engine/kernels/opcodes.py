"""What the kernel can do with each element of an array."""

from __future__ import annotations

from enum import IntEnum


class Opcode(IntEnum):
    """Operations of the kernel on one operand or two; the numbers are the kernel's own."""

    ADD = 0
    MUL = 1
    MAX = 2
    MAX_SPLIT = 3
    SIGMOID = 4
    EXP = 5
    LOG = 6
    TANH = 7
    SOFTPLUS = 8
    SQUARE = 9
    RECIPROCAL = 10
    POWER = 11
