"""The deployment: each of its replicas answers calls with the handlers that a server has."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any, NamedTuple

import grpc
import ray
import structlog
from google.protobuf.descriptor import ServiceDescriptor
from prometheus_client import CollectorRegistry, disable_created_metrics
from ray.serve.grpc_util import RayServegRPCContext, gRPCInputStream

from gradwire_server import codec, engine, logs
from gradwire_server.configuration.settings import Settings
from gradwire_server.ray_serve.contexts import StreamContext, WholeContext
from gradwire_server.ray_serve.telemetry import Telling
from gradwire_server.service.process.allocator import give_back
from gradwire_server.service.process.service import HEALTH, SERVICE, Service, prepare_process
from gradwire_server.service.rpc.handlers import Details
from gradwire_server.service.security.tokens import Tokens


class Reply(NamedTuple):
    """A response that is serialized already, in the place of one that Serve would serialize."""

    serialized: bytes = b""

    def SerializeToString(self) -> bytes:  # noqa: N802  (protobuf's name)
        """Its bytes."""
        return self.serialized


class Gradients:
    """The methods of the services, by the names by which Serve calls them, on messages that are bytes.

    Made on the event loop that the calls come to.

    Raises:
        StartError: The file of tokens cannot be used, or protobuf is not what it must be.
    """

    def __init__(self, settings: Settings) -> None:
        prepare_process()
        logs.configure(settings.log_level, settings.log_format)
        disable_created_metrics()  # type: ignore[no-untyped-call]  # it has no annotations
        if settings.threads is None:
            assigned: Any = ray.get_runtime_context()  # of its types some are missing
            cores = assigned.get_assigned_resources().get("CPU", 1)
            settings = settings.model_copy(update={"threads": max(1, int(cores))})
        tokens = None if settings.tokens_file is None else Tokens(settings.tokens_file)
        registry = CollectorRegistry()
        self._service = Service(settings, registry, tokens)
        engine.warm(_tell_of_compiling, codec.warm)
        self._service.health.tell(ready=True)
        beside = self._service.measure(), give_back(), Telling(registry).run()
        self._beside = [asyncio.create_task(work) for work in beside]
        """What is done besides answering calls."""

    async def ComputeGradients(self, raw: bytes, grpc_context: RayServegRPCContext) -> Reply:  # noqa: N802
        """Evaluate and differentiate."""
        return await self._whole(SERVICE, "ComputeGradients", raw, grpc_context)

    async def RegisterGraph(self, raw: bytes, grpc_context: RayServegRPCContext) -> Reply:  # noqa: N802
        """Check a graph and keep it."""
        return await self._whole(SERVICE, "RegisterGraph", raw, grpc_context)

    async def TraceGraph(self, raw: bytes, grpc_context: RayServegRPCContext) -> Reply:  # noqa: N802
        """Show every value and gradient of one example."""
        return await self._whole(SERVICE, "TraceGraph", raw, grpc_context)

    async def CheckGradients(self, raw: bytes, grpc_context: RayServegRPCContext) -> Reply:  # noqa: N802
        """Compare with finite differences."""
        return await self._whole(SERVICE, "CheckGradients", raw, grpc_context)

    async def GetServerInfo(self, raw: bytes, grpc_context: RayServegRPCContext) -> Reply:  # noqa: N802
        """Tell version, ops and limits."""
        return await self._whole(SERVICE, "GetServerInfo", raw, grpc_context)

    async def Check(self, raw: bytes, grpc_context: RayServegRPCContext) -> Reply:  # noqa: N802
        """Tell the health of a replica."""
        return await self._whole(HEALTH, "Check", raw, grpc_context)

    async def StreamGradients(  # noqa: N802
        self, requests: gRPCInputStream[bytes], grpc_context: RayServegRPCContext
    ) -> AsyncIterator[Reply]:
        """Evaluate and differentiate many times."""
        async for reply in self._each(SERVICE, "StreamGradients", requests, grpc_context):
            yield reply

    async def UploadExamples(  # noqa: N802
        self, requests: gRPCInputStream[bytes], grpc_context: RayServegRPCContext
    ) -> Reply:
        """Keep examples, with the replica that the call came to."""
        replies = [reply async for reply in self._each(SERVICE, "UploadExamples", requests, grpc_context)]
        return replies[0] if replies else Reply()

    async def Watch(self, raw: bytes, grpc_context: RayServegRPCContext) -> AsyncIterator[Reply]:  # noqa: N802
        """Tell the health of a replica, and every change of it."""
        async for reply in self._each(HEALTH, "Watch", gRPCInputStream(_only(raw)), grpc_context):
            yield reply

    def _handler(self, service: ServiceDescriptor, method: str, context: RayServegRPCContext) -> Any:  # noqa: ANN401  (its stubs know no grpc.aio)
        """The handler of a call, made for it alone."""
        return self._service.handlers.service(
            Details(f"/{service.full_name}/{method}", tuple(context.invocation_metadata()))
        )

    async def _whole(self, service: ServiceDescriptor, method: str, raw: bytes, context: RayServegRPCContext) -> Reply:
        """Answer a call with one request and one response."""
        handler, call = self._handler(service, method, context), WholeContext(context, raw)
        try:
            if handler.response_streaming:
                # As one has that refuses it.
                await handler.stream_stream(None, call)
                response = call.response
            else:
                response = await handler.stream_unary(None, call)
        except grpc.aio.AbortError:
            return Reply()
        return _reply(handler, response)

    async def _each(
        self,
        service: ServiceDescriptor,
        method: str,
        requests: gRPCInputStream[bytes],
        context: RayServegRPCContext,
    ) -> AsyncIterator[Reply]:
        """Answer a call of which either side is a stream."""
        handler, call = self._handler(service, method, context), StreamContext(context, requests)
        answering = asyncio.create_task(handler.stream_stream(None, call))
        answering.add_done_callback(lambda _: call.end())
        try:
            while (response := await call.taken()) is not None:
                yield _reply(handler, response)
            with suppress(grpc.aio.AbortError):
                await answering
        finally:
            answering.cancel()


def _reply(handler: Any, response: object) -> Reply:  # noqa: ANN401  (as above)
    serializer = handler.response_serializer
    serialized: Any = response if serializer is None else serializer(response)
    return Reply(serialized)


async def _only(raw: bytes) -> AsyncIterator[bytes]:
    yield raw


def _tell_of_compiling() -> None:
    structlog.get_logger().info("compiling kernels; this takes up to a minute")
