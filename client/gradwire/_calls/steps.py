"""The course of a call as a generator: it yields what to send and is sent the answer, or thrown the error.

So it is written once, and a client of any kind (blocking, asyncio, embedded) performs it.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from typing import Any, NamedTuple, TypeAlias, TypeVar

from google.protobuf.message import Message

from gradwire._arrays import Array
from gradwire._calls.deadline import Deadline
from gradwire._calls.examples import Upload
from gradwire._errors import GradwireError
from gradwire.v1 import gradient_service_pb2 as pb
from gradwire.v1.elements import Key

T = TypeVar("T")


class Unary(NamedTuple):
    """Send one message; the answer is the method's response."""

    method: str
    request: Message

    @property
    def examples_id(self) -> str:
        """It is about no examples."""
        return ""


class Compute(NamedTuple):
    """Compute gradients; the answer is an ``Answer``. Its fields, one after another, are the message to send."""

    program: bytes
    """The graph or its id, serialized."""
    asked: bytes
    """What to do with it, serialized."""
    arrays: Mapping[str, Array]
    """Tensors by name."""
    before: Mapping[str, bytes]
    """What goes before the elements of each tensor, serialized."""
    request_bytes: int
    """Elements of all of them, in bytes."""
    reply_bytes: int
    """About how large the gradients are."""
    by_id: bool
    """Whether the graph is named by its id."""
    examples: bytes = b""
    """The part of a request that names examples, serialized; empty if it names none."""
    examples_id: str = ""
    """Their id."""


class Answer(NamedTuple):
    """The answer to a computation."""

    response: bytes | pb.ComputeGradientsResponse
    """Serialized, or parsed already."""
    framed: Mapping[Key, Array]
    """Tensors that came beside it."""
    request_id: str
    """Id of the call."""


Step: TypeAlias = Unary | Compute | Upload
Steps: TypeAlias = Generator[Step, Any, T]


def perform(steps: Steps[T], send: Callable[[Step, Deadline], object], deadline: Deadline) -> T:
    """Go through the steps, sending each, all of them by the deadline."""
    try:
        step = next(steps)
        while True:
            try:
                answer = send(step, deadline)
            except GradwireError as error:
                step = steps.throw(error)
            else:
                step = steps.send(answer)
    except StopIteration as end:
        result: T = end.value
        return result
