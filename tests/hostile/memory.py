"""How much memory another process takes for something."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


@dataclass
class Growth:
    """What it took at the peak, beyond what it had, in bytes; known at the end."""

    nbytes: int = 0


@contextmanager
def growth(pid: int) -> Iterator[Growth]:
    """The growth of a process meanwhile."""
    proc = Path("/proc") / str(pid)
    proc.joinpath("clear_refs").write_text("5", encoding="ascii")  # begins a new peak
    before = _kilobytes(proc, "VmRSS")
    result = Growth()
    yield result
    result.nbytes = max(0, _kilobytes(proc, "VmHWM") - before) * 1024


def resident(pid: int) -> int:
    """Memory of a process, in bytes."""
    return _kilobytes(Path("/proc") / str(pid), "VmRSS") * 1024


def _kilobytes(proc: Path, field: str) -> int:
    [found] = re.findall(rf"{field}:\s+(\d+) kB", proc.joinpath("status").read_text(encoding="ascii"))
    return int(found)
