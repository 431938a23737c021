"""BLAS with one thread: results must not depend on how it splits a product, and the cores have work already."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from threading import Lock

from gradwire_server.engine.machine.blas import library

PREFIXES, SUFFIXES = ("scipy_openblas", "openblas"), ("64_", "64", "", "_")
"""What the names of OpenBLAS's functions begin and end with, by how it was built."""


class OneBlasThread:
    """Keeps BLAS to one thread while anybody computes; used in ``with`` blocks of any threads.

    It is a setting of the process, which is as it was when the last of them leaves.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._users = 0
        self._usual = 1
        self._get: Callable[[], int] | None = None
        self._set: Callable[[int], object] | None = None

    def __enter__(self) -> None:
        with self._lock:
            self._users += 1
            if self._users > 1:
                return
            if self._get is None or self._set is None:
                self._get, self._set = _found("get"), _found("set")
            self._usual = self._get()
            if self._usual != 1:
                self._set(1)

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._users -= 1
            if not self._users and self._usual != 1 and self._set is not None:
                self._set(self._usual)


def _found(verb: str) -> Callable[..., int]:
    """The function of the library that gets or sets its threads; one that gives 1 if there is none."""
    found = library()
    if found is not None:
        # Without letting go of the interpreter's lock, which takes longer than the function.
        held = ctypes.PyDLL(None, handle=found._handle)  # noqa: SLF001  (as ctypes documents it)
        for prefix in PREFIXES:
            for suffix in SUFFIXES:
                function = getattr(held, f"{prefix}_{verb}_num_threads{suffix}", None)
                if function is not None:
                    return function
    return lambda *_: 1


ONE_BLAS_THREAD = OneBlasThread()
"""The process has one BLAS."""
