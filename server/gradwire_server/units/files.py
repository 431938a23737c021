"""Files that a caller names: paths, globs, folders and URIs -> files that can be opened."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator
from typing import Any

from pyarrow import fs

from gradwire._errors import InvalidRequestError


def listed(files: object) -> list[str]:
    """The files of a path, a glob, a folder, a URI, or several of them.

    What a glob or a folder holds is in the order of names; what a sequence lists is in its own.

    Raises:
        InvalidRequestError: There are none, or something else was given.
    """
    given = [files] if isinstance(files, str | os.PathLike) else files
    if not isinstance(given, Iterable):
        raise InvalidRequestError(f"files are a path, a glob, a folder, or several; found {type(files).__name__}")
    found: list[str] = []
    for path in given:
        if not isinstance(path, str | os.PathLike):
            raise InvalidRequestError(f"a path is a string; found {path!r:.64}")
        found.extend(_files_of(os.fspath(path)))
    if not found:
        raise InvalidRequestError("no files are given; name at least one")
    return found


def _files_of(path: str) -> Iterator[str]:
    if "://" not in path:
        path = os.path.abspath(os.path.expanduser(path))  # noqa: PTH100, PTH111  (so that actors elsewhere find it)
        if glob.has_magic(path) and not os.path.exists(path):  # noqa: PTH110
            matching = sorted(glob.glob(path, recursive=True))  # noqa: PTH207
            if not matching:
                raise InvalidRequestError(f"no files match {path}")
            for each in matching:
                yield from _files_of(each)
            return
    system, place = located(path)
    try:
        info = system.get_file_info(place)
        if info.type == fs.FileType.Directory:
            inside = system.get_file_info(fs.FileSelector(place, recursive=True))
            names = sorted(each.path for each in inside if each.is_file and not _is_hidden(each.path, place))
            if not names:
                raise InvalidRequestError(f"no files are in {path}")
            prefix = path[: path.rindex(place)] if path.endswith(place) else ""
            yield from (prefix + name for name in names)
            return
    except OSError as error:
        raise InvalidRequestError(f"cannot look for {path}: {error}") from None
    if info.type == fs.FileType.NotFound:
        raise InvalidRequestError(f"there is no file {path}")
    yield path


def located(path: str) -> tuple[Any, str]:
    """The file system of a path or URI, and its path in there."""
    if "://" not in path:
        return fs.LocalFileSystem(), path
    try:
        return fs.FileSystem.from_uri(path)  # type: ignore[no-any-return]  # pyarrow has no types
    except (OSError, ValueError) as error:
        raise InvalidRequestError(f"cannot look for {path}: {error}") from None


def _is_hidden(path: str, folder: str) -> bool:
    """Whether a file is none of data, such as ``_SUCCESS``, by the names in its path."""
    return any(name.startswith(("_", ".")) for name in path[len(folder) :].split("/"))
