"""The engine in this process, for asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from numpy.typing import ArrayLike

from gradwire._calls.computation import Computation
from gradwire._calls.results import Result
from gradwire._calls.steps import Step
from gradwire._calls.stream import Stream
from gradwire._transports.local import LocalTransport


class AsyncLocalTransport:
    """The engine in this process, on threads."""

    def __init__(self) -> None:
        self._local = LocalTransport()

    async def send(self, step: Step, timeout: float | None) -> object:  # noqa: ASYNC109  (gRPC's deadline)
        """See ``AsyncTransport``."""
        return await asyncio.to_thread(self._local.send, step, timeout)

    async def evaluate(
        self,
        computation: Computation,
        values: Mapping[str, ArrayLike],
        timeout: float | None,  # noqa: ASYNC109  (as above)
    ) -> Result:
        """See ``AsyncTransport``."""
        return await asyncio.to_thread(self._local.evaluate, computation, values, timeout)

    def stream(self, computation: Computation) -> Stream:
        """See ``AsyncTransport``."""
        return self._local.stream(computation)

    async def close(self) -> None:
        """See ``AsyncTransport``."""
        self._local.close()
