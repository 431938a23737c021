"""The client for asyncio: the same calls, to be awaited."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self, Unpack

from gradwire._calls.computation import Computation, Loss, Options, Tracing
from gradwire._calls.deadline import Deadline
from gradwire._calls.derivatives import Derivative, HessianVector, Jacobian, VectorJacobian
from gradwire._calls.examples import Examples, examples
from gradwire._calls.graphs import Graphs
from gradwire._calls.queries import info, register
from gradwire._calls.results import CheckReport, Result, ServerInfo, Trace
from gradwire._calls.stream import MAX_PENDING, Stream
from gradwire._expressions.expression import Expression
from gradwire._transports.address import LOCAL, Connection, address
from gradwire._transports.base_asyncio import AsyncTransport, perform
from gradwire._transports.grpc_asyncio import AsyncGrpcTransport
from gradwire._transports.local_asyncio import AsyncLocalTransport
from gradwire._transports.loops import PerLoop
from gradwire.v1 import graph_pb2


class AsyncValueAndGrad:
    """A loss that a server evaluates and differentiates; made by ``client.value_and_grad``."""

    def __init__(self, transport: AsyncTransport, computation: Computation) -> None:
        self._transport = transport
        self._computation = computation

    async def __call__(
        self,
        *arrays: Any,
        timeout: float | None = None,  # noqa: ASYNC109  (it travels to the server)
        **named: Any,
    ) -> tuple[Any, Any]:
        """Loss and gradients; see ``ValueAndGrad``. Cancelling the task cancels the call."""
        return self._computation.answer(await self.evaluate(*arrays, timeout=timeout, **named))

    async def evaluate(
        self,
        *arrays: Any,
        timeout: float | None = None,  # noqa: ASYNC109  (as above)
        **named: Any,
    ) -> Result:
        """The whole result; see ``ValueAndGrad``."""
        return await self._transport.evaluate(
            self._computation, self._computation.values(arrays, named), Deadline(timeout)
        )


class AsyncDerived:
    """A derivative that a server computes; made by ``client.vjp``, ``client.jacobian`` and ``client.hvp``."""

    def __init__(self, transport: AsyncTransport, derivative: Derivative) -> None:
        self._transport = transport
        self._derivative = derivative

    async def __call__(
        self,
        *arrays: Any,
        timeout: float | None = None,  # noqa: ASYNC109  (it travels to the server)
        **named: Any,
    ) -> Any:  # noqa: ANN401  (nested like the arguments)
        """The derivative for these arrays."""
        values, finish = self._derivative.asked(arrays, named)
        return finish(await self._transport.evaluate(self._derivative.computation, values, Deadline(timeout)))


class AsyncStream:
    """Calls of one loss in a row, over one stream; see ``Stream``. Calls that overlap share it."""

    def __init__(self, stream: Stream, computation: Computation) -> None:
        self._stream = stream
        self._computation = computation
        self._slots = PerLoop(lambda: asyncio.Semaphore(MAX_PENDING))
        """Room on the stream, which threads would wait for otherwise."""

    async def __call__(
        self,
        *arrays: Any,
        timeout: float | None = None,  # noqa: ASYNC109  (as of ``Stream``)
        **named: Any,
    ) -> tuple[Any, Any]:
        """Loss and gradients."""
        return self._computation.answer(await self.evaluate(*arrays, timeout=timeout, **named))

    async def evaluate(
        self,
        *arrays: Any,
        timeout: float | None = None,  # noqa: ASYNC109  (as above)
        **named: Any,
    ) -> Result:
        """Send a request and wait for the whole result; see ``Stream.evaluate``."""
        deadline = Deadline(timeout)
        try:
            async with asyncio.timeout(deadline.left), self._slots.get():
                # Submitting may wait for the connection.
                future = await asyncio.to_thread(self._stream.submit, *arrays, timeout=deadline.left, **named)
                return await asyncio.wrap_future(future)
        except TimeoutError:
            raise deadline.too_late() from None

    async def close(self, *, cancel: bool = False) -> None:
        """Wait for the results that are to come, or give them up, and end the stream."""
        await asyncio.to_thread(self._stream.close, cancel=cancel)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close(cancel=kind is not None)


class AsyncClient:
    """Calls to a server, or to the engine in this process, from asyncio; see ``Client`` and ``connect``.

    Any event loop may use it, also several: each has a connection of its own.

    Args:
        target: As for ``gw.connect``.
        **options: As for ``gw.connect``.

    Raises:
        UsageError: The arguments make no sense.
    """

    def __init__(self, target: str, **options: Unpack[Connection]) -> None:
        to = address(target, **options)
        self._transport: AsyncTransport = AsyncLocalTransport() if to.target == LOCAL else AsyncGrpcTransport(to)
        self._graphs = Graphs()

    def value_and_grad(self, loss: Loss, **options: Unpack[Options]) -> AsyncValueAndGrad:
        """A callable that gives the loss and its gradients; see ``Client.value_and_grad``."""
        return AsyncValueAndGrad(self._transport, Computation(loss, graphs=self._graphs, **options))

    def examples(self, arrays: Mapping[str, Any] | None = None, /, **named: Any) -> Examples:
        """Arrays with an axis of examples that the server keeps; see ``Client.examples``."""
        return examples(arrays, named)

    def vjp(self, out: Expression | Callable[..., Any], **options: Unpack[Options]) -> AsyncDerived:
        """A callable that gives a value and the product of a vector with its Jacobian; see ``Client.vjp``."""
        return AsyncDerived(self._transport, VectorJacobian(out, options))

    def jacobian(self, out: Expression | Callable[..., Any], **options: Unpack[Options]) -> AsyncDerived:
        """A callable that gives the Jacobian of a value; see ``Client.jacobian``."""
        return AsyncDerived(self._transport, Jacobian(out, options))

    def hvp(self, loss: Expression | Callable[..., Any], **options: Unpack[Options]) -> AsyncDerived:
        """A callable that gives the product of the Hessian of a loss with a vector; see ``Client.hvp``."""
        return AsyncDerived(self._transport, HessianVector(loss, options))

    def stream(self, loss: Loss, **options: Unpack[Options]) -> AsyncStream:
        """A stream of calls of one loss; use it in an ``async with`` block."""
        computation = Computation(loss, graphs=self._graphs, **options)
        return AsyncStream(self._transport.stream(computation), computation)

    async def trace(
        self,
        loss: Loss,
        /,
        *arrays: Any,
        options: Options | None = None,
        timeout: float | None = None,  # noqa: ASYNC109  (it travels to the server)
        **named: Any,
    ) -> Trace:
        """Every node's value and every edge's gradient, of one example; see ``Client.trace``."""
        tracing = Tracing(loss, **(options or {}))
        return await perform(tracing.trace(tracing.values(arrays, named)), self._transport.send, Deadline(timeout))

    async def check(
        self,
        loss: Loss,
        /,
        *arrays: Any,
        options: Options | None = None,
        step: float | None = None,
        tolerance: float | None = None,
        max_probes: int | None = None,
        timeout: float | None = None,  # noqa: ASYNC109  (as above)
        **named: Any,
    ) -> CheckReport:
        """Compare the gradient with central finite differences; see ``Client.check``."""
        computation = Computation(loss, **(options or {}))
        steps = computation.check(computation.values(arrays, named), step, tolerance, max_probes)
        return await perform(steps, self._transport.send, Deadline(timeout))

    async def register(
        self,
        loss: Expression | graph_pb2.Graph,
        *,
        ties: str = "zero",
        timeout: float | None = None,  # noqa: ASYNC109  (as above)
    ) -> str:
        """Make a graph known to the server, and return its id."""
        return await perform(register(loss, ties), self._transport.send, Deadline(timeout))

    async def info(self, *, timeout: float | None = None) -> ServerInfo:  # noqa: ASYNC109  (as above)
        """Version, ops and limits of the server."""
        return await perform(info(), self._transport.send, Deadline(timeout))

    async def close(self) -> None:
        """Let go of the connection; calls under way are cancelled."""
        await self._transport.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
