"""Frames of a stream as bytes: both sides write and read them without a copy more than needed.

A frame of a request and one of a response look the same: a tag, and then a head or a chunk. Here a head is one that has
a message and nothing else.
"""

from __future__ import annotations

from functools import lru_cache

CHUNK_BYTES = (1 << 20) - (1 << 10)
"""Elements of a chunk, in bytes, so that the frame with its wrapping stays within 1 MiB."""

MAX_FRAME = 1 << 20
"""Bytes of a frame beyond which it is not looked at here."""

TAG, HEAD, CHUNK, MESSAGE = b"\x08", b"\x12", b"\x1a", b"\x0a"
"""How the fields of a frame begin: its tag, its head, its chunk, and in the head the request or response."""

MAX_TAG_BYTES = 9
"""Bytes of the tag of a frame that is looked at here; with more it is parsed."""


@lru_cache(maxsize=256)
def _tagged(tag: int) -> bytes:
    """What a frame begins with."""
    return TAG + _varint(tag) if tag else b""


@lru_cache(maxsize=64)
def _before_chunk(length: int) -> bytes:
    return CHUNK + _varint(length)


def chunk_frame(tag: int, chunk: memoryview) -> bytes:
    """The frame of a chunk of at least one byte."""
    return b"".join((_tagged(tag), _before_chunk(len(chunk)), chunk))


def chunk_of(frame: bytes, tag: int) -> memoryview | None:
    """The chunk of a frame with this tag; None if it is no such frame, or written in another way than usual."""
    tagged = _tagged(tag)
    at = len(tagged)
    if not frame.startswith(CHUNK, at) or not frame.startswith(tagged) or len(frame) > MAX_FRAME:
        return None
    # A shorter chunk may need one byte less for its length; such a frame is read as any other message.
    at += len(_before_chunk(len(frame) - at))
    length = len(frame) - at
    return memoryview(frame)[at:] if length > 0 and frame.startswith(_before_chunk(length), len(tagged)) else None


def before_message(tag: int, nbytes: int) -> bytes:
    """What a frame has before a message of so many bytes, which is its head."""
    return _tagged(tag) + _before(nbytes)


def message_in(frame: bytes) -> tuple[int, int] | None:
    """The tag of a frame, and where in it a message begins that ends with it; None for any other frame."""
    tag, at = 0, 0
    if frame.startswith(TAG):
        for at in range(1, MAX_TAG_BYTES + 1):
            byte = frame[at] if at < len(frame) else 0
            tag |= (byte & 127) << (7 * (at - 1))
            if byte < 128:
                break
        else:
            return None
        at += 1
    head = _head(len(frame) - at)
    return (tag, at + len(head)) if head and frame.startswith(head, at) else None


def message_of(frame: bytes, tag: int) -> int | None:
    """Where in a frame with this tag a message begins that ends with it; None for any other frame."""
    tagged = _tagged(tag)
    at = len(tagged)
    head = _head(len(frame) - at)
    return at + len(head) if head and frame.startswith(head, at) and frame.startswith(tagged) else None


@lru_cache(maxsize=1024)
def _head(rest: int) -> bytes:
    """What stands before a message that fills the rest of a frame, so many bytes; nothing if none does."""
    for nbytes in range(max(0, rest - 12), rest):
        head = _before(nbytes)
        if len(head) + nbytes == rest:
            return head
    return b""


@lru_cache(maxsize=1024)
def _before(nbytes: int) -> bytes:
    inner = MESSAGE + _varint(nbytes)
    return HEAD + _varint(len(inner) + nbytes) + inner


def _varint(number: int) -> bytes:
    parts = []
    while number > 127:
        parts.append(number & 127 | 128)
        number >>= 7
    return bytes((*parts, number))
