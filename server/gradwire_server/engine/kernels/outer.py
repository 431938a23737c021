"""Outer products of vectors, an example at a time."""

from __future__ import annotations

from typing import Any

import numpy as np

from gradwire_server.engine.kernels.caching import compiled


@compiled
def outer(a: Any, b: Any, out: Any) -> bool:
    """[lanes, m] times [lanes, n] into [lanes, m, n]; whether all products are finite.

    Memory is written once, and read never: that is all the time that it takes.
    """
    zero = out.dtype.type(0)
    largest, poison = zero, zero
    for lane in range(len(out)):
        p = q = zero
        for j in range(b.shape[1]):
            q = max(q, abs(b[lane, j]))
            poison += b[lane, j] * zero
        for i in range(a.shape[1]):
            factor = a[lane, i]
            p = max(p, abs(factor))
            poison += factor * zero
            for j in range(b.shape[1]):
                # As if added to the zero that a gradient begins with: that makes 0 of -0.
                out[lane, i, j] = factor * b[lane, j] + zero
        largest = max(largest, p * q)
    # Rounding keeps the order: if the product of the largest is finite, so are all.
    return largest + poison < out.dtype.type(np.inf)
