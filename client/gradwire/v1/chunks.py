"""Frames that carry a chunk, as bytes: both sides of a stream write and read them without a copy more than needed.

A frame of a request and one of a response look the same: a tag, and then a chunk.
"""

from __future__ import annotations

from functools import lru_cache

from gradwire.v1.gradient_service_pb2 import StreamGradientsRequest

CHUNK_BYTES = (1 << 20) - (1 << 10)
"""Elements of a chunk, in bytes, so that the frame with its wrapping stays within 1 MiB."""


MAX_FRAME = 1 << 20
"""Bytes of a frame beyond which it is not looked at here."""


@lru_cache(maxsize=64)
def _prefix(tag: int, length: int) -> bytes:
    """What a frame has before the chunk."""
    return StreamGradientsRequest(tag=tag, chunk=bytes(length)).SerializeToString()[:-length]


def chunk_frame(tag: int, chunk: memoryview) -> bytes:
    """The frame of a chunk of at least one byte."""
    return b"".join((_prefix(tag, len(chunk)), chunk))


def chunk_of(frame: bytes, tag: int) -> memoryview | None:
    """The chunk of a frame with this tag; None if it is no such frame, or written in another way than usual."""
    if len(frame) > MAX_FRAME:
        return None
    # A shorter chunk may need one byte less for its length; such a frame is read as any other message.
    length = len(frame) - len(_prefix(tag, len(frame)))
    if length < 1 or not frame.startswith(_prefix(tag, length)):
        return None
    return memoryview(frame)[-length:]
