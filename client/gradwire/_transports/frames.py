"""Requests cut into frames, and responses put together from them. No I/O happens here."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

import numpy as np
from google.rpc.status_pb2 import Status

from gradwire._arrays import NUMBERS, Array, empty, encode_tensor
from gradwire._calls.steps import Answer, Compute
from gradwire._errors import GradwireError, ServerError, from_status, of_call
from gradwire.v1 import gradient_service_pb2 as pb
from gradwire.v1.frames import CHUNK_BYTES, chunk_frame, chunk_of

TAG = 0
"""Tag of every request: answers come in the order of requests, so nobody needs to tell them apart."""

INLINE_BYTES = 1 << 18
"""Tensors that travel in the head of a request, together, in bytes; the others follow in chunks."""

OVERHEAD = 32
"""Bytes that a tensor in the head takes beside its elements and its name."""


def whole(step: Compute) -> pb.ComputeGradientsRequest:
    """The request in one message."""
    request = step.request
    for name, array in step.arrays.items():
        request.tensors[name].CopyFrom(encode_tensor(array))
    return request


def request_frames(step: Compute) -> Iterator[bytes]:
    """The frames of a request, serialized: the head with what is small, then chunks of the large tensors."""
    head = pb.StreamRequestHead(request=step.request)
    framed: list[Array] = []
    inline = 0
    for name, array in step.arrays.items():
        nbytes = array.nbytes + OVERHEAD + len(name)
        if inline + nbytes > INLINE_BYTES:
            framed.append(array)
            head.framed.append(pb.FramedTensor(name=name, dtype=NUMBERS[array.dtype], shape=array.shape))
        else:
            inline += nbytes
            head.request.tensors[name].CopyFrom(encode_tensor(array))
    yield pb.StreamGradientsRequest(tag=TAG, head=head).SerializeToString()
    for array in framed:
        elements = array.reshape(-1).view(np.uint8).data
        for start in range(0, len(elements), CHUNK_BYTES):
            yield chunk_frame(TAG, elements[start : start + CHUNK_BYTES])


class Assembler:
    """Puts the responses of one stream together, of the call with this id."""

    def __init__(self, request_id: str) -> None:
        self._request_id = request_id
        self._response = pb.ComputeGradientsResponse()
        self._framed: list[tuple[pb.FramedTensor, Array]] = []
        self._pending: deque[memoryview] = deque()

    def feed(self, raw: bytes) -> Answer | GradwireError | None:
        """The answer or error that the frame completes, if it does.

        Raises:
            ServerError: The frames make no sense.
        """
        chunk = chunk_of(raw, TAG)
        if chunk is not None:
            return self._append(chunk)
        frame = pb.StreamGradientsResponse.FromString(raw)
        kind = frame.WhichOneof("frame")
        if kind == "head":
            return self._begin(frame.head)
        if kind == "chunk":
            return self._append(memoryview(frame.chunk))
        if kind == "error":
            status = Status(code=frame.error.code, message=frame.error.message, details=frame.error.details)
            return of_call(from_status(status), self._request_id)
        raise ServerError("the server sent a frame of no known kind; it may be newer than this client")

    def _begin(self, head: pb.StreamResponseHead) -> Answer | None:
        self._response = head.response
        self._framed = [(tensor, empty(tensor.dtype, tensor.shape)) for tensor in head.framed]
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

    def _complete(self) -> Answer | None:
        if self._pending:
            return None
        gradients: dict[str, Array] = {}
        for tensor, array in self._framed:
            kind = tensor.WhichOneof("tensor")
            if kind == "name":
                gradients[tensor.name] = array
            elif kind == "output":
                self._response.outputs[tensor.output].CopyFrom(encode_tensor(array))
            elif kind == "loss":
                self._response.loss.CopyFrom(encode_tensor(array))
            else:
                raise ServerError("the server announced a tensor of no known kind; it may be newer than this client")
        return Answer(self._response, gradients, self._request_id)


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
