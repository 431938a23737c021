"""Whether numbers are finite."""

from __future__ import annotations

from typing import Any

from gradwire_server.engine.kernels.caching import compiled


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
