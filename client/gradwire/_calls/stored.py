"""The course of a call about examples that a server may keep."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from gradwire._calls.examples import Stored, Upload
from gradwire._calls.layouts import beginnings
from gradwire._calls.steps import Compute, Steps
from gradwire._errors import ExamplesNotFoundError, GradwireError
from gradwire.v1 import gradient_service_pb2 as pb

T = TypeVar("T")

TRIES = 5
"""Uploads at most after a server has lacked examples, while others answer that hold them: calls that take turns among
servers might for ever have the uploads go to those."""


class Naming:
    """A call that names examples, or rows of them, instead of bringing them.

    Where its server lacks them, they are uploaded and it is made again, once: if that server lacks them too, uploads
    reach others than calls do, and the rows go with the call, and with twice as many further calls each time.
    """

    def __init__(self, stored: Stored, asked: int) -> None:
        self.stored = stored
        self._asked = asked
        self._seen = stored.form.uploads
        self._is_last = False

    def missed(self) -> Steps[bool]:
        """The server lacks them; whether the call is to be made again as it is."""
        form = self.stored.form
        if self._is_last:
            form.holders.missed(self._asked)
            return False
        for _ in range(TRIES):
            held = yield Upload(form, self._seen)
            if not held:
                break
            self._seen = form.uploads
        self._is_last = True
        return True

    def ended(self, *, found: bool) -> None:
        """The call has ended; ``found`` says that its server had them."""
        self.stored.form.holders.answered(self._asked, found=found)


def begin(stored: Stored) -> Steps[Naming | None]:
    """Upload the examples, if that was never done; None if their rows are to go with the call."""
    form = stored.form
    asked = form.holders.by_id()
    if asked is None:
        return None
    if not form.uploads:
        try:
            yield Upload(form, 0)
        except GradwireError:
            form.holders.answered(asked, found=False)
            raise
    return Naming(stored, asked)


def by_id_or_rows(stored: Stored, by_id: Callable[[], Steps[T]], with_rows: Callable[[], Steps[T]]) -> Steps[T]:
    """What the call gives that names the examples, or else the one that brings their rows."""
    naming = yield from begin(stored)
    while naming is not None:
        try:
            try:
                result = yield from by_id()
            except ExamplesNotFoundError:
                if (yield from naming.missed()):
                    continue
                break
        except GradwireError:
            naming.ended(found=False)
            raise
        naming.ended(found=True)
        return result
    return (yield from with_rows())


def with_examples(step: Compute, stored: Stored) -> Compute:
    """A step that names rows of examples beside its arrays."""
    examples = pb.ComputeGradientsRequest(examples=stored.asked()).SerializeToString()
    return step._replace(examples=examples, examples_id=stored.form.examples_id)


def with_rows(step: Compute, stored: Stored) -> Compute:
    """A step that brings the rows instead of naming them."""
    rows = stored.arrays()
    return step._replace(
        arrays={**step.arrays, **rows},
        before={**step.before, **beginnings(rows)},
        request_bytes=step.request_bytes + sum(array.nbytes for array in rows.values()),
        examples=b"",
        examples_id="",
    )
