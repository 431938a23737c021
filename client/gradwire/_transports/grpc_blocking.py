"""Calls over gRPC, blocking."""

from __future__ import annotations

import os
from collections.abc import Mapping
from threading import Event, Lock
from typing import Any

import grpc
from numpy.typing import ArrayLike

from gradwire._calls.computation import Computation
from gradwire._calls.deadline import Deadline
from gradwire._calls.examples import Upload
from gradwire._calls.results import Result
from gradwire._calls.steps import Answer, Compute, Step, perform
from gradwire._calls.stream import Stream
from gradwire._errors import GradwireError, OverloadedError, UnavailableError, UsageError
from gradwire._transports import meaning
from gradwire._transports.address import Address
from gradwire._transports.attempts import Attempts
from gradwire._transports.channel import Methods, new_request_id, opened
from gradwire._transports.frames import Assembler, final, in_frames, request_frames, whole
from gradwire._transports.grpc_stream import GrpcStream
from gradwire._transports.uploads import about


class GrpcTransport:
    """A channel to a server, opened at the first call.

    Args:
        address: Where that is.
        pinned: Whether one server of the address has all calls. For calls about examples, which a server keeps, there
            is one more such transport.
    """

    def __init__(self, address: Address, *, pinned: bool = False) -> None:
        self._address = address
        self._is_pinned = pinned
        self._pinned: GrpcTransport | None = None
        self._uploading = Lock()
        self._lock = Lock()
        self._channel: grpc.Channel | None = None
        self._methods: Methods | None = None
        self._pid = 0
        self._ended = Event()

    def send(self, step: Step, deadline: Deadline) -> object:
        """See ``Transport``."""
        if not step.examples_id:
            return self._answered(step, deadline)
        if not self._is_pinned:
            return self._for_examples().send(step, deadline)
        return self._uploaded(step, deadline) if isinstance(step, Upload) else self._answered(step, deadline)

    def _uploaded(self, step: Upload, deadline: Deadline) -> object:
        """Upload examples, unless another thread has meanwhile; returns whether the server held them already."""
        left = deadline.left
        if not self._uploading.acquire(timeout=-1 if left is None else left):
            raise deadline.too_late()
        try:
            if step.form.uploads != step.seen:
                return False
            held = self._answered(step, deadline)
            step.form.uploads += 1
            return held
        finally:
            self._uploading.release()

    def _answered(self, step: Step, deadline: Deadline) -> object:
        """The answer to a step, at as many attempts as it takes."""
        attempts, request_id = None, new_request_id()
        while True:
            try:
                return self._sent(step, deadline.left, request_id)
            except (OverloadedError, UnavailableError) as error:
                attempts = attempts or self.attempts(deadline)
                if self._ended.wait(attempts.pause(error)):
                    raise meaning.closed() from None

    def _sent(self, step: Step, timeout: float | None, request_id: str) -> object:
        """The answer to a step at one attempt."""
        methods, metadata = self._connected(), self._address.metadata(request_id)
        if self._is_pinned:
            metadata += about(step.examples_id)
        try:
            if not isinstance(step, Compute):
                return methods.call(step, timeout=timeout, metadata=metadata)
            if not in_frames(step):
                return Answer(methods.compute(whole(step), timeout=timeout, metadata=metadata), {}, request_id)
            assembler = Assembler(request_id)
            answer: Answer | GradwireError | None = None
            for frame in methods.stream(request_frames(step), timeout=timeout, metadata=metadata):
                answer = assembler.feed(frame) or answer
            return final(answer, self._address.target)
        except grpc.RpcError as error:
            raise self.error(error, request_id, step) from None
        except ValueError as error:
            raise self._invocation_error(error) from None

    def _invocation_error(self, error: ValueError) -> Exception:
        """The error that gRPC means which says so of a channel that was closed just now."""
        return meaning.closed() if self.is_closed else error

    def evaluate(self, computation: Computation, values: Mapping[str, ArrayLike], deadline: Deadline) -> Result:
        """See ``Transport``."""
        return perform(computation.run(values), self.send, deadline)

    def stream(self, computation: Computation) -> Stream:
        """See ``Transport``."""
        return GrpcStream(self, computation)

    def open_stream(self, requests: object, request_id: str, examples_id: str) -> Any:  # noqa: ANN401  (a call of gRPC, an iterator of frames)
        """A call of StreamGradients with this iterator of frames, and this id; about these examples, if any."""
        if examples_id and not self._is_pinned:
            return self._for_examples().open_stream(requests, request_id, examples_id)
        methods, metadata = self._connected(), (*self._address.metadata(request_id), *about(examples_id))
        try:
            return methods.stream(requests, metadata=metadata)
        except ValueError as error:
            raise self._invocation_error(error) from None

    @property
    def is_closed(self) -> bool:
        """Whether it was closed."""
        return self._ended.is_set()

    def attempts(self, deadline: Deadline) -> Attempts:
        """The further attempts at a call."""
        return Attempts(self._address, deadline)

    def error(self, error: grpc.RpcError, request_id: str, step: Step | None = None) -> GradwireError:
        """The error that a failed call means; see ``error_of``."""
        return meaning.closed() if self.is_closed else meaning.error_of(error, self._address, request_id, step)

    def close(self) -> None:
        """See ``Transport``."""
        with self._lock:
            self._ended.set()
            self._methods = None
            if self._channel is not None and self._pid == os.getpid():
                self._channel.close()
            if self._pinned is not None:
                self._pinned.close()

    def _for_examples(self) -> GrpcTransport:
        """The transport for calls about examples."""
        with self._lock:
            if self.is_closed:
                raise UsageError("the client is closed; connect again")
            self._pinned = self._pinned or GrpcTransport(self._address, pinned=True)
            return self._pinned

    def _connected(self) -> Methods:
        methods = self._methods
        if methods is not None and self._pid == os.getpid():
            return methods
        with self._lock:
            if self.is_closed:
                raise UsageError("the client is closed; connect again")
            if self._methods is None:
                self._pid = os.getpid()
                self._channel = opened(self._address, pinned=self._is_pinned)
                self._methods = Methods(self._channel)
            if self._pid != os.getpid():
                raise UsageError("this client was used before the process was forked; connect in the child itself")
            return self._methods
