"""Whether numbers are finite."""

from __future__ import annotations

from typing import Any

import numpy as np

from gradwire_server.engine.kernels.caching import compiled

EXPONENTS = {
    np.dtype(np.float64): (np.uint64, np.uint64(0x7FF0_0000_0000_0000)),
    np.dtype(np.float32): (np.uint32, np.uint32(0x7F80_0000)),
}
"""By dtype: integers as wide, and the bits of the exponent, all of which infinities and NaN have."""


@compiled
def all_finite(bits: Any, exponent: Any) -> bool:
    """Whether no element has an exponent of ones only, as infinities and NaN have.

    Args:
        bits: Those of floats, [elements], contiguous: integers are compared in any order, so LLVM makes vectors.
        exponent: The mask of the exponent's bits.
    """
    bad = False
    for i in range(len(bits)):
        bad = bad | ((bits[i] & exponent) == exponent)
    return not bad
