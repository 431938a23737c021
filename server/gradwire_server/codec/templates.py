"""Requests and responses of which all bytes are known but the elements of tensors: nothing in them is to be parsed."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from operator import itemgetter
from typing import Any, NamedTuple

import numpy as np
from google.protobuf.message import DecodeError

from gradwire.v1 import gradient_service_pb2 as pb
from gradwire_server.codec.responses import Part, encode_evaluation, parts_of, put_stats
from gradwire_server.codec.tensors import Array
from gradwire_server.engine import Evaluation, Query, unhurried

TENSORS, KEY, VALUE, RAW = 4, 1, 2, 3
"""Numbers of fields: tensors of a request, name and tensor in each of them, elements in a tensor."""

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
"""Types of the wire."""

TEMPLATE_BYTES, TENSOR_BYTES, OUTPUT_BYTES = 4000, 1500, 200
"""Rough memory of a template, of a tensor in it, and of an output, besides the bytes that it knows."""

Span = tuple[int, int]
"""Where something begins, and where it ends."""

Layouts = list[tuple[Part, tuple[int, ...], np.dtype[Any]]]
"""Names, shapes and types of the tensors of a response."""


class _Elements(NamedTuple):
    """Where the elements of a tensor are, and what they are."""

    name: str
    begin: int
    end: int
    shape: tuple[int, ...]
    dtype: np.dtype[np.generic]


class RequestTemplate:
    """A request, as what is the same in all requests that differ in elements alone.

    Args:
        raw: The message.
        query: What it asks.
        spans: Where the elements of each tensor are.
    """

    def __init__(self, raw: bytes, query: Query, spans: Mapping[str, Span]) -> None:
        self._asked: tuple[Any, ...] = query[1:]
        places = sorted((*span, name) for name, span in spans.items())
        begins = [0, *(end for _, end, _ in places)]
        ends = [*(begin for begin, _, _ in places), len(raw)]
        self._fixed = [(begin, raw[begin:end]) for begin, end in zip(begins, ends, strict=True)]
        self._elements = [
            _Elements(name, begin, end, query.arrays[name].shape, query.arrays[name].dtype)
            for begin, end, name in places
        ]
        fixed = sum(len(fixed) for _, fixed in self._fixed)
        self.nbytes = TEMPLATE_BYTES + TENSOR_BYTES * len(spans) + OUTPUT_BYTES * len(query.outputs) + 2 * fixed
        """Estimate of its memory, with that of the template of its responses, in bytes."""
        self._response: ResponseTemplate | None = None
        """That of its responses, once there was one."""

    def matches(self, raw: bytes, start: int) -> bool:
        """Whether the bytes from ``start`` on, which are as many as the request had, differ in elements alone."""
        for begin, fixed in self._fixed:  # noqa: SIM110  (a generator takes longer)
            if not raw.startswith(fixed, start + begin):
                return False
        return True

    def query(self, raw: bytes, start: int) -> Query:
        """What a request asks that matches.

        Its elements are copied, which takes less than it takes to compute with numbers that are not aligned; and
        some products depend on that in their last bits.
        """
        arrays: dict[str, Array] = {
            name: np.ndarray(shape, dtype, raw[start + begin : start + end])
            for name, begin, end, shape, dtype in self._elements
        }
        return Query(arrays, *self._asked)

    def response(self, evaluation: Evaluation, seconds: float) -> bytes:
        """The response to a request that matches, serialized."""
        if evaluation.non_finite is None:
            # Outputs are asked for by number, which may mean another node in a graph that came later with this id.
            if self._response is None or not self._response.fits(evaluation):
                self._response = response_template(evaluation, seconds)
            if self._response is not None:
                return self._response.encode(evaluation, seconds)
        return encode_evaluation(evaluation, seconds, unhurried)[0].SerializeToString()


def request_template(raw: bytes, request: pb.ComputeGradientsRequest, query: Query) -> RequestTemplate | None:
    """The template of a message that was parsed and decoded; None if it is written in an unusual way."""
    try:
        spans = _spans(raw)
    except (ValueError, IndexError):
        return None
    if spans.keys() != query.arrays.keys():
        return None
    # The parser has the last word: with other elements it must find those, and nothing else that has changed.
    other, expected = bytearray(raw), pb.ComputeGradientsRequest()
    expected.CopyFrom(request)
    for name, (begin, end) in spans.items():
        if raw[begin:end] != query.arrays[name].tobytes():
            return None
        other[begin:end] = expected.tensors[name].raw = os.urandom(end - begin)
    try:
        found = pb.ComputeGradientsRequest.FromString(bytes(other))
    except DecodeError:
        return None
    return RequestTemplate(raw, query, spans) if found == expected else None


def _spans(raw: bytes) -> dict[str, Span]:
    """Where the elements of each tensor of a request are.

    Raises:
        ValueError, IndexError: It is written in an unusual way.
    """
    spans: dict[str, Span] = {}
    for number, *entry in _fields(raw, 0, len(raw)):
        if number == TENSORS:
            parts = _once(raw, *entry)
            name = raw[slice(*parts[KEY])].decode() if KEY in parts else ""
            if name in spans:
                raise ValueError(name)
            spans[name] = _once(raw, *parts.get(VALUE, (0, 0))).get(RAW, (0, 0))
    return spans


def _once(raw: bytes, begin: int, end: int) -> dict[int, Span]:
    """The fields of a message that hold bytes, none of which is there twice."""
    fields = list(_fields(raw, begin, end))
    found = {number: (start, stop) for number, start, stop in fields}
    if len(found) != len(fields):
        raise ValueError(begin)
    return found


def _fields(raw: bytes, begin: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Number, begin and end of each field of a message that holds bytes."""
    at = begin
    while at < end:
        tag, at = _varint(raw, at)
        wire = tag & 7
        if wire == VARINT:
            _, at = _varint(raw, at)
        elif wire == BYTES:
            length, at = _varint(raw, at)
            yield tag >> 3, at, at + length
            at += length
        elif wire in (FIXED64, FIXED32):
            at += 8 if wire == FIXED64 else 4
        else:
            raise ValueError(wire)
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


class ResponseTemplate:
    """A response, as what is the same in all responses to requests of a template whose numbers are finite.

    Args:
        raw: One of them, without what it took.
        places: Where the elements of its tensors are, in that order.
        layouts: Names, shapes and types of its tensors.
    """

    def __init__(self, raw: bytes, places: Sequence[tuple[Span, Part]], layouts: Layouts) -> None:
        ends = [*(begin for (begin, _), _ in places), len(raw)]
        self._begin = raw[: ends[0]]
        self._parts = [(part, raw[end:following]) for ((_, end), part), following in zip(places, ends[1:], strict=True)]
        """Each tensor with the bytes between its elements and those of the next."""
        self._layouts = layouts
        self._rest = pb.ComputeGradientsResponse()

    def fits(self, evaluation: Evaluation) -> bool:
        """Whether a response to be written has tensors of the same names, shapes and types."""
        return _layouts_of(evaluation) == self._layouts

    def encode(self, evaluation: Evaluation, seconds: float) -> bytes:
        """The response, serialized."""
        arrays: dict[Any, Array] = {None: evaluation.loss, **evaluation.gradients, **evaluation.outputs}
        pieces = [self._begin]
        for part, after in self._parts:
            pieces += arrays[part].tobytes(), after
        put_stats(self._rest.stats, evaluation, seconds)
        pieces.append(self._rest.SerializeToString())
        return b"".join(pieces)


def response_template(evaluation: Evaluation, seconds: float) -> ResponseTemplate | None:
    """The template of this response and those like it; None if protobuf writes it in another way."""
    marked = evaluation._replace(
        loss=_marked(evaluation.loss),
        gradients={name: _marked(array) for name, array in evaluation.gradients.items()},
        outputs={node: _marked(array) for node, array in evaluation.outputs.items()},
    )
    message, _ = encode_evaluation(marked, seconds, unhurried)
    message.ClearField("stats")
    raw = message.SerializeToString()
    places: list[tuple[Span, Part]] = []
    for part, array in parts_of(marked):
        elements = array.tobytes()
        if raw.count(elements) == 1:
            begin = raw.index(elements)
            places.append(((begin, begin + len(elements)), part))
    places.sort(key=itemgetter(0))
    template = ResponseTemplate(raw, places, _layouts_of(evaluation))
    written = encode_evaluation(evaluation, seconds, unhurried)[0].SerializeToString()
    return template if template.encode(evaluation, seconds) == written else None


def _layouts_of(evaluation: Evaluation) -> Layouts:
    return [(part, array.shape, array.dtype) for part, array in parts_of(evaluation)]


def _marked(array: Array) -> Array:
    """An array like this one, whose elements are found again by what they are."""
    return np.frombuffer(os.urandom(array.nbytes), array.dtype).reshape(array.shape)
