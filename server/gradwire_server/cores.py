"""The cores of the machine."""

from __future__ import annotations

import os


def usable() -> int:
    """How many of them this process may use, where the system says it: taskset, systemd and containers bound that."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1
