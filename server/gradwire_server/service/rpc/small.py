"""Small requests that are known by their bytes, answered at once in one flat course.

What is checked, counted and told is what ``Answering`` checks, counts and tells of any other.
"""

from __future__ import annotations

from gradwire.v1 import gradient_service_pb2 as pb
from gradwire_server.engine import Evaluation, Fit, Job
from gradwire_server.service.capacity.caller import Caller
from gradwire_server.service.requests.logic import reply_too_large
from gradwire_server.service.requests.templates import Found, Templates
from gradwire_server.service.rpc.answering import (
    SMALL_BYTES,
    SMALL_MEMORY,
    SMALL_REPLY,
    SMALL_SECONDS,
    TOO_MUCH,
    Answering,
)
from gradwire_server.service.rpc.frames import INLINE_BYTES, Frames, response_frame, response_frames
from gradwire_server.service.telemetry.spans import SPANS


class SmallRequests:
    """Requests that came before in all bytes but elements."""

    def __init__(self, answering: Answering) -> None:
        self._admission = answering.admission
        self._bound = answering.planner.bound
        self._logic = answering.logic
        self._templates = Templates(answering.logic)
        self._limits = answering.logic.limits
        self._is_traced = SPANS.tracer is not None

    def find(self, raw: bytes, start: int) -> Found | None:
        """What is known of the request that begins there; nothing where spans are to tell of the ordinary course."""
        return None if self._is_traced else self._templates.find(raw, start)

    def learn(self, raw: bytes, start: int, request: pb.ComputeGradientsRequest) -> None:
        """Know requests like this one, which was answered in the ordinary course."""
        if len(raw) <= SMALL_BYTES and not self._is_traced:
            self._templates.learn(raw, start, request)

    def unary(self, known: Found, raw: bytes, caller: Caller) -> bytes | None:
        """The response to a call; None for one that takes too long to be answered at once.

        Raises:
            Refusal: as ``Answering.answer``.
        """
        found = self._evaluated(known, raw, 0, caller)
        if found is None:
            return None
        _, evaluation, seconds, fitted = found
        response = known[0].response(evaluation, seconds, fitted=fitted)
        if len(response) > self._limits.max_message_bytes:
            raise reply_too_large(len(response), self._limits, TOO_MUCH)
        return response

    def framed(self, known: Found, raw: bytes, start: int, tag: int, caller: Caller) -> Frames | None:
        """The response to a request that begins there in a frame with this tag; None as above. Raises as above."""
        found = self._evaluated(known, raw, start, caller)
        if found is None:
            return None
        job, evaluation, seconds, fitted = found
        reply = job.result_bytes
        if reply > SMALL_REPLY:
            self._admission.answered(caller, reply)
        if reply > INLINE_BYTES // 2:
            return response_frames(tag, evaluation, seconds, caller.checkpoint)
        return (response_frame(tag, known[0].response(evaluation, seconds, fitted=fitted)),)

    def _evaluated(
        self, known: Found, raw: bytes, start: int, caller: Caller
    ) -> tuple[Job, Evaluation, float, bool] | None:
        """The job, what the engine found, what it took, and whether the fit was known. None as above."""
        template, program = known
        self._admission.check(caller)
        query = template.query(raw, start)
        job = None if template.fit is None else template.fit.job(program, query)
        if job is not None:
            # What it costs follows from what is known, and was found to be little.
            return job, *self._logic.evaluate(job, caller.checkpoint), True
        prepared = self._bound(program, query)
        if prepared.cost > SMALL_SECONDS or prepared.memory > SMALL_MEMORY:
            self._templates.leave(raw, start)
            return None
        evaluation, seconds = prepared.evaluate(caller.checkpoint)
        if evaluation.non_finite is None:
            template.fit = Fit(prepared.job)
        return prepared.job, evaluation, seconds, False
