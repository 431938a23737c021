"""Templates of small requests: what came before in all bytes but elements is neither parsed nor decoded again."""

from __future__ import annotations

from collections import OrderedDict

from gradwire.v1 import gradient_service_pb2 as pb
from gradwire_server import codec, engine
from gradwire_server.service.requests.logic import FindProgram, GradientLogic

PREFIX = 16
"""Bytes of a request by which it is looked up, with its length: as a rule of the id of its graph. The elements of the
first tensor come after them."""

ALIKE = 4
"""Templates of requests that are alike in these. Further ones are not learned: that takes longer than to parse them."""

MAX_KINDS, MAX_BYTES = 1024, 4 << 20
"""Kinds of requests by these, and bytes of templates; beyond these, the least recently used ones are forgotten."""

_Kind = tuple[int, bytes]

Found = tuple[codec.RequestTemplate, engine.Program]
"""A template that a request matches, and its program."""


class Templates:
    """Templates of requests that came at least twice. Used on the event loop alone.

    A template says what bytes mean, which never changes; the program is looked up for each request.
    """

    def __init__(self, logic: GradientLogic) -> None:
        self._logic = logic
        self._known: OrderedDict[_Kind, list[tuple[codec.RequestTemplate, FindProgram]] | None] = OrderedDict()
        """None where requests have no template."""
        self._nbytes = 0

    def find(self, raw: bytes, start: int) -> Found | None:
        """The template that the bytes from ``start`` on match, and the program, if there are both."""
        kind = _kind(raw, start)
        alike = self._known.get(kind) or ()
        for number, (template, find_program) in enumerate(alike):
            if template.matches(raw, start):
                program = find_program()
                if program is not None:
                    self._known.move_to_end(kind)
                    return template, program
                # It makes room for others, should its graph not come again.
                self._nbytes -= template.nbytes
                del self._known[kind][number]  # type: ignore[union-attr]  # it is not empty
                return None
        return None

    def leave(self, raw: bytes, start: int) -> None:
        """Learn no requests of this kind: they are not answered by templates."""
        kind = _kind(raw, start)
        self._drop(kind)
        self._known[kind] = None

    def learn(self, raw: bytes, start: int, request: pb.ComputeGradientsRequest) -> None:
        """Make a template of a request that was answered, unless it is the first of its kind."""
        kind = _kind(raw, start)
        if kind not in self._known:
            self._known[kind] = []
            if len(self._known) > MAX_KINDS:
                self._drop(next(iter(self._known)))
            return
        alike = self._known[kind]
        if alike is None or len(alike) >= ALIKE:
            return
        found = self._logic.template(raw[start:], request)
        if found is None:
            self.leave(raw, start)
            return
        alike.append(found)
        self._known.move_to_end(kind)
        self._nbytes += found[0].nbytes
        while self._nbytes > MAX_BYTES:
            self._drop(next(iter(self._known)))

    def _drop(self, kind: _Kind) -> None:
        self._nbytes -= sum(template.nbytes for template, _ in self._known.pop(kind, None) or ())


def _kind(raw: bytes, start: int) -> _Kind:
    return len(raw) - start, raw[start : start + PREFIX]
