"""Calls over gRPC, blocking."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from threading import Event, Lock
from typing import Any

import grpc
from numpy.typing import ArrayLike

from gradwire._calls.computation import Computation
from gradwire._calls.results import Result
from gradwire._calls.steps import Answer, Compute, Step
from gradwire._calls.stream import Stream
from gradwire._errors import GradwireError, OverloadedError, UnavailableError, UsageError
from gradwire._transports import meaning
from gradwire._transports.address import Address
from gradwire._transports.attempts import Attempts
from gradwire._transports.base import send_within
from gradwire._transports.channel import STREAM_METHOD, new_request_id, opened
from gradwire._transports.frames import Assembler, final, request_frames, whole
from gradwire._transports.grpc_stream import GrpcStream
from gradwire.v1 import graph_pb2
from gradwire.v1.gradient_service_pb2_grpc import GradientServiceStub

UNARY_BYTES = 1 << 20
"""Tensors of a unary call, there or back, together; larger ones travel faster in frames."""


def in_frames(step: Compute) -> bool:
    """Whether a computation is too large for one message."""
    return max(step.reply_bytes, sum(array.nbytes for array in step.arrays.values())) > UNARY_BYTES


def is_by_id(step: Step) -> bool:
    """Whether a step names its graph by the id."""
    return isinstance(step, Compute) and step.request.WhichOneof("program") == "graph_id"


class GrpcTransport:
    """A channel to a server, opened at the first call."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._lock = Lock()
        self._channel: grpc.Channel | None = None
        self._stub: Any = None
        self._streams: Any = None
        self._pid = 0
        self._ended = Event()

    def send(self, step: Step, timeout: float | None) -> object:
        """See ``Transport``."""
        attempts, request_id = self.attempts(timeout), new_request_id()
        while True:
            try:
                return self._sent(step, attempts.left, request_id)
            except (OverloadedError, UnavailableError) as error:
                if self._ended.wait(attempts.pause(error)):
                    raise meaning.closed() from None

    def _sent(self, step: Step, timeout: float | None, request_id: str) -> object:
        """The answer to a step at one attempt."""
        stub = self._connected()
        graph = None
        try:
            if not isinstance(step, Compute):
                graph = getattr(step.request, "graph", None)
                return self._unary(getattr(stub, step.method), step.request, timeout, request_id)
            if in_frames(step):
                return self._in_frames(step, timeout, request_id)
            return Answer(self._unary(stub.ComputeGradients, whole(step), timeout, request_id), {}, request_id)
        except grpc.RpcError as error:
            raise self.error(error, request_id, graph, by_id=is_by_id(step)) from None
        except ValueError as error:
            raise self._invocation_error(error) from None

    def _invocation_error(self, error: ValueError) -> Exception:
        """The error that gRPC means which says so of a channel that was closed just now."""
        return meaning.closed() if self.is_closed else error

    def _unary(self, method: Callable[..., Any], request: object, timeout: float | None, request_id: str) -> Any:  # noqa: ANN401  (its response)
        return method(request, timeout=timeout, metadata=self._address.metadata(request_id))

    def _in_frames(self, step: Compute, timeout: float | None, request_id: str) -> Answer:
        assembler = Assembler(request_id)
        answer: Answer | GradwireError | None = None
        metadata = self._address.metadata(request_id)
        for frame in self._streams(request_frames(step), timeout=timeout, metadata=metadata):
            answer = assembler.feed(frame) or answer
        return final(answer, self._address.target)

    def evaluate(self, computation: Computation, values: Mapping[str, ArrayLike], timeout: float | None) -> Result:
        """See ``Transport``."""
        return send_within(self, computation.run(values), timeout)

    def stream(self, computation: Computation) -> Stream:
        """See ``Transport``."""
        return GrpcStream(self, computation)

    def open_stream(self, requests: object, request_id: str) -> Any:  # noqa: ANN401  (a call of gRPC, an iterator of frames)
        """A call of StreamGradients with this iterator of frames, and this id."""
        self._connected()
        try:
            return self._streams(requests, metadata=self._address.metadata(request_id))
        except ValueError as error:
            raise self._invocation_error(error) from None

    @property
    def is_closed(self) -> bool:
        """Whether it was closed."""
        return self._ended.is_set()

    def attempts(self, timeout: float | None = None) -> Attempts:
        """The attempts at a call."""
        return Attempts(self._address, timeout)

    def error(
        self, error: grpc.RpcError, request_id: str, graph: graph_pb2.Graph | None = None, *, by_id: bool = False
    ) -> GradwireError:
        """The error that a failed call means; see ``error_of``."""
        if self.is_closed:
            return meaning.closed()
        return meaning.error_of(error, self._address, request_id, graph, by_id=by_id)

    def close(self) -> None:
        """See ``Transport``."""
        with self._lock:
            self._ended.set()
            if self._channel is not None and self._pid == os.getpid():
                self._channel.close()

    def _connected(self) -> Any:  # noqa: ANN401  (generated)
        with self._lock:
            if self.is_closed:
                raise UsageError("the client is closed; connect again")
            if self._channel is None:
                self._pid = os.getpid()
                self._channel = opened(self._address)
                self._stub = GradientServiceStub(self._channel)
                self._streams = self._channel.stream_stream(STREAM_METHOD)
            if self._pid != os.getpid():
                raise UsageError("this client was used before the process was forked; connect in the child itself")
            return self._stub
