"""Parquet files and Arrow IPC files as units: row groups, and record batches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from threading import get_ident
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from gradwire._errors import InvalidRequestError
from gradwire_server.units.files import located

OPEN_FILES = 16
"""Files that a process keeps open, whose footers it need not read again."""

_SORTS = {"parquet": "row group", "arrow": "record batch"}


class Unit(NamedTuple):
    """Rows that are read and computed at a time."""

    path: str
    sort: str
    """``"parquet"`` or ``"arrow"``."""
    number: int
    """The number of the row group or record batch in its file."""
    rows: int
    version: str = ""
    """What tells the file from another one that is written in its place."""

    def __str__(self) -> str:
        return f"{_SORTS[self.sort]} {self.number} of {self.path}"


class File(NamedTuple):
    """What the footer of a file says."""

    path: str
    schema: Any
    units: tuple[Unit, ...]


def described(path: str) -> File:
    """What the footer of a file says; its rows are not read.

    Raises:
        InvalidRequestError: It cannot be read, or is in another format.
    """
    try:
        version = _version(path)
        file = _opened(path, version, get_ident())
    except (OSError, pa.ArrowException) as error:
        raise InvalidRequestError(f"cannot read {path}: {error}") from None
    units = tuple(Unit(path, file.sort, number, rows, version) for number, rows in enumerate(file.rows))
    return File(path, file.schema, units)


def table_of(unit: Unit, columns: Sequence[str], *, threads: bool = False) -> Any:
    """The columns of a unit.

    Raises:
        InvalidRequestError: It cannot be read, or is not what it was.
    """
    try:
        table = _opened(unit.path, unit.version, get_ident()).read(unit.number, list(columns), threads)
    except (OSError, pa.ArrowException, IndexError) as error:
        raise InvalidRequestError(
            f"cannot read {unit}: {error}; whoever computes a unit reads it, and needs the file under this path"
        ) from None
    if table.num_rows != unit.rows:
        raise InvalidRequestError(
            f"{unit} has {table.num_rows} rows, and had {unit.rows}; make the step anew for files that have changed"
        )
    return table


class _Open(NamedTuple):
    sort: str
    schema: Any
    rows: tuple[int, ...]
    read: Callable[[int, list[str], bool], Any]


def _version(path: str) -> str:
    system, place = located(path)
    info = system.get_file_info(place)
    return f"{info.mtime_ns} {info.size}"


@lru_cache(maxsize=OPEN_FILES)
def _opened(path: str, version: str, thread: int) -> _Open:
    """The file of this version, for a thread."""
    system, place = located(path)
    with system.open_input_file(place) as start:
        magic = start.read(6)
    if magic[:4] == b"PAR1":
        return _parquet(system.open_input_file(place))
    if magic == b"ARROW1":
        source = pa.memory_map(place) if isinstance(system, pa.fs.LocalFileSystem) else system.open_input_file(place)
        return _arrow(source)
    raise InvalidRequestError(f"{path} is neither a Parquet file nor an Arrow IPC file (which a stream is not)")


def _parquet(source: Any) -> _Open:
    # Buffers that are read ahead would stay for as long as the file is open.
    file = pq.ParquetFile(source, pre_buffer=False)
    rows = tuple(file.metadata.row_group(index).num_rows for index in range(file.metadata.num_row_groups))

    def read(index: int, columns: list[str], threads: bool) -> Any:
        return file.read_row_group(index, columns, use_threads=threads)

    return _Open("parquet", file.schema_arrow, rows, read)


def _arrow(source: Any) -> _Open:
    file = pa.ipc.open_file(source)
    rows = tuple(file.get_batch(index).num_rows for index in range(file.num_record_batches))

    def read(index: int, columns: list[str], _: bool) -> Any:
        return pa.Table.from_batches([file.get_batch(index).select(columns)])

    return _Open("arrow", file.schema, rows, read)
