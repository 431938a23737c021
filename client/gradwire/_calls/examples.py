"""Examples that a server keeps: uploaded at the first call that is about them, and named by all others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from threading import Lock
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import DTypeLike, NDArray

from gradwire._arrays import AS_NUMBERS, FLOAT64, INT64, MAX_INDEX, NUMBERS, Array, as_array, cut, encode_tensor, merged
from gradwire._calls.arguments import flatten_into
from gradwire._calls.forms import Leaves, Plain, Spec, leaf_names, put_together
from gradwire._calls.holders import Holders
from gradwire._errors import InvalidRequestError
from gradwire.v1 import gradient_service_pb2 as pb
from gradwire.v1.examples import PART_BYTES, Hashed, examples_id

KEYWORD = "examples"
"""The keyword under which calls take them."""

Rows: TypeAlias = "range | NDArray[np.int64]"
"""Rows that follow each other, or their numbers."""


class Examples:
    """Arrays with an axis of examples, or some rows of them; made by ``client.examples``.

    ``len(data)`` is their number; ``data[a:b]``, ``data[indices]`` and ``data[mask]`` are rows of them, as of an array,
    without a copy.
    """

    __slots__ = ("_data", "_rows")

    def __init__(self, data: _Data, rows: Rows) -> None:
        self._data = data
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, key: Any) -> Examples:  # noqa: ANN401  (whatever a caller gives)
        """Rows of these.

        Args:
            key: A slice, an array of integers, of which negative ones count from the end, or a mask ``[N]``.

        Raises:
            InvalidRequestError: There are no such rows.
        """
        if isinstance(key, slice):
            return Examples(self._data, self._sliced(key))
        indices = _as_indices(key, len(self))
        rows = indices + self._rows.start if isinstance(self._rows, range) else self._rows[indices]
        return Examples(self._data, rows)

    def _sliced(self, key: slice) -> Rows:
        try:
            rows = self._rows[key]
        except TypeError as error:
            raise InvalidRequestError(f"rows {key!r:.64} of examples: {error}") from None
        if not isinstance(rows, range):
            return rows
        # A slice that ends before it begins has no rows, and a server would not take it for a range.
        return (
            range(rows.start, rows.start + len(rows)) if rows.step == 1 else np.arange(rows.start, rows.stop, rows.step)
        )

    def __repr__(self) -> str:
        return f"<{len(self)} examples of {', '.join(self._data.arrays)}>"

    def arguments(self) -> dict[str, Any]:
        """The arguments of a function that these are, as they were given, with columns for arrays."""
        columns = self.columns()
        return {name: put_together(leaf_names(name, spec), spec, columns) for name, spec in self._data.specs.items()}

    def columns(self) -> dict[str, Column]:
        """Each array by name."""
        return {name: Column(self._data, name, self._rows) for name in self._data.arrays}


class Column:
    """Rows of one array of examples; NumPy makes them an array."""

    __slots__ = ("_data", "_name", "_rows")

    def __init__(self, data: _Data, name: str, rows: Rows) -> None:
        self._data = data
        self._name = name
        self._rows = rows

    @property
    def none(self) -> Array:
        """None of the rows, ``[0, *shape]``."""
        return self._data.arrays[self._name][:0]

    @property
    def shape(self) -> tuple[int, ...]:
        """``[N, *shape]``."""
        return len(self._rows), *self.none.shape[1:]

    @property
    def dtype(self) -> np.dtype[Any]:
        """Its type as it was given."""
        return self.none.dtype

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> Array:
        rows = _taken(self._data.arrays[self._name], self._rows)
        return np.array(rows, dtype, copy=copy)

    def stored(self, dtypes: Mapping[str, np.dtype[Any]]) -> Stored:
        """The rows of all arrays with these names, which have these types in the call."""
        return Stored(self._data.form(dtypes), self._rows, tuple(dtypes))


class Stored(NamedTuple):
    """Rows of examples that a server may keep."""

    form: Form
    rows: Rows
    names: tuple[str, ...]
    """Arrays that the call is about."""

    def asked(self) -> pb.StoredExamples:
        """The rows, as a request names them."""
        found = pb.StoredExamples(examples_id=self.form.examples_id)
        if not isinstance(self.rows, range):
            found.indices.CopyFrom(encode_tensor(self.rows))
        elif len(self.rows) != self.form.count:
            found.range.start, found.range.stop = self.rows.start, self.rows.stop
            found.range.SetInParent()
        return found

    def arrays(self) -> dict[str, Array]:
        """The rows themselves."""
        return {name: self.form.converted(name, self.rows) for name in self.names}


class Upload(NamedTuple):
    """Have a server keep examples, unless they were uploaded since; the answer is whether it did so already."""

    form: Form
    seen: int
    """How often they had been uploaded when it was found that a server lacks them."""

    @property
    def examples_id(self) -> str:
        """Their id."""
        return self.form.examples_id


class Form:
    """Arrays of examples in the types that a loss has for them, and what servers are known to keep of them.

    Safe to share among threads.
    """

    def __init__(self, arrays: Mapping[str, Array], dtypes: Mapping[str, np.dtype[Any]]) -> None:
        self._arrays = arrays
        self.dtypes = dtypes
        self.count = len(next(iter(arrays.values())))
        nbytes = sum(array.size * dtypes[name].itemsize for name, array in arrays.items())
        self.holders = Holders(nbytes)
        self.uploads = 0
        """Times that they were uploaded."""
        self._id = ""
        self._lock = Lock()

    @property
    def examples_id(self) -> str:
        """Their id; reads all of them the first time."""
        with self._lock:
            if not self._id:
                self._id = examples_id(
                    Hashed(name, NUMBERS[self.dtypes[name]], array.shape, self.parts(name, PART_BYTES))
                    for name, array in self._arrays.items()
                )
            return self._id

    def framed(self) -> Iterator[pb.FramedTensor]:
        """What is announced of each array."""
        for name, array in self._arrays.items():
            yield pb.FramedTensor(name=name, dtype=NUMBERS[self.dtypes[name]], shape=array.shape)

    def parts(self, name: str, nbytes: int) -> Iterator[memoryview]:
        """The elements of an array as they travel, at most so many bytes at a time; what is mapped is read then."""
        array, dtype = self._arrays[name], self.dtypes[name]
        if not array.size:
            return
        if array.dtype == dtype and array.flags.c_contiguous:
            yield from cut(array, nbytes)
            return
        step = max(1, nbytes // (array[:1].size * dtype.itemsize))
        for start in range(0, len(array), step):
            yield from cut(self.converted(name, range(start, min(start + step, len(array)))), nbytes)

    def converted(self, name: str, rows: Rows) -> Array:
        """Rows of an array, as they travel."""
        with np.errstate(over="ignore"):
            return np.asarray(_taken(self._arrays[name], rows), self.dtypes[name], order="C")


class _Data:
    """Arrays with as many rows each, and their forms."""

    def __init__(self, arrays: dict[str, Array], specs: dict[str, Spec]) -> None:
        self.arrays = arrays
        self.specs = specs
        """How each argument nests them."""
        self._forms: list[Form] = []
        self._lock = Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        return _Data, (self.arrays, self.specs)

    def form(self, dtypes: Mapping[str, np.dtype[Any]]) -> Form:
        """The form in which the arrays with these names have these types."""
        with self._lock:
            for form in self._forms:
                if all(form.dtypes.get(name) == dtype for name, dtype in dtypes.items()):
                    return form
            floats = next((dtype for dtype in dtypes.values() if dtype.kind == "f"), FLOAT64)
            others = {name: INT64 if array.dtype.kind in "iu" else floats for name, array in self.arrays.items()}
            for name, array in self.arrays.items():
                if others[name].kind == "i" and array.dtype == np.uint64 and array.max(initial=0) > MAX_INDEX:
                    raise InvalidRequestError(f'array "{name}" has integers above {MAX_INDEX}', node=name)
            # What is fed from an array of integers as numbers too is kept as such too.
            more = {name: self.arrays[name.removesuffix(AS_NUMBERS)] for name in dtypes if name not in self.arrays}
            self._forms.append(Form({**self.arrays, **more}, {**others, **dtypes}))
            return self._forms[-1]


def examples(arrays: Mapping[str, Any] | None, named: Mapping[str, Any]) -> Examples:
    """Examples of these arrays, as ``Client.examples`` takes them.

    Raises:
        InvalidRequestError: They are none, or differ in their numbers of examples.
    """
    leaves: dict[str, Any] = {}
    specs = {name: flatten_into(leaves, name, value, sequences=False) for name, value in merged(arrays, named).items()}
    for name, spec in specs.items():
        if isinstance(spec, Plain):
            raise InvalidRequestError(f'"{name}" is {spec.value!r:.64}, no array; give it with the call', node=name)
    found = {name: as_array(name, value) for name, value in leaves.items()}
    if not found:
        raise InvalidRequestError("examples have at least one array; give them by name, as examples(phi=..., y=...)")
    counts = {name: len(array) if array.ndim else None for name, array in found.items()}
    first = next(iter(counts))
    for name, count in counts.items():
        if count is None:
            raise InvalidRequestError(f'"{name}" is one number; the first axis is that of examples', node=name)
        if count != counts[first]:
            raise InvalidRequestError(
                f'"{first}" has {counts[first]} examples, "{name}" has {count}; all have the same number', node=name
            )
    return Examples(_Data(found, specs), range(len(found[first])))


class WithColumns(Leaves):
    """The arrays of a call by name, columns of examples among them."""

    __slots__ = ()


def columns_in(values: WithColumns) -> dict[str, Column]:
    """The columns among the values of a call."""
    return {name: value for name, value in values.items() if type(value) is Column}


def stored_of(columns: Mapping[str, Column], dtypes: Mapping[str, np.dtype[Any]]) -> Stored:
    """What a call names of examples, whose arrays have these types in it.

    Raises:
        InvalidRequestError: Row indices are no integers.
    """
    for name, dtype in dtypes.items():
        found = columns[name].dtype
        if dtype.kind == "i" and found.kind not in "iu":
            raise InvalidRequestError(f'array "{name}" has dtype {found}; row indices are integers', node=name)
    return next(iter(columns.values())).stored(dtypes)


def _as_indices(key: Any, count: int) -> NDArray[np.int64]:  # noqa: ANN401  (whatever a caller gives)
    """The numbers of the rows that an array of integers or a mask means, of so many."""
    array = as_array("rows", key)
    if array.ndim != 1:
        raise InvalidRequestError(
            f"rows of examples are a slice, or an array with one axis; found shape {array.shape}: for one example "
            "give a slice, as data[3:4]"
        )
    if array.dtype.kind == "b":
        if len(array) != count:
            raise InvalidRequestError(f"a mask of {len(array)} rows for {count} examples; give one for each")
        return np.flatnonzero(array)
    if array.size and array.dtype.kind not in "iu":
        raise InvalidRequestError(f"numbers of rows are integers; found dtype {array.dtype}")
    wrong = (array < -count) | (array >= count)
    if wrong.any():
        raise InvalidRequestError(f"row {array[np.argmax(wrong)]} of {count} examples, numbered from 0")
    indices = array.astype(np.int64)
    return np.where(indices < 0, indices + count, indices)


def _taken(array: Array, rows: Rows) -> Array:
    return array[rows.start : rows.stop] if isinstance(rows, range) else np.take(array, rows, axis=0)
