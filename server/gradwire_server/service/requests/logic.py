"""What the service does with a request, whatever brought it: messages in, messages out.

The embedded mode of the client uses it as it is; the gRPC skin adds threads, deadlines and statuses.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from hashlib import sha256
from time import perf_counter
from typing import Generic, NamedTuple, Protocol, TypeVar

from gradwire.v1 import gradient_service_pb2 as pb
from gradwire.v1 import graph_pb2
from gradwire_server import codec, engine
from gradwire_server.configuration.limits import ServiceLimits
from gradwire_server.engine import Checkpoint, unhurried
from gradwire_server.errors import Reason, Refusal, refuse, shown
from gradwire_server.service.requests.cache import ProgramCache
from gradwire_server.service.requests.rows import Gather, Rows, check_memory, rows_of
from gradwire_server.service.requests.store import ExampleStore, StoreObserver
from gradwire_server.version import VERSION

R = TypeVar("R")

_ID = re.compile(r"[0-9a-f]{64}\Z")

SMALL = 256
"""Nodes and operands of a program, or names and indices of a request, that take about a millisecond to check."""

ProgramRequest = pb.ComputeGradientsRequest | pb.TraceGraphRequest | pb.CheckGradientsRequest

FindProgram = Callable[[], engine.Program | None]
"""Finds the program of a request, if it is kept still."""


class Observer(StoreObserver, Protocol):
    """Who wants to know what the logic does, such as metrics."""

    def compiled(self, seconds: float, programs: int, nbytes: int) -> None:
        """A graph was prepared; so many are kept now, and take so many bytes."""

    def evaluated(self, nodes: int, examples: int, seconds: float, non_finite: str | None) -> None:
        """A loss was evaluated and differentiated; ``non_finite`` is the phase of the report, if there is one."""


class Unobserved:
    """An observer that does nothing."""

    def compiled(self, seconds: float, programs: int, nbytes: int) -> None:
        """Do nothing."""

    def evaluated(self, nodes: int, examples: int, seconds: float, non_finite: str | None) -> None:
        """Do nothing."""

    def stored(self, kept: int, nbytes: int) -> None:
        """Do nothing."""

    def uploaded(self) -> None:
        """Do nothing."""

    def forgot(self) -> None:
        """Do nothing."""


class Prepared(NamedTuple):
    """A request of ComputeGradients that passed every check, ready to run."""

    job: engine.Job
    logic: GradientLogic
    gather: Gather | None = None
    """Rows that are to be copied first."""

    @property
    def cost(self) -> float:
        """Rough estimate of the computing time, in seconds on one core."""
        return self.job.cost + (0.0 if self.gather is None else self.gather.cost)

    @property
    def memory(self) -> int:
        """Bytes that it takes at the peak, results included."""
        return self.job.memory + (0 if self.gather is None else self.gather.memory)

    def evaluate(self, checkpoint: Checkpoint) -> tuple[engine.Evaluation, float]:
        """The result, and the seconds it took; raises as ``GradientLogic.evaluate``."""
        return self.logic.evaluate(self.job, checkpoint, self.gather)

    def run(self, checkpoint: Checkpoint) -> pb.ComputeGradientsResponse:
        """The response. Raises as ``evaluate`` does."""
        response, _ = codec.encode_evaluation(*self.evaluate(checkpoint), checkpoint)
        return response


class Planned(NamedTuple, Generic[R]):
    """A request for a trace or a check that passed every check, ready to run, with estimates as a job has them."""

    cost: float
    memory: int
    run: Callable[[Checkpoint], R]
    reply: int = 0
    """Bytes of the response, where they are many."""


class GradientLogic:
    """The service without a transport. Safe to share among threads.

    Every method raises Refusal for whatever is wrong with a request, with paths that start at the request, and what a
    ``checkpoint`` raises, which is called between parts of the work.
    """

    def __init__(
        self,
        limits: ServiceLimits | None = None,
        observer: Observer | None = None,
        workers: int = 1,
        threads: engine.Threads = engine.ONE,
    ) -> None:
        self.limits = limits or ServiceLimits()
        self._workers = workers
        self.cache = ProgramCache(self.limits.max_cache_bytes)
        self._engine_limits = self.limits.of_engine()
        self._observer = observer or Unobserved()
        self._threads = threads
        self.store = ExampleStore(self.limits.max_stored_bytes, self._observer)

    @property
    def threads(self) -> int:
        """Threads that a request may have."""
        return self._threads.count

    def register_graph(
        self, request: pb.RegisterGraphRequest, checkpoint: Checkpoint = unhurried
    ) -> pb.RegisterGraphResponse:
        """Check a graph and keep it."""
        if not request.HasField("graph"):
            raise refuse(Reason.GRAPH_MISSING, "the graph is missing; set graph", "graph")
        program = self.compiled(request.graph, checkpoint, self.limits.max_cache_bytes)
        return pb.RegisterGraphResponse(
            graph_id=program.graph_id, signature=codec.encode_signature(program, checkpoint)
        )

    def at_hand(
        self, request: pb.ComputeGradientsRequest, framed: codec.Arrays = codec.NO_ARRAYS
    ) -> engine.Program | None:
        """The program of a request that is quick to check: it is kept already, and it and the request are small."""
        listed = len(request.tensors) + len(framed) + len(request.wrt.names) + len(request.outputs)
        if listed > SMALL:
            return None
        if request.WhichOneof("program") == "graph":
            return self.cache.find(_digest(request.graph), SMALL)
        return self.cache.get(request.graph_id, SMALL, numbered=bool(request.outputs))

    def find(self, request: pb.RegisterGraphRequest | ProgramRequest) -> engine.Program | codec.Preparation | None:
        """The program of the graph in a request, if it is kept; if not, what it takes to prepare it.

        None if there is no graph in it.
        """
        if not request.HasField("graph"):
            return None
        raw = request.graph.SerializeToString()
        return self.cache.find(sha256(raw).digest()) or codec.preparation(raw)

    def prepare_compute(
        self,
        request: pb.ComputeGradientsRequest,
        framed: codec.Arrays = codec.NO_ARRAYS,
        program: engine.Program | None = None,
        checkpoint: Checkpoint = unhurried,
    ) -> Prepared:
        """Check a request, with the tensors that came in frames; it has not cost anything yet.

        ``program`` is the request's own, where the caller has it at hand.
        """
        own = program or self._program(request, checkpoint)
        query = codec.decode_query(request, self._engine_limits, checkpoint, framed)
        if not request.HasField("examples"):
            return self.bound(own, query, checkpoint)
        rows = self._rows(request.examples, own, query.arrays)
        query = query._replace(arrays={**query.arrays, **rows.arrays})
        prepared = self.bound(own, query, checkpoint)._replace(gather=rows.gather)
        check_memory(prepared.memory, self._engine_limits)
        return prepared

    def bound(self, program: engine.Program, query: engine.Query, checkpoint: Checkpoint = unhurried) -> Prepared:
        """Check what is asked of a program."""
        return Prepared(engine.bind(program, query, self._engine_limits, self._threads.count, checkpoint), self)

    def evaluate(
        self, job: engine.Job, checkpoint: Checkpoint, gather: Gather | None = None
    ) -> tuple[engine.Evaluation, float]:
        """The result of what is asked, which was checked, and the seconds it took.

        Raises:
            Refusal: INDEX_OUT_OF_RANGE, NON_FINITE; whatever ``checkpoint`` raises.
        """
        start = perf_counter()
        if gather is not None:
            arrays = {**job.query.arrays, **gather.copies(self._threads, checkpoint)}
            job = job._replace(query=job.query._replace(arrays=arrays))
        evaluation = engine.run(job, checkpoint, self._threads)
        seconds = perf_counter() - start
        phase = None if evaluation.non_finite is None else evaluation.non_finite.phase.value
        self._observer.evaluated(job.program.nodes, evaluation.examples, seconds, phase)
        return evaluation, seconds

    def _rows(self, asked: pb.StoredExamples, program: engine.Program, sent: codec.Arrays) -> Rows:
        check_id(asked.examples_id, "examples_id", "UploadExamples returns", "examples.examples_id")
        examples = self.store.find(asked.examples_id)
        if examples is None:
            raise refuse(
                Reason.EXAMPLES_NOT_FOUND,
                f"this server does not hold the examples {asked.examples_id}; upload them again",
                "examples.examples_id",
                examples_id=asked.examples_id,
            )
        return rows_of(asked, examples, program, sent, self._engine_limits)

    def template(
        self, raw: bytes, request: pb.ComputeGradientsRequest
    ) -> tuple[codec.RequestTemplate, FindProgram] | None:
        """The template of a request that is quick to check, with what finds its program; None if it has none.

        Args:
            raw: The message.
            request: As it was parsed.
        """
        if self.at_hand(request) is None or request.HasField("examples"):
            return None
        query = codec.decode_query(request, self._engine_limits, unhurried)
        template = codec.request_template(raw, request, query)
        if template is None:
            return None
        if request.WhichOneof("program") == "graph":
            return template, partial(self.cache.find, _digest(request.graph), SMALL)
        return template, partial(self.cache.get, request.graph_id, SMALL, numbered=bool(request.outputs))

    def trace(self, request: pb.TraceGraphRequest, checkpoint: Checkpoint) -> pb.TraceGraphResponse:
        """Every node's value and every edge's gradient, of one example."""
        return self.prepare_trace(request, checkpoint).run(checkpoint)

    def prepare_trace(
        self, request: pb.TraceGraphRequest, checkpoint: Checkpoint, program: engine.Program | None = None
    ) -> Planned[pb.TraceGraphResponse]:
        """Check a request for a trace, as ``prepare_compute`` does."""
        if program is None:
            program = self._program(request, checkpoint)
        dtype = codec.decode_dtype(request.dtype)
        arrays = codec.decode_arrays(request, dtype, self._engine_limits, checkpoint)
        job = engine.bind_trace(program, arrays, dtype, self._engine_limits, checkpoint)
        if job.result_bytes > self.limits.max_message_bytes:
            raise reply_too_large(job.result_bytes, self.limits, "trace a smaller graph")

        def run(checkpoint: Checkpoint) -> pb.TraceGraphResponse:
            return codec.encode_trace(engine.run_trace(job, checkpoint), checkpoint)

        return Planned(job.cost, job.memory, run, job.result_bytes)

    def check(self, request: pb.CheckGradientsRequest, checkpoint: Checkpoint) -> pb.CheckGradientsResponse:
        """The gradient against central finite differences."""
        return self.prepare_check(request, checkpoint).run(checkpoint)

    def prepare_check(
        self, request: pb.CheckGradientsRequest, checkpoint: Checkpoint, program: engine.Program | None = None
    ) -> Planned[pb.CheckGradientsResponse]:
        """Check a request for a check, as ``prepare_compute`` does."""
        if program is None:
            program = self._program(request, checkpoint)
        dtype = codec.decode_dtype(request.dtype)
        query = engine.Query(
            arrays=codec.decode_arrays(request, dtype, self._engine_limits, checkpoint),
            dtype=dtype,
            reduction=codec.decode_reduction(request),
            wrt=codec.decode_wrt(request.wrt if request.HasField("wrt") else None, self._engine_limits),
        )
        settings = engine.settings_of(
            dtype,
            query.reduction,
            step=request.step if request.HasField("step") else None,
            tolerance=request.tolerance if request.HasField("tolerance") else None,
            max_probes=request.max_probes if request.HasField("max_probes") else None,
        )
        check = engine.bind_check(program, query, settings, self._engine_limits, checkpoint)

        def run(checkpoint: Checkpoint) -> pb.CheckGradientsResponse:
            return codec.encode_checks(engine.run_check(check, checkpoint))

        return Planned(check.cost, check.memory, run)

    def info(self) -> pb.GetServerInfoResponse:
        """Version, ops, limits and workers."""
        return pb.GetServerInfoResponse(
            version=VERSION,
            ops=[
                pb.OpInfo(
                    name=op.name,
                    summary=op.summary,
                    min_operands=op.min_operands,
                    max_operands=op.max_operands,
                )
                for op in engine.OPS.values()
            ],
            limits=[
                pb.LimitInfo(setting=setting, value=value, summary=summary)
                for setting, value, summary in self.limits.listed()
            ],
            workers=self._workers,
        )

    def _program(self, request: ProgramRequest, checkpoint: Checkpoint) -> engine.Program:
        given = request.WhichOneof("program")
        if given == "graph":
            return self.compiled(request.graph, checkpoint)
        if given is None:
            raise refuse(Reason.GRAPH_MISSING, "the graph is missing; set graph or graph_id", "graph")
        graph_id = request.graph_id
        check_id(graph_id, "graph_id", "RegisterGraph returns", "graph_id")
        asks_for_nodes = isinstance(request, pb.ComputeGradientsRequest) and bool(request.outputs)
        numbered = asks_for_nodes or isinstance(request, pb.TraceGraphRequest)
        program = self.cache.get(graph_id, numbered=numbered)
        if program is None:
            raise refuse(
                Reason.GRAPH_NOT_FOUND,
                f"this server does not hold the graph {graph_id}; register the graph again",
                "graph_id",
                graph_id=graph_id,
            )
        return program

    def compiled(
        self, message: graph_pb2.Graph, checkpoint: Checkpoint, max_cache_bytes: int | None = None
    ) -> engine.Program:
        """The program of a graph; kept, unless it alone takes more than ``max_cache_bytes``, which is refused."""
        digest = _digest(message)
        program = self.cache.find(digest)
        if program is not None:
            return program
        start = perf_counter()
        try:
            graph = codec.decode_graph(message, self._engine_limits, checkpoint)
            program = engine.compile_graph(graph, self._engine_limits, checkpoint, max_cache_bytes)
        except Refusal as refusal:
            raise _inside("graph", refusal) from None
        self.cache.put(program, digest)
        self._observer.compiled(perf_counter() - start, len(self.cache), self.cache.nbytes)
        return program


def check_id(found: str, what: str, origin: str, path: str) -> None:
    """Go on if an id has the form of one.

    Raises:
        Refusal: INVALID_REQUEST.
    """
    if not _ID.match(found):
        raise refuse(
            Reason.INVALID_REQUEST,
            f"{what} {shown(found)} has the wrong form; expected 64 lower-case hexadecimal digits, as {origin} them",
            path,
        )


def _digest(graph: graph_pb2.Graph) -> bytes:
    return sha256(graph.SerializeToString()).digest()


def _inside(field: str, refusal: Refusal) -> Refusal:
    """The refusal of a field's content, with paths that start at the request."""
    findings = [
        replace(finding, path=f"{field}.{finding.path}" if finding.path else field) for finding in refusal.findings
    ]
    return Refusal(findings, refusal.total, counted=refusal.counted)


def reply_too_large(found: int, limits: ServiceLimits, advice: str) -> Refusal:
    """The refusal of a request whose response would not fit a message."""
    return refuse(
        Reason.LIMIT_EXCEEDED,
        f"the response would take {found} bytes; this server sends at most {limits.max_message_bytes} in one message "
        f"(--max-message-bytes or GRADWIRE_MAX_MESSAGE_BYTES of the server); {advice}",
        found=found,
        limit=limits.max_message_bytes,
        setting="max_message_bytes",
        side="server",
    )
