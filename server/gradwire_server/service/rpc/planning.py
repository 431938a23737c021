"""Requests that are checked before they compute, and what each of them will take."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Generic, NamedTuple, TypeVar

from gradwire.v1 import gradient_service_pb2 as pb
from gradwire_server import codec
from gradwire_server.engine import Checkpoint, Program, Query, unhurried
from gradwire_server.errors import Reason, refuse
from gradwire_server.service.requests.logic import (
    GradientLogic,
    Planned,
    Prepared,
    ProgramRequest,
    reply_too_large,
)

R = TypeVar("R")

DOUBT = 10
"""How many times as long as it may take a request is estimated to take before it is refused for that."""


class Unprepared(NamedTuple, Generic[R]):
    """A request whose graph is prepared before it can be checked, with estimates of what that takes."""

    cost: float
    memory: int
    prepare: Callable[[Checkpoint], Planned[R]]


class Planner:
    """Checks requests, and refuses those that would take too long.

    Methods that take a checkpoint may prepare a graph or read a large request, and belong on a thread.
    """

    def __init__(self, logic: GradientLogic) -> None:
        self._logic = logic
        self._longest = DOUBT * logic.limits.max_seconds * logic.threads
        """Seconds on one core that a request may take, as estimated."""

    def register(self, request: pb.RegisterGraphRequest, _: Checkpoint) -> Planned[pb.RegisterGraphResponse]:
        """A graph to check and keep."""
        found = self._logic.find(request)
        cost, memory = found if isinstance(found, codec.Preparation) else (0, 0)
        return Planned(cost, memory, partial(self._logic.register_graph, request))

    def compute(
        self, request: pb.ComputeGradientsRequest, checkpoint: Checkpoint
    ) -> Planned[pb.ComputeGradientsResponse] | Unprepared[pb.ComputeGradientsResponse]:
        """A loss to evaluate and differentiate, whose response is one message."""

        def plan(program: Program | None, checkpoint: Checkpoint) -> Planned[pb.ComputeGradientsResponse]:
            return self._one_message(self.prepare(request, codec.NO_ARRAYS, program, checkpoint))

        return self.with_program(request, plan, checkpoint)

    def compute_at_once(self, request: pb.ComputeGradientsRequest) -> Planned[pb.ComputeGradientsResponse] | None:
        """The plan of a request that is quick to check, as its program is at hand; None for any other."""
        program = self._logic.at_hand(request)
        if program is None:
            return None
        return self._one_message(self.prepare(request, codec.NO_ARRAYS, program, unhurried))

    def prepare(
        self,
        request: pb.ComputeGradientsRequest,
        framed: codec.Arrays,
        program: Program | None,
        checkpoint: Checkpoint,
    ) -> Prepared:
        """A loss to evaluate and differentiate, with the tensors that came in frames."""
        prepared = self._logic.prepare_compute(request, framed, program, checkpoint)
        self._check_cost(prepared.cost)
        return prepared

    def bound(self, program: Program, query: Query) -> Prepared:
        """A loss to evaluate and differentiate, of which it is known what is asked."""
        prepared = self._logic.bound(program, query)
        self._check_cost(prepared.cost)
        return prepared

    def trace(
        self, request: pb.TraceGraphRequest, checkpoint: Checkpoint
    ) -> Planned[pb.TraceGraphResponse] | Unprepared[pb.TraceGraphResponse]:
        """An example of which every value and gradient is shown."""

        def plan(program: Program | None, checkpoint: Checkpoint) -> Planned[pb.TraceGraphResponse]:
            planned = self._logic.prepare_trace(request, checkpoint, program)
            self._check_cost(planned.cost)
            return planned

        return self.with_program(request, plan, checkpoint)

    def check(
        self, request: pb.CheckGradientsRequest, checkpoint: Checkpoint
    ) -> Planned[pb.CheckGradientsResponse] | Unprepared[pb.CheckGradientsResponse]:
        """A gradient to compare with finite differences."""

        def plan(program: Program | None, checkpoint: Checkpoint) -> Planned[pb.CheckGradientsResponse]:
            planned = self._logic.prepare_check(request, checkpoint, program)
            self._check_cost(planned.cost)
            return planned

        return self.with_program(request, plan, checkpoint)

    def info(self, _: pb.GetServerInfoRequest, __: Checkpoint = unhurried) -> Planned[pb.GetServerInfoResponse]:
        """Version, ops and limits, which take nothing."""
        return Planned(0, 0, lambda _: self._logic.info())

    def with_program(
        self,
        request: ProgramRequest,
        plan: Callable[[Program | None, Checkpoint], Planned[R]],
        checkpoint: Checkpoint,
    ) -> Planned[R] | Unprepared[R]:
        """The plan of a request, unless its graph is to be prepared first."""
        found = self._logic.find(request)
        if isinstance(found, codec.Preparation):
            return Unprepared(found.cost, found.memory, partial(plan, None))
        return plan(found, checkpoint)

    def _one_message(self, prepared: Prepared) -> Planned[pb.ComputeGradientsResponse]:
        limits = self._logic.limits
        if prepared.job.result_bytes > limits.max_message_bytes:
            raise reply_too_large(prepared.job.result_bytes, limits, "ask for fewer gradients or use StreamGradients")
        return Planned(prepared.cost, prepared.memory, prepared.run, prepared.job.result_bytes)

    def _check_cost(self, seconds: float) -> None:
        limits = self._logic.limits
        if seconds > self._longest:
            raise refuse(
                Reason.LIMIT_EXCEEDED,
                f"the request would compute for about {seconds:.1e} s on one core; this server lets one compute for "
                f"{limits.max_seconds} s (max_seconds) on {self._logic.threads} threads; send fewer examples at a "
                "time, or a smaller graph",
                found=f"{seconds:.1e}",
                limit=limits.max_seconds,
                setting="max_seconds",
            )
