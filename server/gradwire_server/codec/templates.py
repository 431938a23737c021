"""Small requests that are known by their bytes, and their responses: what they have beside elements is written once."""

from __future__ import annotations

from operator import itemgetter
from typing import Any

import numpy as np

from gradwire.v1 import gradient_service_pb2 as pb
from gradwire.v1.elements import Key, Span, Template, spans_in, template_of
from gradwire_server.codec.responses import encode_evaluation, parts_of, put_stats
from gradwire_server.codec.tensors import Array
from gradwire_server.engine import Evaluation, Fit, Query, unhurried

TEMPLATE_BYTES, TENSOR_BYTES, OUTPUT_BYTES = 4000, 1500, 200
"""Rough memory of a template, of a tensor in it, and of an output, besides the bytes that it knows."""

Layouts = list[tuple[Key, tuple[int, ...], np.dtype[Any]]]
"""Names, shapes and types of the tensors of a response."""


class RequestTemplate:
    """A request, as what is the same in all requests that differ in elements alone.

    Args:
        template: Its bytes.
        query: What it asks.
    """

    def __init__(self, template: Template, query: Query) -> None:
        self._template = template
        self._asked: tuple[Any, ...] = query[1:]
        self.matches = template.matches
        tensors, outputs = len(query.arrays), len(query.outputs)
        self.nbytes = TEMPLATE_BYTES + TENSOR_BYTES * tensors + OUTPUT_BYTES * outputs + 2 * template.fixed
        """Estimate of its memory, with that of the template of its responses, in bytes."""
        self._response: ResponseTemplate | None = None
        """That of its responses, once there was one."""
        self.fit: Fit | None = None
        """How requests that match fit their program, for whoever answers them; known once one had finite results."""

    def query(self, raw: bytes, start: int) -> Query:
        """What a request asks that matches."""
        return Query(self._template.arrays(raw, start), *self._asked)

    def response(self, evaluation: Evaluation, seconds: float, *, fitted: bool = False) -> bytes:
        """The response to a request that matches, serialized; ``fitted`` if its job came from ``fit``."""
        if evaluation.non_finite is None:
            # Outputs are asked for by number, which may mean another node in a graph that came later with this id.
            if self._response is None or not (fitted or self._response.fits(evaluation)):
                self._response = response_template(evaluation, seconds)
            if self._response is not None:
                return self._response.encode(evaluation, seconds)
        return encode_evaluation(evaluation, seconds, unhurried)[0].SerializeToString()


def request_template(raw: bytes, request: pb.ComputeGradientsRequest, query: Query) -> RequestTemplate | None:
    """The template of a message that was parsed and decoded; None if it is written in an unusual way."""
    template = template_of(raw, request, query.arrays)
    return None if template is None else RequestTemplate(template, query)


class ResponseTemplate:
    """A response, as what is the same in all responses to requests of a template whose numbers are finite.

    Args:
        raw: One of them, without what it took.
        spans: Where the elements of its tensors are.
        layouts: Names, shapes and types of its tensors.
    """

    def __init__(self, raw: bytes, spans: dict[Key, Span], layouts: Layouts) -> None:
        places = sorted(spans.items(), key=itemgetter(1))
        ends = [*(begin for _, (begin, _) in places), len(raw)]
        self._begin = raw[: ends[0]]
        self._parts = [(part, raw[end:following]) for (part, (_, end)), following in zip(places, ends[1:], strict=True)]
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
    message, _ = encode_evaluation(evaluation, seconds, unhurried)
    written = message.SerializeToString()
    message.ClearField("stats")
    raw = message.SerializeToString()
    template = ResponseTemplate(raw, spans_in(raw, pb.ComputeGradientsResponse) or {}, _layouts_of(evaluation))
    return template if template.encode(evaluation, seconds) == written else None


def _layouts_of(evaluation: Evaluation) -> Layouts:
    return [(part, array.shape, array.dtype) for part, array in parts_of(evaluation)]
