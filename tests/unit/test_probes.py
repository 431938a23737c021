"""Whether an event loop lives, seen from another thread."""

from __future__ import annotations

import asyncio
from threading import Event

import pytest

from gradwire_server.service.telemetry import probes


async def test_a_loop_that_runs_answers_and_one_that_is_stuck_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.get_running_loop()
    assert await asyncio.to_thread(probes.answers, loop)
    monkeypatch.setattr(probes, "PATIENCE", 0.01)
    told = Event()

    def ask() -> bool:
        try:
            return probes.answers(loop)
        finally:
            told.set()

    asked = loop.run_in_executor(None, ask)
    # The loop is stuck here, until the other thread has its answer.
    told.wait()
    assert not await asked


def test_a_loop_that_is_closed_does_not_answer() -> None:
    loop = asyncio.new_event_loop()
    loop.close()
    assert not probes.answers(loop)
