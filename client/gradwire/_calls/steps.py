"""The course of a call as a generator: it yields what to send and is sent the answer, or thrown the error.

So it is written once, and a client of any kind (blocking, asyncio, embedded) performs it.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from math import isnan
from typing import Any, NamedTuple, TypeAlias, TypeVar

from google.protobuf.message import Message

from gradwire._arrays import Array
from gradwire._errors import GradwireError, InvalidRequestError
from gradwire._numbers import real
from gradwire.v1 import gradient_service_pb2 as pb

T = TypeVar("T")

LONGEST = 1e8
"""Seconds; gRPC takes much longer timeouts for ones that have passed."""


@dataclass(frozen=True, slots=True)
class Unary:
    """Send one message; the answer is the method's response."""

    method: str
    request: Message


@dataclass(frozen=True, slots=True)
class Compute:
    """Compute gradients, with the tensors beside the request; the answer is an ``Answer``."""

    request: pb.ComputeGradientsRequest
    arrays: Mapping[str, Array]
    reply_bytes: int
    """About how large the gradients are."""


class Answer(NamedTuple):
    """A response, the gradients that came beside it, and the id of the call."""

    response: pb.ComputeGradientsResponse
    framed: Mapping[str, Array]
    request_id: str | None = None


Step: TypeAlias = Unary | Compute
Steps: TypeAlias = Generator[Step, Any, T]


def seconds(timeout: object) -> float | None:
    """A timeout as gRPC takes it; None, for no bound, beyond three years.

    Raises:
        InvalidRequestError: It is no number.
    """
    if timeout is None:
        return None
    bound = real(timeout)
    if bound is None or isnan(bound):
        raise InvalidRequestError(f"timeout={timeout!r} is no number of seconds")
    return None if bound > LONGEST else bound


def perform(steps: Steps[T], send: Callable[[Step], object]) -> T:
    """Go through the steps, sending each."""
    try:
        step = next(steps)
        while True:
            try:
                answer = send(step)
            except GradwireError as error:
                step = steps.throw(error)
            else:
                step = steps.send(answer)
    except StopIteration as end:
        result: T = end.value
        return result
