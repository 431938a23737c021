"""Arrays of NumPy <-> tensors of the contract."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from gradwire._errors import InvalidRequestError
from gradwire.v1 import tensor_pb2

Array = NDArray[Any]

_SURROGATE = re.compile("[\ud800-\udfff]")

FLOAT32, FLOAT64, INT64 = np.dtype("<f4"), np.dtype("<f8"), np.dtype("<i8")
NUMBERS: Mapping[np.dtype[Any], tensor_pb2.Dtype] = {
    FLOAT32: tensor_pb2.DTYPE_FLOAT32,
    FLOAT64: tensor_pb2.DTYPE_FLOAT64,
    INT64: tensor_pb2.DTYPE_INT64,
}
MAX_INDEX = np.iinfo(np.int64).max
AS_NUMBERS = " as numbers"
"""What the name of an input ends with that holds, as floats, the integers of the input that it begins with."""
_DTYPES = {number: dtype for dtype, number in NUMBERS.items()}


def float_dtype(dtype: DTypeLike | None) -> np.dtype[Any] | None:
    """The float dtype of a call; None if its arrays decide.

    Raises:
        InvalidRequestError: It is neither float32 nor float64.
    """
    if dtype is None:
        return None
    found = dtype_of(dtype)
    for known in (FLOAT32, FLOAT64):
        # NumPy takes None for float64.
        if found is not None and found == known:
            return known
    raise InvalidRequestError(f"dtype={dtype!r} is unknown; choose 'float32' or 'float64'")


def dtype_of(dtype: object) -> np.dtype[Any] | None:
    """The little-endian dtype that NumPy takes this for; None if it takes it for none."""
    try:
        return np.dtype(cast("DTypeLike", dtype)).newbyteorder("<")
    except Exception:  # noqa: BLE001  (whatever NumPy raises for it)
        return None


def is_text(name: object) -> bool:
    """Whether a message can hold it as a name: a string without halves of surrogate pairs."""
    return isinstance(name, str) and not _SURROGATE.search(name)


def merged(arrays: Mapping[Any, ArrayLike] | None, named: Mapping[str, ArrayLike]) -> dict[str, ArrayLike]:
    """Arrays given in a mapping and by keyword.

    Raises:
        InvalidRequestError: A name is given in both ways, or is none.
    """
    if arrays is not None and not isinstance(arrays, Mapping):
        raise InvalidRequestError(
            f"arrays are given by name, as keywords or in a mapping; found {type(arrays).__name__}"
        )
    check_names(named)
    if not arrays:
        return dict(named)
    check_names(arrays)
    twice = sorted(arrays.keys() & named.keys()) if named else ()
    if twice:
        raise InvalidRequestError(f'array "{twice[0]}" is given twice, in the mapping and by keyword', node=twice[0])
    return {**arrays, **named}


def check_names(names: Collection[object]) -> None:
    """See that a message can hold the names of arrays.

    Raises:
        InvalidRequestError: It cannot.
    """
    # Nearly all are plain, which is found out at once.
    if _STRING.issuperset(map(type, names)) and "".join(cast("Collection[str]", names)).isascii():
        return
    odd = [name for name in names if not is_text(name)]
    if odd:
        raise InvalidRequestError(f"names of arrays are strings; found {odd[0]!r:.64}; give text that UTF-8 can hold")


_STRING = {str}


def convert(
    values: Mapping[str, ArrayLike], integers: Collection[str], dtype: np.dtype[Any] | None
) -> tuple[dict[str, Array], np.dtype[Any]]:
    """What a caller gives as little-endian, C-contiguous arrays of one float dtype, and that dtype.

    Args:
        values: By name. Whole numbers become floats; numbers and lists have no dtype of their own.
        integers: Names of sources of row indices, which stay int64.
        dtype: Float dtype to cast to. None: that of the arrays, or float64 if no array has one.

    Raises:
        InvalidRequestError: A value is no array of numbers, or float arrays differ in dtype.
    """
    ready = _ready(values, integers, dtype)
    if ready is not None:
        return ready
    arrays = {name: as_array(name, value) for name, value in values.items()}
    indices = {name: _as_indices(name, array) for name, array in arrays.items() if name in integers}
    common = dtype or _common(
        {name: a for name, a in arrays.items() if name not in integers and hasattr(values[name], "dtype")}
    )
    with np.errstate(over="ignore"):
        floats = {name: np.asarray(a, common, order="C") for name, a in arrays.items() if name not in integers}
    return {name: indices.get(name, floats.get(name)) for name in arrays}, common  # type: ignore[misc]  # one of the two


def _ready(
    values: Mapping[str, ArrayLike], integers: Collection[str], dtype: np.dtype[Any] | None
) -> tuple[dict[str, Array], np.dtype[Any]] | None:
    """What ``convert`` gives for arrays that need no conversion, and floats; None if there is anything else."""
    for name, value in values.items():
        if type(value) is float and name not in integers:
            continue
        own = _dtype_of_ready(value)
        expected = INT64 if name in integers else dtype
        if own is not expected or own is None:
            if expected is not None or (own is not FLOAT64 and own is not FLOAT32):
                return None
            dtype = own
    common = dtype or FLOAT64
    if _ARRAY.issuperset(map(type, values.values())):
        return cast("dict[str, Array]", dict(values)), common
    # A number that is too large for float32 is told of by NumPy.
    return None if common is FLOAT32 else ({name: np.asarray(value) for name, value in values.items()}, common)


_ARRAY = {np.ndarray}


def _dtype_of_ready(value: object) -> np.dtype[Any] | None:
    """The dtype of an array that is C-contiguous, or of a number of NumPy's float64."""
    # NumPy has one object for each dtype of its own, so that identity is enough for most.
    if type(value) is np.ndarray:
        return value.dtype if value.flags.c_contiguous else None
    return FLOAT64 if type(value) is np.float64 else None


def as_array(name: str, value: ArrayLike) -> Array:
    """The array of real numbers that a caller means.

    Raises:
        InvalidRequestError: It is none.
    """
    if np.ma.is_masked(value):
        raise InvalidRequestError(f'array "{name}" has masked elements; fill them or leave them out', node=name)
    try:
        array = _of_columns(value)
        if array is None:
            array = _of_rows(np.asarray(value))
    except Exception as error:  # whatever the caller's object raises
        raise InvalidRequestError(f'"{name}" is no array: {error}', node=name) from error
    if array.dtype.kind not in "biuf":
        raise InvalidRequestError(
            f'array "{name}" has dtype {array.dtype}; expected real numbers, all in one rectangular shape', node=name
        )
    return array


def _of_columns(value: Any) -> Array | None:  # noqa: ANN401  (whatever a caller gives)
    """The array of a table or column of pandas whose numbers are not NumPy's, but Arrow's or its own, such as Int64.

    NumPy makes objects of several such columns, and of one where values are missing, which are NaN here. None for
    anything else.
    """
    if not (hasattr(value, "iloc") and hasattr(value, "to_numpy")):
        return None
    columns = [value.iloc[:, place] for place in range(value.shape[1])] if value.ndim == 2 else [value]
    dtypes = [column.dtype for column in columns]
    if all(isinstance(dtype, np.dtype) for dtype in dtypes) or any(dtype.kind not in "biuf" for dtype in dtypes):
        return None
    arrays = [np.asarray(column) for column in columns]
    numbers = [
        column.to_numpy(FLOAT64, na_value=np.nan) if array.dtype.kind == "O" else array
        for column, array in zip(columns, arrays, strict=True)
    ]
    return np.stack(numbers, axis=-1) if value.ndim == 2 else numbers[0]


def _of_rows(array: Array) -> Array:
    """The array of a column whose elements are lists or arrays, as of embeddings; any other array as it is."""
    if array.dtype.kind == "O" and array.ndim == 1 and array.size and isinstance(array[0], np.ndarray | list):
        return np.array(array.tolist())
    return array


def holds_integers(array: Array) -> bool:
    """Whether these are integers; an array of no elements has none that is not, and an empty list is one of floats."""
    return array.dtype.kind in "iu" or array.size == 0


def _as_indices(name: str, array: Array) -> Array:
    if not holds_integers(array):
        raise InvalidRequestError(f'array "{name}" has dtype {array.dtype}; row indices are integers', node=name)
    if array.size and array.max() > MAX_INDEX:
        raise InvalidRequestError(f'array "{name}" has index {array.max()}; indices are of 64 bits, signed', node=name)
    return np.asarray(array, INT64, order="C")


def _common(arrays: Mapping[str, Array]) -> np.dtype[Any]:
    first: dict[np.dtype[Any], str] = {}
    for name, array in arrays.items():
        if array.dtype.kind == "f":
            first.setdefault(array.dtype.newbyteorder("<"), name)
    for dtype, name in first.items():
        if dtype not in (FLOAT32, FLOAT64):
            raise InvalidRequestError(
                f'array "{name}" has dtype {dtype}; expected float32 or float64, or choose with dtype=', node=name
            )
    if len(first) > 1:
        raise InvalidRequestError(
            f'array "{first[FLOAT32]}" has dtype float32 and array "{first[FLOAT64]}" float64; nothing is promoted: '
            "convert one of them, or choose with dtype=",
            node=first[FLOAT32],
        )
    return next(iter(first), FLOAT64)


def encode_tensor(array: Array) -> tensor_pb2.Tensor:
    """The tensor of an array as ``convert`` makes them."""
    return tensor_pb2.Tensor(dtype=NUMBERS[array.dtype], shape=array.shape, raw=array.tobytes())


def decode_tensor(tensor: tensor_pb2.Tensor) -> Array:
    """The array of a tensor; it may be written to."""
    dtype = _DTYPES.get(tensor.dtype, FLOAT64)
    raw = tensor.raw
    array: Array = np.frombuffer(bytearray(raw), dtype) if raw else np.array(tensor.values, dtype)
    return array.reshape(tensor.shape)


def empty(dtype: tensor_pb2.Dtype, shape: Collection[int]) -> Array:
    """An array whose elements come later."""
    return np.empty(tuple(shape), _DTYPES.get(dtype, FLOAT64))


def cut(array: Array, nbytes: int) -> Iterator[memoryview]:
    """The elements of a C-contiguous array, at most so many bytes at a time."""
    elements = array.reshape(-1).view(np.uint8).data
    for start in range(0, len(elements), nbytes):
        yield elements[start : start + nbytes]
