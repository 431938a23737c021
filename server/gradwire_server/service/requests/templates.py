"""Templates of small requests: what came before in all bytes but elements is neither parsed nor decoded again."""

from __future__ import annotations

from gradwire_server import codec, engine
from gradwire_server.service.requests.logic import FindProgram, GradientLogic

PREFIX = 16
"""Bytes of a request by which it is looked up, with its length: as a rule of the id of its graph. The elements of the
first tensor come after them."""

ALIKE = 4
"""Templates of requests that are alike in these."""

MAX_KINDS, MAX_BYTES = 1024, 4 << 20
"""Kinds of requests by these, and bytes of templates; beyond these all are forgotten."""

Found = tuple[codec.RequestTemplate, engine.Program]
"""A template that a request matches, and its program."""


class Templates:
    """Templates of requests that came at least twice. Used on the event loop alone.

    A template says what bytes mean, which never changes; the program is looked up for each request.
    """

    def __init__(self, logic: GradientLogic) -> None:
        self._logic = logic
        self._known: dict[tuple[int, bytes], list[tuple[codec.RequestTemplate, FindProgram]] | None] = {}
        """None where requests have no template."""
        self._nbytes = 0

    def find(self, raw: bytes, start: int) -> Found | None:
        """The template that the bytes from ``start`` on match, and the program, if there are both."""
        for template, find_program in self._known.get(_kind(raw, start)) or ():
            if template.matches(raw, start):
                program = find_program()
                return None if program is None else (template, program)
        return None

    def learn(self, raw: bytes, start: int) -> None:
        """Make a template of a request that was answered, unless it is the first of its kind."""
        kind = _kind(raw, start)
        if kind not in self._known:
            if len(self._known) >= MAX_KINDS:
                self._forget()
            self._known[kind] = []
            return
        alike = self._known[kind]
        if alike is None:
            return
        found = self._logic.template(raw[start:])
        if found is None:
            self._known[kind] = None
            return
        nbytes = found[0].nbytes
        if self._nbytes + nbytes > MAX_BYTES:
            self._forget()
            alike = self._known[kind] = []
        if len(alike) >= ALIKE:
            alike.clear()
        alike.append(found)
        self._nbytes += nbytes

    def _forget(self) -> None:
        self._known.clear()
        self._nbytes = 0


def _kind(raw: bytes, start: int) -> tuple[int, bytes]:
    return len(raw) - start, raw[start : start + PREFIX]
