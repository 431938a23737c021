"""What carries the steps of a call in asyncio."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol, TypeVar

from numpy.typing import ArrayLike

from gradwire._calls.computation import Computation
from gradwire._calls.deadline import Deadline
from gradwire._calls.results import Result
from gradwire._calls.steps import Step, Steps
from gradwire._calls.stream import Stream
from gradwire._errors import GradwireError

T = TypeVar("T")


async def perform(steps: Steps[T], send: Callable[[Step, Deadline], Awaitable[object]], deadline: Deadline) -> T:
    """Go through the steps, sending each: ``steps.perform``, with an await."""
    try:
        step = next(steps)
        while True:
            try:
                answer = await send(step, deadline)
            except GradwireError as error:
                step = steps.throw(error)
            else:
                step = steps.send(answer)
    except StopIteration as end:
        result: T = end.value
        return result


class AsyncTransport(Protocol):
    """Carries steps; see ``Transport``."""

    async def send(self, step: Step, deadline: Deadline) -> object:
        """The answer to a step."""

    async def evaluate(self, computation: Computation, values: Mapping[str, ArrayLike], deadline: Deadline) -> Result:
        """The result of a computation for these arrays."""

    def stream(self, computation: Computation) -> Stream:
        """A stream, which threads of its own serve."""

    async def close(self) -> None:
        """Let go of what it holds."""
