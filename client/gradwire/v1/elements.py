"""Requests and responses of which all bytes are known but the elements of tensors: nothing in them is to be parsed."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from gradwire.v1 import tensor_pb2
from gradwire.v1.gradient_service_pb2 import ComputeGradientsRequest, ComputeGradientsResponse

Key = str | int | None
"""A tensor of a message: a source or its gradient by name, the output of a node by index, or the loss (None)."""

Span = tuple[int, int]
"""Where something begins, and where it ends."""

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
"""Types of the wire."""

KEY, VALUE, RAW = 1, 2, tensor_pb2.Tensor.RAW_FIELD_NUMBER
"""Numbers of fields: key and value of an entry of a map, elements of a tensor."""


class _Place(NamedTuple):
    """Where the elements of a tensor are, and what they are."""

    key: Any
    begin: int
    size: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]


class Template:
    """A message, as what is the same in all messages that differ in elements alone.

    Args:
        raw: The message.
        spans: Where the elements of each tensor are, by key.
        arrays: The tensors, by key, in the order in which they are to be read.
    """

    def __init__(self, raw: bytes, spans: Mapping[Key, Span], arrays: Mapping[Any, NDArray[Any]]) -> None:
        ordered = sorted(spans.values())
        begins = [0, *(end for _, end in ordered)]
        ends = [*(begin for begin, _ in ordered), len(raw)]
        self._fixed = [(begin, raw[begin:end]) for begin, end in zip(begins, ends, strict=True)]
        self._places = [
            _Place(key, spans[key][0], array.size, array.shape, array.dtype) for key, array in arrays.items()
        ]
        self.nbytes = len(raw)
        """Bytes of such a message."""
        self.fixed = sum(len(fixed) for _, fixed in self._fixed)
        """Bytes of it that are no elements."""

    def matches(self, raw: bytes, start: int) -> bool:
        """Whether the bytes from ``start`` on, as many as the message had or more, differ in elements alone."""
        for begin, fixed in self._fixed:  # noqa: SIM110  (a generator takes longer)
            if not raw.startswith(fixed, start + begin):
                return False
        return True

    def arrays(self, raw: bytes, start: int) -> dict[Any, NDArray[Any]]:
        """The tensors of a message that matches.

        Their elements are copied, which takes less than it takes to compute with numbers that are not aligned; and
        some products depend on that in their last bits.
        """
        found: dict[Any, NDArray[Any]] = {}
        for key, begin, size, shape, dtype in self._places:
            # Of one axis, as most are, this takes less than what takes a shape.
            array = np.frombuffer(raw, dtype, size, start + begin)
            found[key] = (array if len(shape) == 1 else array.reshape(shape)).copy()
        return found


def template_of(
    raw: bytes, message: ComputeGradientsRequest | ComputeGradientsResponse, arrays: Mapping[Any, NDArray[Any]]
) -> Template | None:
    """The template of a message that was parsed and decoded; None if it is written in an unusual way."""
    kind: Any = type(message)
    spans = spans_in(raw, kind)
    if spans is None or spans.keys() != arrays.keys():
        return None
    # The parser has the last word: with other elements it must find those, and nothing else that has changed.
    other, expected = bytearray(raw), kind()
    expected.CopyFrom(message)
    tensors = tensors_in(expected)
    for key, (begin, end) in spans.items():
        if raw[begin:end] != arrays[key].tobytes():
            return None
        other[begin:end] = tensors[key].raw = os.urandom(end - begin)
    try:
        found = kind.FromString(bytes(other))
    except DecodeError:
        return None
    return Template(raw, spans, arrays) if found == expected else None


def tensors_in(message: ComputeGradientsRequest | ComputeGradientsResponse) -> dict[Key, tensor_pb2.Tensor]:
    """The tensors of a message, by key; those by name in order of names."""
    if isinstance(message, ComputeGradientsRequest):
        return {name: message.tensors[name] for name in sorted(message.tensors)}
    found: dict[Key, tensor_pb2.Tensor] = {None: message.loss} if message.HasField("loss") else {}
    found.update(message.outputs.items())
    found.update((name, message.gradients[name]) for name in sorted(message.gradients))
    return found


def spans_in(raw: bytes, kind: type[ComputeGradientsRequest | ComputeGradientsResponse]) -> dict[Key, Span] | None:
    """Where the elements of each tensor of a message are, by key; None if it is written in an unusual way."""
    keys, spans = _KEYS[kind], dict[Key, Span]()
    try:
        for number, begin, end in _fields(raw, 0, len(raw)):
            key_of = keys.get(number)
            if key_of is None:
                continue
            key = key_of(raw, begin, end)
            tensor = (begin, end) if key is None else _only(raw, begin, end, VALUE)
            if key in spans:
                return None
            spans[key] = _only(raw, *tensor, RAW)
    except (ValueError, IndexError):
        return None
    return spans


def _name(raw: bytes, begin: int, end: int) -> Key:
    return raw[slice(*_only(raw, begin, end, KEY))].decode()


def _index(raw: bytes, begin: int, end: int) -> Key:
    at, stop = _only(raw, begin, end, KEY)
    return _varint(raw, at)[0] if stop else 0


_KEYS: Mapping[type[Any], Mapping[int, Callable[[bytes, int, int], Key]]] = {
    ComputeGradientsRequest: {ComputeGradientsRequest.TENSORS_FIELD_NUMBER: _name},
    ComputeGradientsResponse: {
        ComputeGradientsResponse.LOSS_FIELD_NUMBER: lambda *_: None,
        ComputeGradientsResponse.GRADIENTS_FIELD_NUMBER: _name,
        ComputeGradientsResponse.OUTPUTS_FIELD_NUMBER: _index,
    },
}
"""What tells the key of a tensor, by the number of its field."""


def _only(raw: bytes, begin: int, end: int, number: int) -> Span:
    """Where the one field of this number is in a message; nowhere if it is absent.

    Raises:
        ValueError, IndexError: It is there twice, or the message is written in an unusual way.
    """
    found = [(start, stop) for other, start, stop in _fields(raw, begin, end) if other == number]
    if len(found) > 1:
        raise ValueError(number)
    return found[0] if found else (0, 0)


def _fields(raw: bytes, begin: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Number, begin and end of each field of a message."""
    at = begin
    while at < end:
        tag, at = _varint(raw, at)
        wire = tag & 7
        if wire == VARINT:
            _, stop = _varint(raw, at)
        elif wire == BYTES:
            length, at = _varint(raw, at)
            stop = at + length
        elif wire in (FIXED64, FIXED32):
            stop = at + (8 if wire == FIXED64 else 4)
        else:
            raise ValueError(wire)
        yield tag >> 3, at, stop
        at = stop
    if at != end:
        raise ValueError(at)


def _varint(raw: bytes, at: int) -> tuple[int, int]:
    value, shift = 0, 0
    while True:
        byte = raw[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7
