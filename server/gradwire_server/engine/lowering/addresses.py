"""Where the elements of arrays are in memory."""

from __future__ import annotations

from collections.abc import Callable
from ctypes import c_size_t

import numpy as np

from gradwire_server.engine.graph.graph import Array


def _offset_of_data() -> int:
    """Where the object of an array has the address of its elements; 0 if it cannot be found."""
    array = np.empty(1)
    for offset in (16, 32):
        # Behind the head of the object, in NumPy's binary interface.
        if c_size_t.from_address(id(array) + offset).value == array.ctypes.data:
            return offset
    return 0


OFFSET = _offset_of_data()


def address(array: Array) -> int:
    """Where the elements of an array are; ``array.ctypes.data`` takes ten times as long."""
    return c_size_t.from_address(id(array) + OFFSET).value if OFFSET else array.ctypes.data


handle: Callable[[Array], int] = id if OFFSET else address
"""What the machine finds the elements of an array by, at once: where the object is, or else its elements."""
