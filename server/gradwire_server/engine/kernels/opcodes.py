"""What the kernels can do with each element of an array, or with scalars."""

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


class TapeOpcode(IntEnum):
    """Operations of the kernel of tapes; the numbers are the kernel's own, and the order in which groups take turns."""

    MUL = 0
    SQUARE = 1
    RECIPROCAL = 2
    ADD = 3
    MAX = 4
    MAX_SPLIT = 5
    POWER = 6
    EXP = 7
    LOG = 8
    SIGMOID = 9
    TANH = 10
    SOFTPLUS = 11
    PRODUCT = 12
    SUM = 13
    LARGEST = 14
    LARGEST_SPLIT = 15
    MIXED = 16


class Run(IntEnum):
    """Where the arguments of a group's operations are."""

    NONE = 0
    """Anywhere."""
    RANGES = 1
    """One after another: those that are the first, and so those that are the second; of SUM, those of each operation.
    None of them is in the group."""
    FIRST = 2
    """The first argument is the same for all, the second ones stand one after another; none of them is in the group."""
    SECOND = 3
    """The same, with the second argument the same for all."""
