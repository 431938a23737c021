"""Requests and responses of a stream, put together from frames and cut into frames. No I/O happens here."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from itertools import chain

import numpy as np
from google.protobuf.message import DecodeError
from google.protobuf.wrappers_pb2 import UInt64Value

from gradwire.v1 import gradient_service_pb2 as pb
from gradwire.v1.elements import Key
from gradwire.v1.frames import CHUNK_BYTES, before_message, chunk_frame
from gradwire_server import codec
from gradwire_server.configuration.limits import ServiceLimits
from gradwire_server.engine import Checkpoint, Evaluation
from gradwire_server.errors import Reason, Refusal, refuse, shown

INLINE_BYTES = 1 << 18
"""Tensors that travel in the head of a response, together, in bytes; the others follow in chunks."""

OVERHEAD = 32
"""Bytes that a tensor in the head takes beside its elements and its name."""

Frames = Iterable[bytes]
"""A response, serialized."""

Complete = tuple[pb.ComputeGradientsRequest, dict[str, codec.Array]]
"""A request, and its framed tensors."""


class Assembler:
    """Puts the requests of one stream together.

    It takes memory only as elements come, however much a head announces: an array has no pages that nobody wrote to.
    """

    def __init__(self, limits: ServiceLimits) -> None:
        self._limits = limits
        self._engine_limits = limits.of_engine()
        self._tag = 0
        self._message = pb.ComputeGradientsRequest()
        self._pending: deque[tuple[str, memoryview]] = deque()
        """Names of tensors that are not complete, each with the bytes that are to come."""
        self._arrays: dict[str, codec.Array] = {}
        self._lacking = 0
        """Bytes of the request that are still to come."""
        self._skipping = False

    @property
    def idle(self) -> bool:
        """Whether no request is under way."""
        return not self._pending

    @property
    def lacking(self) -> int:
        """Bytes of the request under way that are still to come."""
        return self._lacking

    @property
    def tag(self) -> int:
        """Tag of the last head."""
        return self._tag

    def end(self) -> None:
        """The stream has ended.

        Raises:
            Refusal: INVALID_FRAME, if that is in the middle of a request.
        """
        if self._pending:
            raise refuse(
                Reason.INVALID_FRAME,
                f"the stream ended, but {self._lacking} bytes of the request with tag {self._tag} are still to come",
                tag=self._tag,
            )

    def stalled(self, seconds: float) -> Refusal:
        """The refusal of a request of which nothing came for so long."""
        return refuse(
            Reason.DEADLINE_EXCEEDED,
            f"next to nothing came for {seconds:g} s (max_stall); {self._lacking} bytes of the request with tag "
            f"{self._tag} are still to come",
            tag=self._tag,
            setting="max_stall",
        )

    def begin_known(self, tag: int) -> None:
        """A request with this tag came that is complete, and is not put together here."""
        self._tag, self._skipping = tag, False

    def skip(self) -> None:
        """Give up the request under way; what is still to come of it is skipped."""
        if self._pending:
            self._skipping = True
            self._pending.clear()
            self._arrays = {}

    def parse(self, raw: bytes) -> pb.StreamGradientsRequest:
        """The frame.

        Raises:
            Refusal: MALFORMED_MESSAGE; LIMIT_EXCEEDED of a head that holds too much, whose chunks are skipped from
                then on.
        """
        try:
            return codec.parse(pb.StreamGradientsRequest, raw, self._engine_limits)
        except Refusal as refusal:
            if refusal.reason is Reason.LIMIT_EXCEEDED:
                # A message with the tag alone: what else there is it takes as it is, in one piece.
                try:
                    self._tag = UInt64Value.FromString(raw).value
                except DecodeError:
                    found = f"{len(raw)} bytes do not parse as {pb.StreamGradientsRequest.DESCRIPTOR.full_name}"
                    raise refuse(Reason.MALFORMED_MESSAGE, f"not a valid request: {found}", found=len(raw)) from None
                self._skipping = True
            raise

    def feed(self, frame: pb.StreamGradientsRequest) -> Complete | None:
        """The request and its framed tensors, if the frame completes it.

        Raises:
            Refusal: INVALID_FRAME, after which the stream makes no sense; or what is wrong with the head, whose
                chunks are skipped from then on.
        """
        kind = frame.WhichOneof("frame")
        if kind is None:
            raise _invalid(frame.tag, "it has neither head nor chunk", "frame")
        if kind == "chunk":
            return self.feed_chunk(frame.tag, memoryview(frame.chunk))
        self._begin(frame)
        return self._complete()

    def feed_chunk(self, tag: int, chunk: memoryview) -> Complete | None:
        """Take the chunk of a frame; returns the request if that completes it.

        Raises:
            Refusal: INVALID_FRAME, after which the stream makes no sense.
        """
        if self._skipping:
            return None
        self._append(tag, chunk)
        return self._complete()

    def _complete(self) -> Complete | None:
        if self._pending:
            return None
        arrays, self._arrays = self._arrays, {}
        return self._message, arrays

    def _begin(self, frame: pb.StreamGradientsRequest) -> None:
        if self._pending:
            raise _invalid(
                frame.tag,
                f"a head, but {self._lacking} bytes of the request with tag {self._tag} are still to come",
                "head",
            )
        self._tag, self._skipping = frame.tag, True
        layouts = self._layouts(frame.head)
        self._skipping = False
        self._message = frame.head.request
        self._lacking = sum(layout.nbytes for layout in layouts.values())
        self._arrays = {name: np.empty(layout.shape, layout.dtype) for name, layout in layouts.items()}
        self._pending.extend((name, _bytes_of(array)) for name, array in self._arrays.items() if array.nbytes)

    def _layouts(self, head: pb.StreamRequestHead) -> dict[str, codec.Layout]:
        dtype = codec.decode_dtype(head.request.dtype)
        codec.check_count(len(head.framed), "tensors in frames", "framed", self._engine_limits)
        layouts = codec.decode_framed(head.framed, dtype, self._limits.max_rank, "framed")
        total = sum(layout.nbytes for layout in layouts.values())
        if total > self._limits.max_request_bytes:
            raise _too_large(total, self._limits.max_request_bytes)
        return layouts

    def _append(self, tag: int, chunk: memoryview) -> None:
        if not self._pending:
            raise _invalid(tag, f"a chunk of {len(chunk)} bytes, but no tensor is to come; send a head", "chunk")
        if tag != self._tag:
            raise _invalid(tag, f"a chunk, but the request under way has tag {self._tag}", "tag")
        name, rest = self._pending.popleft()
        if not 0 < len(chunk) <= len(rest):
            raise _invalid(
                tag,
                f"a chunk of {len(chunk)} bytes, but tensor {shown(name)} lacks {len(rest)}; a chunk has at least one "
                "byte, and bytes of one tensor only",
                "chunk",
            )
        rest[: len(chunk)] = chunk
        self._lacking -= len(chunk)
        if len(chunk) < len(rest):
            self._pending.appendleft((name, rest[len(chunk) :]))


def _invalid(tag: int, found: str, path: str) -> Refusal:
    return refuse(Reason.INVALID_FRAME, f"frame with tag {tag}: {found}", path, tag=tag)


def _too_large(found: int, limit: int) -> Refusal:
    return refuse(
        Reason.LIMIT_EXCEEDED,
        f"the request announces {found} bytes of tensors in frames; this server takes at most {limit} "
        "(max_request_bytes)",
        "framed",
        found=found,
        limit=limit,
        setting="max_request_bytes",
    )


def response_frame(tag: int, response: bytes) -> bytes:
    """The frame of a response that is in its head as a whole, serialized."""
    return before_message(tag, len(response)) + response


def response_frames(tag: int, evaluation: Evaluation, seconds: float, checkpoint: Checkpoint) -> Frames:
    """The frames of a response, serialized: the head with what is small, then chunks of the large tensors.

    The head is made at once, the chunks as they are asked for, one after another. Raises what ``checkpoint`` raises.
    """
    framed: dict[Key, codec.Array] = {}
    inline = 0
    for part, array in codec.parts_of(evaluation):
        nbytes = array.nbytes + OVERHEAD + (len(part) if isinstance(part, str) else 0)
        if inline + nbytes > INLINE_BYTES:
            framed[part] = array
        else:
            inline += nbytes
    response, announced = codec.encode_evaluation(evaluation, seconds, checkpoint, framed)
    head = pb.StreamResponseHead(response=response, framed=announced)
    frame = pb.StreamGradientsResponse(tag=tag, head=head).SerializeToString()
    return chain((frame,), chain.from_iterable(_chunks(tag, array) for array in framed.values()))


def _bytes_of(array: codec.Array) -> memoryview:
    return array.reshape(-1).view(np.uint8).data


def _chunks(tag: int, array: codec.Array) -> Iterator[bytes]:
    elements = _bytes_of(array)
    for start in range(0, len(elements), CHUNK_BYTES):
        yield chunk_frame(tag, elements[start : start + CHUNK_BYTES])
