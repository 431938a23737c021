"""The engine in this process: the same checks, messages and bits as a server's, without a wire."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
from google.protobuf.message import Message
from numpy.typing import ArrayLike

from gradwire._computation import Computation
from gradwire._errors import GradwireError, UsageError, from_status
from gradwire._results import Result
from gradwire._steps import Answer, Compute, Step
from gradwire._stream import Stream
from gradwire._transport import send_within

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gradwire_server.engine import Checkpoint
    from gradwire_server.service.logic import GradientLogic


class LocalTransport:
    """The logic of the service, called as it is."""

    def __init__(self) -> None:
        try:
            from gradwire_server import codec, engine, errors  # noqa: PLC0415  (the server is optional)
            from gradwire_server.service import jobs, logic, status  # noqa: PLC0415  (as above)
        except ImportError as error:
            raise UsageError(f"connect(\"local\") needs {error.name}: pip install 'gradwire[server]'") from error
        self._encode = codec.encode_evaluation
        self._refusal = errors.Refusal
        self._caller = jobs.Caller
        self._to_status = status.to_status
        self._logic: GradientLogic = logic.GradientLogic(threads=engine.of_process())
        self._methods: Mapping[str, Callable[[Any, Checkpoint], Message]] = {
            "RegisterGraph": self._logic.register_graph,
            "TraceGraph": self._logic.trace,
            "CheckGradients": self._logic.check,
            "GetServerInfo": lambda _, __: self._logic.info(),
        }
        self._blas = _OneBlasThread()
        self._closed = False

    def send(self, step: Step, timeout: float | None) -> object:
        """See ``Transport``."""
        if self._closed:
            raise UsageError("the client is closed; connect again")
        checkpoint = self._caller(timeout).checkpoint
        try:
            with self._blas.limited():
                if isinstance(step, Compute):
                    return self._compute(step, checkpoint)
                return self._methods[step.method](step.request, checkpoint)
        except self._refusal as refusal:
            graph = None if isinstance(step, Compute) else getattr(step.request, "graph", None)
            raise from_status(self._to_status(refusal), graph) from None

    def _compute(self, step: Compute, checkpoint: Checkpoint) -> Answer:
        evaluation, seconds = self._logic.prepare_compute(step.request, step.arrays, checkpoint=checkpoint).evaluate(
            checkpoint
        )
        response, _ = self._encode(evaluation, seconds, checkpoint, list(evaluation.gradients))
        # What the caller gets is the caller's.
        return Answer(
            response, {name: np.require(g, requirements=("C", "W")) for name, g in evaluation.gradients.items()}
        )

    def stream(self, computation: Computation) -> Stream:
        """See ``Transport``."""
        return LocalStream(self, computation)

    def close(self) -> None:
        """See ``Transport``."""
        self._closed = True


class LocalStream(Stream):
    """See ``Stream``. There is no wire, so a request is computed when it is submitted."""

    def __init__(self, transport: LocalTransport, computation: Computation) -> None:
        self._transport = transport
        self._computation = computation
        self._closed = False

    def _begin(self, values: Mapping[str, ArrayLike], timeout: float | None, *, copy: bool) -> Future[Result]:
        if self._closed:
            raise UsageError("the stream is closed; open another one")
        steps = self._computation.run(values)
        future: Future[Result] = Future()
        try:
            future.set_result(send_within(self._transport, steps, timeout))
        except GradwireError as error:
            future.set_exception(error)
        return future

    def close(self, *, cancel: bool = False) -> None:
        """See ``Stream``."""
        self._closed = True


class _OneBlasThread:
    """Keeps BLAS to one thread while anybody computes: results must not depend on how it splits a product."""

    def __init__(self) -> None:
        from threadpoolctl import ThreadpoolController  # noqa: PLC0415  (comes with the server)

        self._controller = ThreadpoolController()
        self._lock = Lock()
        self._users = 0
        self._limit: Any = None

    @contextmanager
    def limited(self) -> Iterator[None]:
        """While in the block; the process has its own setting back when the last user leaves."""
        with self._lock:
            if not self._users:
                self._limit = self._controller.limit(limits=1, user_api="blas")
            self._users += 1
        try:
            yield
        finally:
            with self._lock:
                self._users -= 1
                if not self._users:
                    self._limit.restore_original_limits()
