"""The engine in this process: the same checks, messages and bits as a server's, without a wire."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from functools import partial
from threading import Lock
from time import perf_counter
from typing import Any

import numpy as np
from google.protobuf.message import Message
from numpy.typing import ArrayLike

from gradwire._arrays import NUMBERS, Array
from gradwire._calls.computation import Computation
from gradwire._calls.deadline import Deadline
from gradwire._calls.problem import Problem
from gradwire._calls.results import NonFinite, Result, Told
from gradwire._calls.steps import Step, Unary
from gradwire._calls.stream import Stream
from gradwire._errors import GradwireError, UsageError, from_status
from gradwire.v1 import gradient_service_pb2 as pb
from gradwire.v1 import graph_pb2, tensor_pb2
from gradwire_server import codec, engine
from gradwire_server.engine import Checkpoint, Program
from gradwire_server.errors import Refusal
from gradwire_server.service.capacity.caller import Caller
from gradwire_server.service.requests.logic import GradientLogic
from gradwire_server.service.rpc.status import to_status

_REDUCTIONS = {str(reduction): reduction for reduction in engine.Reduction}


class LocalTransport:
    """The logic of the service, called as it is; computations go to the engine at once.

    Args:
        threads: Threads that compute at a time. Default: one for each core that the process may use.
    """

    def __init__(self, threads: int | None = None) -> None:
        self._warm = _Warming(partial(engine.warm, _tell_of_compiling, codec.warm))
        self._threads = engine.of_process() if threads is None else engine.Threads(threads)
        self._logic = GradientLogic(threads=self._threads)
        self._limits = self._logic.limits.of_engine()
        self._methods: Mapping[str, Callable[[Any, Checkpoint], Message]] = {
            "RegisterGraph": self._logic.register_graph,
            "TraceGraph": self._logic.trace,
            "CheckGradients": self._logic.check,
            "GetServerInfo": lambda _, __: self._logic.info(),
        }
        self._closed = False

    def send(self, step: Step, deadline: Deadline) -> object:
        """See ``Transport``; ``evaluate`` is for what is to be computed."""
        if not isinstance(step, Unary):
            raise TypeError("a computation does not come as a message, and nothing is uploaded")
        self._check_open()
        self._warm()
        try:
            with engine.ONE_BLAS_THREAD:
                return self._methods[step.method](step.request, Caller(deadline.left).checkpoint)
        except Refusal as refusal:
            raise self._error(refusal, getattr(step.request, "graph", None)) from None

    def evaluate(self, computation: Computation, values: Mapping[str, ArrayLike], deadline: Deadline) -> Result:
        """See ``Transport``."""
        problem, arrays, dtype = computation.ready(values)
        self._check_open()
        left = deadline.left
        checkpoint = engine.unhurried if left is None else Caller(left).checkpoint
        program: Program = problem.known.program or self._prepared(problem, checkpoint)
        query = engine.Query(
            arrays=arrays,
            dtype=dtype,
            reduction=_REDUCTIONS[computation.reduction],
            wrt=problem.wrt,
            outputs=tuple(problem.outputs.values()),
            reject_non_finite=computation.rejects,
        )
        threads = self._threads
        try:
            with engine.ONE_BLAS_THREAD:
                job = engine.bind(program, query, self._limits, threads.count, checkpoint)
                begun = perf_counter()
                evaluation = engine.run(job, checkpoint, threads)
                taken = perf_counter() - begun
        except Refusal as refusal:
            raise self._error(self._first_refusal(arrays, dtype) or refusal) from None
        report, gradients, outputs = evaluation.non_finite, evaluation.gradients, evaluation.outputs
        told = Told(None if report is None else _non_finite(report), taken, evaluation.examples, evaluation.blocks)
        more = {name: outputs[index] for name, index in problem.outputs.items()} if outputs else {}
        found, aux, flat = problem.nested({name: gradients[name] for name in sorted(gradients)}, more)
        return Result(evaluation.loss[()], found, aux, told, None, flat)

    def _prepared(self, problem: Problem, checkpoint: Checkpoint) -> Program:
        self._warm()
        try:
            program = self._logic.compiled(problem.graph, checkpoint, self._logic.limits.max_cache_bytes)
        except Refusal as refusal:
            raise self._error(refusal, problem.graph) from None
        problem.known.program = program
        return program

    def _first_refusal(self, arrays: Mapping[str, Array], dtype: np.dtype[Any]) -> Refusal | None:
        """What a server says of arrays that have more axes than any tensor, before it looks at the graph."""
        tall = {
            name: tensor_pb2.Tensor(dtype=NUMBERS[array.dtype], shape=array.shape)
            for name, array in arrays.items()
            if array.ndim > self._limits.max_rank + 1
        }
        try:
            codec.decode_arrays(pb.ComputeGradientsRequest(tensors=tall), dtype, self._limits, engine.unhurried)
        except Refusal as refusal:
            return refusal
        return None

    def _error(self, refusal: Refusal, graph: graph_pb2.Graph | None = None) -> GradwireError:
        return from_status(to_status(refusal), graph)

    def _check_open(self) -> None:
        if self._closed:
            raise UsageError("the client is closed; connect again")

    def stream(self, computation: Computation) -> Stream:
        """See ``Transport``."""
        return LocalStream(self, computation)

    def close(self) -> None:
        """See ``Transport``."""
        self._closed = True


class LocalStream(Stream):
    """See ``Stream``. There is no wire, so a request is computed when it is submitted."""

    def __init__(self, transport: LocalTransport, computation: Computation) -> None:
        super().__init__(computation)
        self._transport = transport
        self._closed = False

    def _begin(self, values: Mapping[str, ArrayLike], deadline: Deadline, *, copy: bool) -> Future[Result]:
        if self._closed:
            raise UsageError("the stream is closed; open another one")
        future: Future[Result] = Future()
        try:
            future.set_result(self._transport.evaluate(self._computation, values, deadline))
        except GradwireError as error:
            future.set_exception(error)
        return future

    def close(self, *, cancel: bool = False) -> None:
        """See ``Stream``."""
        self._closed = True


class _Warming:
    """Has the kernels ready before the first that needs them; whoever comes meanwhile waits."""

    _lock = Lock()
    _done = False

    def __init__(self, warm: Callable[[], object]) -> None:
        self._call = warm

    def __call__(self) -> None:
        if not _Warming._done:
            with _Warming._lock:
                if not _Warming._done:
                    self._call()
                    _Warming._done = True


def _tell_of_compiling() -> None:
    print("gradwire: compiling kernels, once on this machine; this takes up to a minute", file=sys.stderr)  # noqa: T201


def _non_finite(report: Any) -> NonFinite:  # noqa: ANN401  (the engine's report)
    return NonFinite(
        phase=report.phase.value,
        node=report.name,
        example=report.example,
        position=report.position,
        value=report.value,
        operands=tuple((operand.name, operand.value) for operand in report.operands),
    )
