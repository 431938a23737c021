"""What calls share whose arrays differ in their elements alone: it is made once."""

from __future__ import annotations

from collections.abc import KeysView, Mapping
from functools import lru_cache
from math import prod
from typing import Any

import numpy as np

from gradwire._arrays import FLOAT64, NUMBERS, Array
from gradwire._calls.forms import Form
from gradwire._calls.problem import Problem
from gradwire.v1 import gradient_service_pb2 as pb
from gradwire.v1 import tensor_pb2


class Layout:
    """Names, shapes and types of the arrays of a call, and what follows from them.

    Args:
        problem: The graph for them.
        arrays: As ``convert`` makes them.
        dtype: Their float dtype.
        asked: What to do with them, serialized.
        form: How the arguments of a function nested them; None of an expression or a graph.
        reply_bytes: About how large the gradients are.
    """

    __slots__ = ("_before", "_expected", "asked", "dtype", "form", "problem", "reply_bytes", "request_bytes")

    def __init__(
        self,
        problem: Problem,
        arrays: Mapping[str, Array],
        dtype: np.dtype[Any],
        asked: bytes,
        form: Form | None,
        reply_bytes: int,
    ) -> None:
        self.problem = problem
        self.dtype = dtype
        self.asked = asked
        self.form = form
        self.reply_bytes = reply_bytes
        self.request_bytes = sum(array.nbytes for array in arrays.values())
        """Elements of the arrays, together, in bytes."""
        self._expected = {name: (array.shape, array.dtype) for name, array in arrays.items()}
        self._before: dict[str, bytes] | None = None

    @property
    def names(self) -> KeysView[str]:
        """Names of the arrays."""
        return self._expected.keys()

    @property
    def before(self) -> Mapping[str, bytes]:
        """What a request has before the elements of each array, serialized; the engine in this process needs none."""
        if self._before is None:
            self._before = {name: _before_elements(name, *own) for name, own in self._expected.items()}
        return self._before

    def arrays(self, values: Mapping[str, Any], form: Form | None) -> Mapping[str, Array] | None:
        """What ``convert`` makes of these values, if they are laid out so and it has nothing to find out."""
        expected = self._expected
        if form is not self.form or len(values) != len(expected):
            return None
        are_arrays = True
        for name, value in values.items():
            shape, dtype = expected.get(name) or _NONE
            if type(value) is np.ndarray:
                # NumPy has one object for each dtype of its own; another one that is equal ``convert`` finds out.
                if value.dtype is not dtype or value.shape != shape or not value.flags.c_contiguous:
                    return None
            elif dtype is FLOAT64 and shape == () and type(value) in _NUMBERS:
                are_arrays = False
            else:
                return None
        return values if are_arrays else {name: np.asarray(value) for name, value in values.items()}


_NUMBERS = {float, np.float64}
"""Numbers that are arrays of float64."""

_NONE = (None, None)


def beginnings(arrays: Mapping[str, Array]) -> dict[str, bytes]:
    """What a request has before the elements of each array, serialized."""
    return {name: _before_elements(name, array.shape, array.dtype) for name, array in arrays.items()}


@lru_cache(maxsize=1024)
def _before_elements(name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> bytes:
    nbytes = prod(shape) * dtype.itemsize
    tensor = tensor_pb2.Tensor(dtype=NUMBERS[dtype], shape=shape, raw=bytes(nbytes))
    entry = pb.ComputeGradientsRequest(tensors={name: tensor}).SerializeToString()
    return entry[: len(entry) - nbytes]
