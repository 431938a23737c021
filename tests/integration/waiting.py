"""Waiting for what another process does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import monotonic

from tests.integration.server_process import DEADLINE


async def eventually(holds: Callable[[], bool]) -> None:
    """Ask until it holds.

    Raises:
        AssertionError: It does not hold within the deadline.
    """
    end = monotonic() + DEADLINE
    while not await asyncio.to_thread(holds):
        assert monotonic() < end, "it never held"
