"""What files say, read again when they change."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Generic, TypeVar

import structlog

from gradwire_server.settings import StartError

T = TypeVar("T")

Stamp = tuple[int, int, int]
Parse = Callable[[Sequence[bytes]], T]
"""The meaning of the contents of files; raises UnusableError where they have none."""

_log = structlog.get_logger()


class UnusableError(Exception):
    """Why a file cannot be used, in a line for the operator that names it."""


@dataclass(frozen=True, slots=True)
class File:
    """A file that an option names; as text, both of them."""

    path: Path
    option: str

    def __str__(self) -> str:
        return f"{self.path} ({self.option})"


class Watched(Generic[T]):
    """What files say now. Safe to share among threads.

    A change that cannot be used is logged, once.

    Args:
        what: What they are, for the log.
        files: The files.
        parse: Makes the value of their contents.
        otherwise: The value while they cannot be used. Default: the last one that could.

    Raises:
        StartError: They cannot be used in the first place.
    """

    def __init__(self, what: str, files: Sequence[File], parse: Parse[T], otherwise: T | None = None) -> None:
        self._what = what
        self._files = files
        self._parse = parse
        self._otherwise = otherwise
        self._lock = Lock()
        self._stamps = self._seen()
        try:
            self._value = self._read()
        except UnusableError as error:
            raise StartError(str(error)) from None

    def get(self) -> T:
        """The value."""
        stamps = self._seen()
        if stamps != self._stamps:
            with self._lock:
                if stamps != self._stamps:
                    self._stamps = stamps
                    self._renew()
        return self._value

    def _renew(self) -> None:
        try:
            self._value = self._read()
        except UnusableError as error:
            _log.error(f"new {self._what} cannot be used", error=str(error))
            if self._otherwise is not None:
                self._value = self._otherwise
        else:
            _log.info(f"new {self._what} in use", files=[str(file.path) for file in self._files])

    def _seen(self) -> list[Stamp | None]:
        return [_stamp(file.path) for file in self._files]

    def _read(self) -> T:
        return self._parse([_content(file) for file in self._files])


def _content(file: File) -> bytes:
    try:
        return file.path.read_bytes()
    except OSError as error:
        raise UnusableError(f"cannot read {file}: {error.strerror}") from None


def _stamp(path: Path) -> Stamp | None:
    """Changes when the file does; also when another one takes its place, as mounted secrets do."""
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_size, stat.st_ino
