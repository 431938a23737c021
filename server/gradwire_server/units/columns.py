"""Columns of Arrow -> arrays: flat ones, lists of one length, and tensors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from gradwire._arrays import Array
from gradwire._errors import InvalidRequestError
from gradwire_server.units.formats import File, Unit, table_of

Names = Mapping[str, str | Sequence[str]]


class Column(NamedTuple):
    """Where the array of an input comes from."""

    names: tuple[str, ...]
    """Columns; the several ones of a vector are flat."""
    shape: tuple[int, ...]
    """The shape of one row."""
    dtype: np.dtype[Any]

    @property
    def row_bytes(self) -> int:
        """Bytes of one row."""
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize


def columns_of(inputs: Iterable[str], files: Sequence[File], names: Names) -> dict[str, Column]:
    """The columns of inputs, which all files have, in one type.

    Args:
        inputs: Names of inputs; each is that of its column unless ``names`` has another.
        files: At least one.
        names: Columns by input: one, or flat ones that are its elements.

    Raises:
        InvalidRequestError: A column is missing, or holds no numbers.
    """
    found = {}
    for name in inputs:
        given = names.get(name, name)
        columns = (given,) if isinstance(given, str) else tuple(given)
        kinds = [_kind(column, files) for column in columns]
        if isinstance(given, str):
            [(shape, dtype)] = kinds
            found[name] = Column(columns, shape, dtype)
            continue
        for column, (shape, _) in zip(columns, kinds, strict=True):
            if shape:
                raise InvalidRequestError(
                    f'column "{column}" has lists of shape {shape}; the several columns of input "{name}" are flat',
                    node=name,
                )
        found[name] = Column(columns, (len(columns),), np.result_type(*(dtype for _, dtype in kinds)))
    return found


def _kind(column: str, files: Sequence[File]) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Shape and dtype of a row."""
    first = files[0]
    for file in files:
        if column not in file.schema.names:
            raise InvalidRequestError(
                f'column "{column}" is missing from {file.path}, which has {", ".join(file.schema.names)}; '
                f'say which one it is, as columns={{"{column}": ...}}',
                node=column,
            )
        own, expected = file.schema.field(column).type, first.schema.field(column).type
        if own != expected:
            raise InvalidRequestError(
                f'column "{column}" is {own} in {file.path} and {expected} in {first.path}; write it in one type',
                node=column,
            )
    shape, element = _taken_apart(first.schema.field(column).type)
    if not (pa.types.is_integer(element) or pa.types.is_floating(element) or pa.types.is_boolean(element)):
        raise InvalidRequestError(
            f'column "{column}" is {first.schema.field(column).type} in {first.path}; expected numbers, or lists of '
            "numbers of one length",
            node=column,
        )
    dtype = np.dtype(element.to_pandas_dtype())
    if None in shape:
        return _measured(column, files), dtype
    return shape, dtype


def _taken_apart(kind: Any) -> tuple[tuple[Any, ...], Any]:
    """Lengths of nested lists, None where each row has its own; and the type of their elements."""
    if isinstance(kind, pa.FixedShapeTensorType) and kind.permutation is None:
        return tuple(kind.shape), kind.value_type
    lengths: list[int | None] = []
    while True:
        if pa.types.is_fixed_size_list(kind):
            lengths.append(kind.list_size)
        elif pa.types.is_list(kind) or pa.types.is_large_list(kind):
            lengths.append(None)
        else:
            return tuple(lengths), kind
        kind = kind.value_type


def _measured(column: str, files: Sequence[File]) -> tuple[int, ...]:
    """The shape of lists whose type does not say it: that of the first row there is."""
    for file in files:
        for unit in file.units:
            if unit.rows:
                value = np.array(table_of(unit, [column]).column(column)[0].as_py())
                return value.shape
    return (0,)


def arrays_of(unit: Unit, columns: Mapping[str, Column], *, threads: bool = False) -> dict[str, Array]:
    """The arrays of a unit, ``[rows, *shape]`` each.

    Raises:
        InvalidRequestError: A column has nulls, or lists of several lengths; or the unit cannot be read.
    """
    needed = dict.fromkeys(name for column in columns.values() for name in column.names)
    table = table_of(unit, list(needed), threads=threads)
    found = {}
    for name, column in columns.items():
        shape = column.shape if len(column.names) == 1 else ()
        parts = [_array(unit, each, table.column(each), shape) for each in column.names]
        found[name] = parts[0] if column.shape == shape else np.stack(parts, axis=-1)
    return found


def _array(unit: Unit, name: str, column: Any, shape: tuple[int, ...]) -> Array:
    chunks = [_flat(unit, name, chunk, shape) for chunk in column.chunks]
    array = chunks[0] if len(chunks) == 1 else np.concatenate(chunks) if chunks else np.zeros(0)
    return array.reshape(unit.rows, *shape)


def _flat(unit: Unit, name: str, values: Any, shape: tuple[int, ...]) -> Array:
    """The elements of a column's chunk, one row after another."""
    if isinstance(values, pa.ExtensionArray):
        values = values.storage
        shape = (int(np.prod(shape)),)
    _check_nulls(unit, name, values)
    for length in shape:
        if not pa.types.is_fixed_size_list(values.type):
            lengths = values.value_lengths().to_numpy(zero_copy_only=False)
            odd = np.flatnonzero(lengths != length)
            if odd.size:
                raise InvalidRequestError(
                    f'column "{name}" of {unit} has lists of lengths {length} and {lengths[odd[0]]}; expected one '
                    "length, that of the first row",
                    node=name,
                )
        values = values.flatten()
        _check_nulls(unit, name, values)
    return values.to_numpy(zero_copy_only=False)  # type: ignore[no-any-return]  # pyarrow has no types


def _check_nulls(unit: Unit, name: str, values: Any) -> None:
    if values.null_count:
        raise InvalidRequestError(
            f'column "{name}" of {unit} has {values.null_count} nulls; fill them, or leave these rows out', node=name
        )
