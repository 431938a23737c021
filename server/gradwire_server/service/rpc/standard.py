"""The standard services, health and reflection, whose calls end when the server drains."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2

from gradwire_server.errors import Refusal, shown
from gradwire_server.service.capacity.waits import Waits
from gradwire_server.service.rpc.status import Context, abort


class HealthServicer(health_pb2_grpc.HealthServicer):
    """grpc.health.v1.Health, whose services are ready all together.

    In that of gRPC a watch holds a lock while it writes, and is the last of its service that hears of a change: with
    one that nobody read a server could not drain any more, and others did not see that it does.
    """

    def __init__(self, services: Sequence[str], waits: Waits) -> None:
        self._services = ("", *services)
        self._waits = waits
        self._changed = asyncio.Event()
        """Set at the next change; each change has its own."""
        self.ready = False
        """Whether the status is SERVING."""

    def tell(self, *, ready: bool) -> None:
        """Say that the services serve, or that they do not."""
        self.ready = ready
        self._changed.set()
        self._changed = asyncio.Event()

    async def Check(  # noqa: N802
        self, request: health_pb2.HealthCheckRequest, context: Context
    ) -> health_pb2.HealthCheckResponse:
        """Tell the status."""
        if request.service not in self._services:
            known = ", ".join(map(shown, self._services[1:]))
            message = f'there is no service {shown(request.service)} here, only {known}, and "" for the whole server'
            await context.abort(grpc.StatusCode.NOT_FOUND, message)
        return self._response(request)

    async def Watch(  # noqa: N802
        self, request: health_pb2.HealthCheckRequest, context: Context
    ) -> None:
        """Tell the status, and every change of it, until the server drains."""
        told = None
        try:
            with self._waits:
                while True:
                    changed, response = self._changed, self._response(request)
                    if response != told:
                        await context.write(response)
                        told = response
                    await changed.wait()
        except Refusal as refusal:
            await abort(context, refusal)

    def _response(self, request: health_pb2.HealthCheckRequest) -> health_pb2.HealthCheckResponse:
        kind = health_pb2.HealthCheckResponse
        if request.service not in self._services:
            return kind(status=kind.SERVICE_UNKNOWN)
        return kind(status=kind.SERVING if self.ready else kind.NOT_SERVING)


class ReflectionServicer:
    """grpc.reflection.v1alpha.ServerReflection, whose streams would hold it up as well."""

    def __init__(self, services: Sequence[str], waits: Waits) -> None:
        # Its stubs take the generator for a coroutine.
        self._describe: Any = reflection.aio.ReflectionServicer(services).ServerReflectionInfo
        self._waits = waits

    async def ServerReflectionInfo(  # noqa: N802
        self,
        requests: AsyncIterator[reflection_pb2.ServerReflectionRequest],
        context: Context,
    ) -> AsyncIterator[reflection_pb2.ServerReflectionResponse]:
        """Describe the services, until the server drains."""
        try:
            async for response in self._describe(self._waits.each(requests), context):
                yield response
        except Refusal as refusal:
            await abort(context, refusal)
