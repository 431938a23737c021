"""A stream of calls over gRPC, which survives a restart of the server."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from queue import SimpleQueue
from threading import BoundedSemaphore, Event, Lock, Thread
from typing import Any, Protocol

import grpc
from numpy.typing import ArrayLike

from gradwire._calls.computation import Computation, with_graph
from gradwire._calls.deadline import Deadline
from gradwire._calls.problem import Problem
from gradwire._calls.results import Result
from gradwire._calls.steps import Answer, Compute, Step, perform
from gradwire._calls.stored import Naming, begin, with_rows
from gradwire._calls.stream import MAX_PENDING, Stream
from gradwire._errors import (
    CancelledError,
    ExamplesNotFoundError,
    GradwireError,
    GraphNotFoundError,
    OverloadedError,
    ServerError,
    UnavailableError,
    UsageError,
)
from gradwire._transports.attempts import Attempts
from gradwire._transports.channel import new_request_id
from gradwire._transports.frames import TAGS, Assembler, request_frames


class StreamTransport(Protocol):
    """What a stream needs of the transport that opened it."""

    def open_stream(self, requests: Iterator[bytes], request_id: str, examples_id: str) -> Any:  # noqa: ANN401  (a call of gRPC, an iterator of frames)
        """A call of StreamGradients with this iterator of frames, and this id; about these examples, if any."""

    def attempts(self, deadline: Deadline) -> Attempts:
        """The further attempts at a call."""

    def error(self, error: grpc.RpcError, request_id: str) -> GradwireError:
        """The error that a failed call means."""

    def send(self, step: Step, deadline: Deadline) -> object:
        """The answer to a step; see ``Transport``."""


@dataclass(eq=False, slots=True)
class _Pending:
    """A request whose answer is to come."""

    problem: Problem
    step: Compute
    naming: Naming | None = None
    """Examples that it names."""
    attempts: Attempts | None = None
    """Attempts at a server that is busy, once it has said so."""
    future: Future[Result] = field(default_factory=Future)

    def put_graph_in(self) -> None:
        """Send the graph with it, because a server may not hold it."""
        self.step = with_graph(self.problem, self.step)


Requests = SimpleQueue[_Pending | None]


class GrpcStream(Stream):
    """See ``Stream``. One thread reads the answers, which come in the order of requests."""

    def __init__(self, transport: StreamTransport, computation: Computation) -> None:
        super().__init__(computation)
        self._transport = transport
        self._slots = BoundedSemaphore(MAX_PENDING)
        self._lock = Lock()
        self._pending: deque[_Pending] = deque()
        self._requests: Requests = SimpleQueue()
        self._call: Any = None
        self._request_id = ""
        self._reader: Thread | None = None
        self._closed = False
        self._given_up = Event()

    def _begin(self, values: Mapping[str, ArrayLike], deadline: Deadline, *, copy: bool) -> Future[Result]:
        layout, converted, stored = self._computation.asked(values)
        problem = layout.problem
        if copy:
            converted = {name: array.copy() for name, array in converted.items()}
        if not problem.known.by_id:
            perform(self._computation.register(problem), self._transport.send, deadline)
        naming = None if stored is None else perform(begin(stored), self._transport.send, deadline)
        if stored is not None and naming is None:
            (layout, converted), stored = self._computation.with_rows(layout, converted, stored), None
        pending = _Pending(problem, self._computation.compute(layout, converted, stored), naming)
        if not self._slots.acquire(timeout=deadline.left):
            raise deadline.too_late()
        with self._lock:
            if self._closed:
                self._slots.release()
                raise UsageError("the stream is closed; open another one")
            self._pending.append(pending)
            if self._call is None:
                try:
                    self._open()
                except GradwireError:
                    self._pending.remove(pending)
                    self._slots.release()
                    raise
                self._reader = Thread(target=self._read, name="gradwire-stream", daemon=True)
                self._reader.start()
            else:
                self._requests.put(pending)
        return pending.future

    def close(self, *, cancel: bool = False) -> None:
        """See ``Stream``."""
        with self._lock:
            self._closed = True
            self._requests.put(None)
            if cancel or (self._pending and all(pending.future.cancelled() for pending in self._pending)):
                self._given_up.set()
                if self._call is not None:
                    self._call.cancel()
            reader = self._reader
        if reader is not None:
            reader.join()

    def _open(self) -> None:
        """Begin a call, with all that is not answered yet."""
        self._requests = SimpleQueue()
        for pending in self._pending:
            self._requests.put(pending)
        if self._closed:
            self._requests.put(None)
        self._request_id = new_request_id()
        examples_id = next((pending.step.examples_id for pending in self._pending), "")
        self._call = self._transport.open_stream(_frames(self._requests), self._request_id, examples_id)

    def _read(self) -> None:
        """Settle what is pending; open another call where one broke off."""
        attempts = self._transport.attempts(Deadline())
        while True:
            answered, error = self._read_call()
            if answered:
                attempts = self._transport.attempts(Deadline())
            try:
                if self._opened_again(attempts, error):
                    continue
            except GradwireError as failure:
                error = failure
            with self._lock:
                self._call = None
                self._requests.put(None)
                failed, self._pending = self._pending, deque()
            for pending in failed:
                self._end(pending, error)
            return

    def _opened_again(self, attempts: Attempts, error: GradwireError) -> bool:
        """Whether there is another call for what is pending, after one that ended with this error.

        Raises:
            GradwireError: There can be none any more.
        """
        if not self._pending or not isinstance(error, UnavailableError):
            return False
        self._given_up.wait(attempts.pause(error))
        with self._lock:
            if self._given_up.is_set():
                return False
            # Another replica answers, perhaps, or one that was restarted; it has the graph before all that follow.
            self._pending[0].put_graph_in()
            # gRPC's thread that sent the old call's frames ends.
            self._requests.put(None)
            self._open()
        return True

    def _read_call(self) -> tuple[bool, GradwireError]:
        """Whether any answer came, and how the call ended."""
        answered = False
        assembler = Assembler(self._request_id)
        try:
            for frame in self._call:
                done = assembler.feed(frame)
                if done is not None:
                    self._settle(done)
                    answered = True
        except grpc.RpcError as failure:
            if self._closed and failure.code() is grpc.StatusCode.CANCELLED:
                return answered, CancelledError("the stream was closed before the answer came")
            return answered, self._transport.error(failure, self._request_id)
        except GradwireError as failure:
            self._call.cancel()
            return answered, failure
        return answered, UnavailableError("the server ended the stream")

    def _settle(self, done: Answer | GradwireError) -> None:
        """Pass on the answer to the oldest request.

        Raises:
            ServerError: There is none.
        """
        with self._lock:
            if not self._pending:
                raise ServerError("the server sent an answer that nobody asked for")
            pending = self._pending.popleft()
        outcome: Answer | Exception = done
        try:
            again = self._is_to_be_sent_again(pending, done)
        except Exception as error:  # noqa: BLE001  (such as of a mapped file, whose rows are to be sent)
            again, outcome = False, error
        if again:
            with self._lock:
                self._pending.append(pending)
                self._requests.put(pending)
        else:
            self._end(pending, outcome)

    def _is_to_be_sent_again(self, pending: _Pending, done: Answer | GradwireError) -> bool:
        """Whether another answer is to be had for a request, now.

        Raises:
            GradwireError: The server is too busy.
        """
        if isinstance(done, GraphNotFoundError) and pending.step.by_id:
            # Another replica, or one that was restarted and does not hold the graph.
            pending.put_graph_in()
            return True
        if isinstance(done, ExamplesNotFoundError) and pending.naming is not None:
            if not perform(pending.naming.missed(), self._transport.send, Deadline()):
                pending.step = with_rows(pending.step, pending.naming.stored)
                pending.naming = None
            return True
        if isinstance(done, OverloadedError):
            pending.attempts = pending.attempts or self._transport.attempts(Deadline())
            # Nobody reads meanwhile: the whole stream leaves the server alone.
            self._given_up.wait(pending.attempts.pause(done))
            return not self._given_up.is_set()
        return False

    def _end(self, pending: _Pending, done: Answer | Exception) -> None:
        """Tell the outcome, if anybody still waits for it."""
        if pending.naming is not None:
            pending.naming.ended(found=not isinstance(done, Exception))
        if pending.future.set_running_or_notify_cancel():
            if not isinstance(done, Exception):
                try:
                    pending.future.set_result(self._computation.result(pending.problem, done))
                except Exception as error:  # noqa: BLE001  (such as of a dataclass that cannot hold gradients)
                    done = error
            if isinstance(done, Exception):
                pending.future.set_exception(done)
        self._slots.release()


def _frames(requests: Requests) -> Iterator[bytes]:
    for number, pending in enumerate(iter(requests.get, None)):
        yield from request_frames(pending.step, number % TAGS)
