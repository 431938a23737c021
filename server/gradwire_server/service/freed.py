"""Memory that was freed, and that glibc keeps instead of giving it back to the system.

It keeps most of what messages took, whole or half-sent, for they lie among what lives longer.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

SECONDS = 5.0
"""Between two looks at what the process takes."""

WORTHWHILE = 64 << 20
"""Bytes above the least that it ever took from which on what is free is given back. To look for that takes a tenth of a
millisecond, to give it back some 80 for each GB, in which no thread gets memory."""


async def give_back() -> None:
    """Give it back, again and again, until cancelled; where the C library is another one there is nothing to do."""
    trim = _trim()
    if trim is None:
        return
    least = _resident()
    while True:
        await asyncio.sleep(SECONDS)
        found = _resident()
        least = min(least, found)
        if found > least + WORTHWHILE:
            await asyncio.to_thread(trim, 0)


def _trim() -> Callable[[int], int] | None:
    with suppress(AttributeError, OSError):
        found: Callable[[int], int] = ctypes.CDLL(None).malloc_trim
        return found
    return None


def _resident() -> int:
    """Bytes of memory that the process has."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
