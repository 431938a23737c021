"""Requests cut into frames, and responses put together from them. No I/O happens here."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterator
from functools import cache
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError
from google.rpc.status_pb2 import Status

from gradwire._arrays import NUMBERS, Array, cut, empty
from gradwire._calls.steps import Answer, Compute
from gradwire._errors import GradwireError, ServerError, from_status, of_call
from gradwire.v1 import gradient_service_pb2 as pb
from gradwire.v1.elements import Key
from gradwire.v1.frames import CHUNK_BYTES, before_message, chunk_frame, chunk_of, message_of

TAGS = 128
"""Tags of a stream, which take a byte each; more than there are requests under way."""

INLINE_BYTES = 1 << 18
"""Tensors that travel in the head of a request, together, in bytes; the others follow in chunks."""

OVERHEAD = 32
"""Bytes that a tensor in the head takes beside its elements and its name."""


UNARY_BYTES = 1 << 20
"""Tensors of a unary call, there or back, together; larger ones travel faster in frames."""

TRANSIENT_BYTES = 31 << 20
"""The largest block, nearly, of which glibc's allocator takes it that blocks like it come and go."""


def in_frames(step: Compute) -> bool:
    """Whether a computation is too large for one message."""
    return step.reply_bytes > UNARY_BYTES or step.request_bytes > UNARY_BYTES


def whole(step: Compute) -> bytes:
    """The request in one message, serialized."""
    # The elements are copied once, and nothing but them is written for each call.
    parts: list[Any] = [step.program, step.asked, step.examples]
    before = step.before
    for name, array in step.arrays.items():
        parts += before[name], array
    return b"".join(parts)


def request_frames(step: Compute, tag: int = 0) -> Iterator[bytes]:
    """The frames of a request, serialized: the head with what is small, then chunks of the large tensors.

    Requests of one stream have the tags from 0 to ``TAGS`` - 1 in turn, and answers come in that order.
    """
    small: dict[str, Array] = {}
    framed: dict[str, Array] = {}
    inline = 0
    for name, array in step.arrays.items():
        nbytes = array.nbytes + OVERHEAD + len(name)
        if inline + nbytes > INLINE_BYTES:
            framed[name] = array
        else:
            inline += nbytes
            small[name] = array
    request = whole(step._replace(arrays=small))
    if framed:
        keep_frames()
        announced = [
            pb.FramedTensor(name=name, dtype=NUMBERS[array.dtype], shape=array.shape) for name, array in framed.items()
        ]
        head = pb.StreamRequestHead(request=pb.ComputeGradientsRequest.FromString(request), framed=announced)
        yield pb.StreamGradientsRequest(tag=tag, head=head).SerializeToString()
    else:
        yield before_message(tag, len(request)) + request
    for array in framed.values():
        for part in cut(array, CHUNK_BYTES):
            yield chunk_frame(tag, part)


@cache
def keep_frames() -> None:
    """Have the memory of frames that went or came used for the next ones.

    The allocator of glibc gives freed memory back to the system from an amount on that is twice the largest block that
    it saw freed, up to 64 MiB; until then it has the pages of nearly every frame made anew, of 128 MiB there and back
    again and again. No page of this block is ever made. Where amounts are set (MALLOC_TRIM_THRESHOLD_), they stay.
    """
    np.empty(TRANSIENT_BYTES, np.uint8)


class Assembler:
    """Puts the responses of one stream together, of the call with this id."""

    def __init__(self, request_id: str) -> None:
        self._request_id = request_id
        self._tag = 0
        """Tag of the request whose answer is to come."""
        self._response: bytes | pb.ComputeGradientsResponse = b""
        self._framed: list[tuple[pb.FramedTensor, Array]] = []
        self._pending: deque[memoryview] = deque()

    def feed(self, raw: bytes) -> Answer | GradwireError | None:
        """The answer or error that the frame completes, if it does.

        Raises:
            ServerError: The frames make no sense.
        """
        chunk = chunk_of(raw, self._tag)
        if chunk is not None:
            return self._append(chunk)
        start = message_of(raw, self._tag)
        if start is not None:
            return self._begin(raw[start:])
        try:
            frame = pb.StreamGradientsResponse.FromString(raw)
        except DecodeError as error:
            raise ServerError(f"the server sent a frame that makes no sense: {error}") from None
        if frame.tag != self._tag:
            raise ServerError(
                f"the server sent an answer that nobody asked for, with tag {frame.tag}; that to {self._tag} is to come"
            )
        kind = frame.WhichOneof("frame")
        if kind == "head":
            return self._begin(frame.head.response, frame.head.framed)
        if kind == "chunk":
            return self._append(memoryview(frame.chunk))
        if kind == "error":
            self._end()
            status = Status(code=frame.error.code, message=frame.error.message, details=frame.error.details)
            return of_call(from_status(status), self._request_id)
        raise ServerError("the server sent a frame of no known kind; it may be newer than this client")

    def _begin(
        self, response: bytes | pb.ComputeGradientsResponse, framed: Collection[pb.FramedTensor] = ()
    ) -> Answer | None:
        self._response = response
        if framed:
            keep_frames()
        try:
            self._framed = [(tensor, empty(tensor.dtype, tensor.shape)) for tensor in framed]
        except (ValueError, MemoryError) as error:
            raise ServerError(f"the server announced a tensor that makes no sense: {error}") from None
        self._pending.extend(array.reshape(-1).view(np.uint8).data for _, array in self._framed if array.nbytes)
        return self._complete()

    def _append(self, chunk: memoryview) -> Answer | None:
        if not self._pending or len(chunk) > len(self._pending[0]):
            raise ServerError(f"the server sent a chunk of {len(chunk)} bytes that no tensor lacks")
        target = self._pending[0]
        target[: len(chunk)] = chunk
        self._pending[0] = target[len(chunk) :]
        if not self._pending[0]:
            self._pending.popleft()
        return self._complete()

    def _end(self) -> None:
        """The answer to the next request is to come; of this one nothing is, also where an error ended it midway."""
        self._tag = (self._tag + 1) % TAGS
        self._pending.clear()

    def _complete(self) -> Answer | None:
        if self._pending:
            return None
        arrays = {_key(tensor): array for tensor, array in self._framed}
        self._end()
        return Answer(self._response, arrays, self._request_id)


def _key(tensor: pb.FramedTensor) -> Key:
    kind = tensor.WhichOneof("tensor")
    if kind == "name":
        return tensor.name
    if kind == "output":
        return tensor.output
    if kind == "loss":
        return None
    raise ServerError("the server announced a tensor of no known kind; it may be newer than this client")


def final(answer: Answer | GradwireError | None, target: str) -> Answer:
    """The answer that a stream of one request ended with.

    Raises:
        GradwireError: It is one, or there was none.
    """
    if isinstance(answer, GradwireError):
        raise answer
    if answer is None:
        raise ServerError(f"the server at {target} ended the stream without an answer")
    return answer
