"""The engine in this process, for asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from numpy.typing import ArrayLike

from gradwire._calls.computation import Computation
from gradwire._calls.deadline import Deadline
from gradwire._calls.results import Result
from gradwire._calls.steps import Step
from gradwire._calls.stream import Stream
from gradwire._transports.local import local_transport


class AsyncLocalTransport:
    """The engine in this process, on threads."""

    def __init__(self) -> None:
        self._local = local_transport()

    async def send(self, step: Step, deadline: Deadline) -> object:
        """See ``AsyncTransport``."""
        return await asyncio.to_thread(self._local.send, step, deadline)

    async def evaluate(self, computation: Computation, values: Mapping[str, ArrayLike], deadline: Deadline) -> Result:
        """See ``AsyncTransport``."""
        return await asyncio.to_thread(self._local.evaluate, computation, values, deadline)

    def stream(self, computation: Computation) -> Stream:
        """See ``AsyncTransport``."""
        return self._local.stream(computation)

    async def close(self) -> None:
        """See ``AsyncTransport``."""
        self._local.close()
