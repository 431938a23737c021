"""Where compiled kernels are kept: beside their sources, or, where that cannot be written, with the user's caches."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fcntl import LOCK_EX, flock
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar, cast

from numba import config, njit
from numba.core.caching import (
    CompileResultCacheImpl,
    FunctionCache,
    IndexDataCacheFile,
    InTreeCacheLocator,
    UserProvidedCacheLocator,
    UserWideCacheLocator,
)
from numba.core.runtime import rtsys

F = TypeVar("F")

Numba = Any
"""An object of Numba, which has no types."""

ENGINE = Path(__file__).absolute().parent
SHARED = (ENGINE / "graph" / "opcodes.py", ENGINE / "lowering" / "rows.py")
"""Numbers that kernels of several folders agree on."""


def compiled(kernel: F) -> F:
    """Compile a kernel when it is first called, to run without the interpreter's lock, and keep its machine code."""
    return kept(cast("F", njit(nogil=True, error_model="numpy")(kernel)))


def kept(kernel: F) -> F:
    """Keep a kernel's machine code on disk from one process to the next, as far as that can be done.

    Numba's own ``cache=True`` raises where it can write nowhere, even if all is there to be read, and does not see an
    edit in a file that the kernel's file imports.
    """
    dispatcher: Numba = kernel
    path = Path(dispatcher.py_func.__code__.co_filename).absolute()
    if stamp := _stamp(path.parent):
        # On this one dispatcher: Numba's setting for locators is one for all its users in the process, and
        # knows no folder to read from that is not also written.
        dispatcher._cache = _Cache(dispatcher.py_func, path, stamp)  # noqa: SLF001  (see above)
    return kernel


def _stamp(folder: Path) -> str:
    """What machine code must have been made from: all files of the kernel's own folder, and those that kernels share.

    Nothing if there are no sources to be read, as in an archive.
    """
    try:
        sources = [path.read_bytes() for path in (*sorted(folder.glob("[!.]*.py")), *SHARED)]
    except OSError:
        return ""
    # By content, for a copy of a file has another time.
    return sha256(b"".join(sha256(source).digest() for source in sources)).hexdigest()


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """No other process saves in the folder meanwhile: each writes an index of all that it has seen there."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):
            flock(descriptor, LOCK_EX)
        yield
    finally:
        os.close(descriptor)


class _Locator(InTreeCacheLocator):  # type: ignore[misc]
    def __init__(self, function: Numba, path: Path, stamp: str) -> None:
        super().__init__(function, str(path))
        self._stamp = stamp

    def get_source_stamp(self) -> str:
        return self._stamp

    def get_disambiguator(self) -> str:
        # Numba takes the number of the line, and leaves files behind whenever a line is added above.
        return "kernel"


class _Implementation(CompileResultCacheImpl):  # type: ignore[misc]
    # In place of its parent's, which looks for a locator as the process has it set, and raises if there is none.
    def __init__(self, function: Numba, locator: _Locator, name: str) -> None:
        self._locator = locator
        self._lineno = function.__code__.co_firstlineno
        self._filename_base = self.get_filename_base(name, getattr(sys, "abiflags", ""))


class _Cache(FunctionCache):  # type: ignore[misc]
    """Reads from the first folder that has the machine code, writes to the first that can be written."""

    def __init__(self, function: Numba, path: Path, stamp: str) -> None:
        locator = _Locator(function, path, stamp)
        name = f"{path.stem}.{function.__qualname__}"
        self._impl_class = lambda _: _Implementation(function, locator, name)
        super().__init__(function)
        own = [UserProvidedCacheLocator] if config.CACHE_DIR else []
        locators = [*(x(function, str(path)) for x in own), locator, UserWideCacheLocator(function, str(path))]
        folders = [Path(x.get_cache_path()) for x in locators]
        # Where the home is not known a "~" is left, below whatever the working folder is: no place to load code from.
        self._folders = [folder for folder in folders if folder.is_absolute()]
        self._files = [IndexDataCacheFile(str(folder), self._impl.filename_base, stamp) for folder in self._folders]

    def load_overload(self, signature: Numba, target: Numba) -> Numba:
        # In place of its parent's, which first has the target know all that Numba can compile: that imports SciPy,
        # and is a quarter of a server's start. Machine code needs only the runtime.
        rtsys.initialize(target)
        return self._load_overload(signature, target)

    def _load_overload(self, signature: Numba, target: Numba) -> Numba:
        key = self._index_key(signature, target.codegen())
        for file in self._files:
            try:
                if (data := file.load(key)) is not None:
                    return self._impl.rebuild(target, data)
            except Exception:  # noqa: BLE001, S112  (whatever is wrong with a cache, compiling helps)
                continue
        return None

    def _save_overload(self, signature: Numba, compiled: Numba) -> None:
        if not self._impl.check_cachable(compiled):
            return
        key, data = self._index_key(signature, compiled.codegen), self._impl.reduce(compiled)
        for folder, file in zip(self._folders, self._files, strict=True):
            try:
                folder.mkdir(parents=True, exist_ok=True)
                with _alone(folder):
                    file.save(key, data)
            except Exception:  # noqa: BLE001, S112  (a damaged one does not keep the next from being written)
                continue
            return
