"""What files say, read again when they change."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from stat import S_IROTH, S_ISREG
from threading import Lock
from typing import BinaryIO, Generic, TypeVar

import structlog

from gradwire_server.configuration.settings import StartError

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
    is_secret: bool = False
    """Whether those who may read it can do what only few should."""

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

    @property
    def has_changed(self) -> bool:
        """Whether the files have changed since they were read."""
        return self._seen() != self._stamps

    @property
    def value(self) -> T:
        """What the files said when they were read last."""
        return self._value

    def get(self) -> T:
        """What the files say now; reads them if they have changed."""
        if self.has_changed:
            with self._lock:
                stamps = self._seen()
                if stamps != self._stamps:
                    self._renew()
                    # Not before: others would take the old value for the new one.
                    self._stamps = stamps
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
        with open(file.path, "rb", opener=_open_at_once) as opened:
            return _content_of(opened, file)
    except OSError as error:
        raise UnusableError(f"cannot read {file}: {error.strerror}") from None


def _open_at_once(path: str, flags: int) -> int:
    """Open a file, also a pipe, which would wait for somebody who writes into it."""
    return os.open(path, flags | os.O_NONBLOCK)


def _content_of(opened: BinaryIO, file: File) -> bytes:
    mode = os.fstat(opened.fileno()).st_mode
    if not S_ISREG(mode):
        raise UnusableError(f"{file} is no regular file; what it says could not be read again")
    if file.is_secret and mode & S_IROTH:
        _log.warning("every user of this machine may read a secret; chmod o-r", file=str(file))
    return opened.read()


def _stamp(path: Path) -> Stamp | None:
    """Changes when the file does; also when another one takes its place, as mounted secrets do."""
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_size, stat.st_ino
