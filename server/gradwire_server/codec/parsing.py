"""Bytes -> messages, with an error that says what is wrong with bytes that are none, or hold too much."""

from __future__ import annotations

from functools import cache
from typing import TypeVar

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.descriptor import FileDescriptor
from google.protobuf.message import DecodeError, Message

from gradwire_server.codec.counting import check_counts
from gradwire_server.engine import Limits
from gradwire_server.errors import Reason, Refusal, refuse

M = TypeVar("M", bound=Message)

UNCOUNTED = 1 << 20
"""Bytes of a message that is parsed whatever it holds; it takes no more than some tens of MiB."""


def parse(kind: type[M], raw: bytes, limits: Limits | None = None) -> M:
    """The message of this kind.

    Raises:
        Refusal: MALFORMED_MESSAGE, if the bytes are none; LIMIT_EXCEEDED, if they hold more than the limits allow.
    """
    if limits is not None and len(raw) > UNCOUNTED:
        check_counts(kind, raw, limits)
    try:
        return kind.FromString(raw)
    except DecodeError:
        raise _malformed(kind, raw) from None


def _malformed(kind: type[Message], raw: bytes) -> Refusal:
    # The parser does not say what is wrong. Where it is only the text, the same bytes parse with texts as bytes.
    try:
        _textless(kind.DESCRIPTOR.full_name).FromString(raw)
        cause = "a text field is not UTF-8"
    except DecodeError:
        cause = "they are truncated, of another type, or nested more than 100 deep"
    return refuse(
        Reason.MALFORMED_MESSAGE,
        f"not a valid request: {len(raw)} bytes do not parse as {kind.DESCRIPTOR.full_name}; {cause}",
        found=len(raw),
    )


@cache
def _textless(full_name: str) -> type[Message]:
    """The message type with every string field made a bytes field."""
    pool = descriptor_pool.DescriptorPool()
    file = descriptor_pool.Default().FindFileContainingSymbol(full_name)
    _add(pool, file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(full_name))


def _add(pool: descriptor_pool.DescriptorPool, file: FileDescriptor) -> None:
    for dependency in file.dependencies:
        _add(pool, dependency)
    copy = descriptor_pb2.FileDescriptorProto()
    file.CopyToProto(copy)
    pending = list(copy.message_type)
    while pending:
        message = pending.pop()
        pending.extend(message.nested_type)
        message.options.ClearField("map_entry")  # Keys of maps cannot be bytes; on the wire a map is a list.
        for field in message.field:
            if field.type == descriptor_pb2.FieldDescriptorProto.TYPE_STRING:
                field.type = descriptor_pb2.FieldDescriptorProto.TYPE_BYTES
    pool.Add(copy)
