"""Numbers that callers give as arguments: whatever Python and NumPy have for them."""

from __future__ import annotations

from math import inf
from numbers import Real
from operator import index
from typing import SupportsIndex, cast

import numpy as np


def real(value: object) -> float | None:
    """A real number, infinite beyond float64; None if it is none. True and False are none."""
    number = value[()] if isinstance(value, np.ndarray) and value.ndim == 0 else value
    if isinstance(number, bool) or not isinstance(number, Real):
        return None
    try:
        return float(number)
    except OverflowError:
        return inf if number == abs(number) else -inf


def whole(value: object) -> int | None:
    """An integer; None if it is none. True and False are none."""
    if isinstance(value, bool):
        return None
    try:
        return index(cast("SupportsIndex", value))
    except TypeError:
        return None
