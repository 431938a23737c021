"""Responses of the wire -> arrays."""

from __future__ import annotations

from typing import Any

from google.protobuf.message import DecodeError

from gradwire._arrays import Array, decode_tensor
from gradwire._calls.results import Told, decode_told
from gradwire._errors import ServerError
from gradwire.v1 import gradient_service_pb2 as pb
from gradwire.v1.elements import BYTES, Key, Template, spans_in, template_of, tensors_in

STATS = pb.ComputeGradientsResponse.STATS_FIELD_NUMBER << 3 | BYTES
"""How the end of most responses begins, what the computation took."""


class Replies:
    """Responses to requests of one graph, of which most differ in elements alone. Safe to share among threads."""

    def __init__(self) -> None:
        self._template: Template | None = None
        """That of a response without its end, in which it says what it took."""
        self._others = 0
        """Responses that it did not match."""

    def read(self, response: bytes | pb.ComputeGradientsResponse) -> tuple[dict[Any, Array], Told | bytes]:
        """The tensors of a response, gradients in order of names, and what else it says, serialized or not.

        Raises:
            ServerError: It makes no sense.
        """
        try:
            if not isinstance(response, bytes):
                return _decoded(response), decode_told(response)
            template = self._template
            if template is not None and template.matches(response, 0):
                rest = response[template.nbytes :]
                if 1 < len(rest) < 130 and rest[0] == STATS and rest[1] == len(rest) - 2:
                    return template.arrays(response, 0), rest
            message = pb.ComputeGradientsResponse.FromString(response)
            arrays = _decoded(message)
        except (DecodeError, ValueError) as error:
            raise ServerError(f"the server sent a response that makes no sense: {error}") from None
        self._others += 1
        # Where responses have many forms, templates would be made in vain; so ever fewer are.
        if self._others > 1 and self._others & (self._others - 1) == 0:
            self._template = _template(response, arrays)
        return arrays, decode_told(message)


def _decoded(message: pb.ComputeGradientsResponse) -> dict[Key, Array]:
    return {key: decode_tensor(tensor) for key, tensor in tensors_in(message).items()}


def _template(response: bytes, arrays: dict[Key, Array]) -> Template | None:
    spans = spans_in(response, pb.ComputeGradientsResponse) or {}
    tensors = response[: max([end for _, end in spans.values()], default=0)]
    try:
        return template_of(tensors, pb.ComputeGradientsResponse.FromString(tensors), arrays)
    except DecodeError:
        return None
