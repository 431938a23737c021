"""When glibc's allocator takes memory from the system, and when it gives it back.

By default it takes every large array anew, and that each of its pages comes as zeros costs more than most of what is
computed there: 64 MB there and back take half to two thirds of the time without. And it never gives back most of what
messages took, whole or half-sent, for they lie among what lives longer.

Where the C library is another one nothing is done.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
from contextlib import suppress
from math import inf
from pathlib import Path

TRIM_THRESHOLD, MMAP_MAX, ARENA_MAX = -1, -4, -8
"""Parameters of mallopt(3)."""

MOST = (1 << 31) - 1
"""The largest number that it takes."""

SECONDS = 5.0
"""Between two looks at what the process has."""

WORTHWHILE = 64 << 20
"""Bytes above the least that it ever had from which on what is free is given back. To look for that takes a tenth of a
millisecond, to give it back some 80 for each GB, in which no thread gets memory."""


def keep_freed() -> None:
    """Have freed memory used again, by any thread, before more is taken; to be called before there are threads."""
    with suppress(AttributeError, OSError):
        mallopt = ctypes.CDLL(None).mallopt
        for parameter, value in ((MMAP_MAX, 0), (TRIM_THRESHOLD, MOST), (ARENA_MAX, 1)):
            mallopt(parameter, value)


async def give_back() -> None:
    """Give back what is free, again and again, until cancelled."""
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError):
        return
    least = inf
    while True:
        # It cannot be read while as many files are open as may be.
        with suppress(OSError):
            found = _resident()
            least = min(least, found)
            if found > least + WORTHWHILE:
                await asyncio.to_thread(trim, 0)
        await asyncio.sleep(SECONDS)


def _resident() -> int:
    """Bytes of memory that the process has."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
