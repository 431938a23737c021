"""Tensors of the wire <-> NumPy arrays, without a copy on the way in."""

from __future__ import annotations

from collections.abc import Collection
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gradwire.v1 import tensor_pb2 as pb
from gradwire.v1.gradient_service_pb2 import FramedTensor
from gradwire_server.engine.graph import shapes

Array = NDArray[Any]
Dtype = np.dtype[Any]

FLOAT32: np.dtype[np.float32] = np.dtype("<f4")
FLOAT64: np.dtype[np.float64] = np.dtype("<f8")
INT64: np.dtype[np.int64] = np.dtype("<i8")

_NUMBERS: dict[Dtype, pb.Dtype] = {FLOAT32: pb.DTYPE_FLOAT32, FLOAT64: pb.DTYPE_FLOAT64, INT64: pb.DTYPE_INT64}
_DTYPES: dict[int, Dtype] = {number: dtype for dtype, number in _NUMBERS.items()}
_ALLOWED = ", ".join(map(pb.Dtype.Name, _NUMBERS.values()))


class TensorError(Exception):
    """What is wrong with a tensor, as the end of a sentence that begins with its name.

    ``field`` is the wrong field of the tensor.
    """

    def __init__(self, message: str, field: str) -> None:
        super().__init__(message)
        self.field = field


def known_dtype(number: int) -> Dtype:
    """The NumPy dtype for a number of the enum, other than 0.

    Raises:
        TensorError: if this server does not know the number.
    """
    dtype = _DTYPES.get(number)
    if dtype is None:
        raise TensorError(f"has the unknown dtype {number}; allowed are {_ALLOWED}", "dtype")
    return dtype


def _dtype(number: int, request: Dtype | None) -> Dtype:
    """The dtype of a tensor in a request of float dtype ``request``; None for a constant, which may have either."""
    if number == pb.DTYPE_UNSPECIFIED:
        return request or FLOAT64
    dtype = known_dtype(number)
    if request is not None and dtype.kind == "f" and dtype != request:
        raise TensorError(
            f"is {dtype}, but the request is {request}; nothing is promoted, so set the request's dtype to {dtype} "
            f"or send {request}",
            "dtype",
        )
    return dtype


class Layout(NamedTuple):
    """What a tensor's elements must be."""

    dtype: Dtype
    shape: tuple[int, ...]
    elements: int

    @property
    def nbytes(self) -> int:
        """Size of the elements in bytes."""
        return self.elements * self.dtype.itemsize


def layout_of(tensor: pb.Tensor | FramedTensor, request: Dtype | None, max_rank: int) -> Layout:
    """The layout that a tensor announces in a request of float dtype ``request``.

    It may have one axis more than the tensors of a graph, that of examples. A constant of a graph has no request
    (None); it may have either float dtype.

    Raises:
        TensorError: if there can be no such tensor.
    """
    axes = tensor.shape
    if request is not None:
        max_rank += 1
    if len(axes) > max_rank:
        raise TensorError(f"has {len(axes)} axes; at most {max_rank} are allowed", "shape")
    return _layout(tensor.dtype, tuple(axes), request, max_rank)


@lru_cache(maxsize=1024)
def _layout(number: int, shape: tuple[int, ...], request: Dtype | None, max_rank: int) -> Layout:
    # Kept, for the requests of a training loop are alike.
    dtype = _dtype(number, request)
    problem = shapes.problem(shape, max_rank)
    if problem is not None:
        raise TensorError(problem, "shape")
    return Layout(dtype, shape, shapes.size(shape))


def decode_tensor(tensor: pb.Tensor, request: Dtype | None, max_rank: int) -> Array:
    """The tensor as a read-only array over its own bytes; ``request`` is as for ``layout_of``.

    Raises:
        TensorError: if the elements do not fit dtype and shape.
    """
    dtype, shape, count = layout_of(tensor, request, max_rank)
    raw, given = tensor.raw, len(tensor.values)
    if not given and len(raw) == count * dtype.itemsize:
        return np.ndarray(shape, dtype, raw)
    if raw and given:
        raise TensorError(f"has {len(raw)} bytes in raw and {given} numbers in values; send one of them", "raw")
    if given == count:
        return _typed(tensor.values, dtype).reshape(shape)
    described = f"has shape {shapes.text(shape)} and dtype {dtype}"
    if raw:
        raise TensorError(f"{described}: expected {count * dtype.itemsize} bytes in raw, got {len(raw)}", "raw")
    if given:
        raise TensorError(f"{described}: expected {count} numbers in values, got {given}", "values")
    raise TensorError(
        f"{described} but no elements: expected {count * dtype.itemsize} bytes in raw or {count} numbers in values",
        "raw",
    )


def _typed(values: Collection[float], dtype: Dtype) -> Array:
    numbers = np.fromiter(values, FLOAT64, len(values))
    if dtype == FLOAT64:
        return numbers
    if dtype != INT64:
        with np.errstate(over="ignore"):
            return numbers.astype(dtype, copy=False)
    # NaN and infinities compare false. 2^63 itself is a double but no int64.
    whole = (np.trunc(numbers) == numbers) & (numbers >= -(2.0**63)) & (numbers < 2.0**63)
    if not whole.all():
        position = int(np.argmin(whole))
        raise TensorError(
            f"is int64, but number {position} in values is {numbers[position]:g}, which is no whole number of 64 bits",
            f"values[{position}]",
        )
    return numbers.astype(INT64)


def encode_tensor(array: Array) -> pb.Tensor:
    """The array as a tensor with raw elements."""
    tensor = pb.Tensor()
    put_tensor(array, tensor)
    return tensor


def put_tensor(array: Array, tensor: pb.Tensor) -> None:
    """Put an array into an empty tensor, which a message has already: one copy less than to assign it there."""
    tensor.dtype = _NUMBERS[array.dtype]
    tensor.shape.extend(array.shape)
    tensor.raw = array.tobytes()


def dtype_number(dtype: Dtype) -> pb.Dtype:
    """The number of the enum for a NumPy dtype."""
    return _NUMBERS[dtype]
