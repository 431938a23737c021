"""The standard services, health and reflection, whose calls end when the server drains."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2
from grpc_reflection.v1alpha import reflection, reflection_pb2

from gradwire_server.errors import Refusal, shown
from gradwire_server.service.jobs import Waits
from gradwire_server.service.status import abort


class HealthServicer(health.aio.HealthServicer):
    """grpc.health.v1.Health; a watch would otherwise hold up a draining server until its grace is over."""

    def __init__(self, services: Sequence[str], waits: Waits) -> None:
        super().__init__()
        self._services = ("", *services)
        self._waits = waits
        self.ready = False
        """Whether the status is SERVING."""

    async def start(self, *, ready: bool) -> None:
        """Say that the services serve, or that they are about to."""
        self.ready = ready
        status = health_pb2.HealthCheckResponse.SERVING if ready else health_pb2.HealthCheckResponse.NOT_SERVING
        for service in self._services:
            await self.set(service, status)

    async def enter_graceful_shutdown(self) -> None:
        """Say that they do not serve any more."""
        self.ready = False
        await super().enter_graceful_shutdown()

    async def Check(  # noqa: N802
        self, request: health_pb2.HealthCheckRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> health_pb2.HealthCheckResponse:
        """Tell the status."""
        if request.service not in self._services:
            known = ", ".join(map(shown, self._services[1:]))
            message = f'there is no service {shown(request.service)} here, only {known}, and "" for the whole server'
            await context.abort(grpc.StatusCode.NOT_FOUND, message)
        return await super().Check(request, context)

    async def Watch(  # noqa: N802
        self, request: health_pb2.HealthCheckRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> None:
        """Tell the status, and every change of it, until the server drains."""
        try:
            with self._waits:
                await super().Watch(request, context)
        except Refusal as refusal:
            await abort(context, refusal)


class ReflectionServicer:
    """grpc.reflection.v1alpha.ServerReflection, whose streams would hold it up as well."""

    def __init__(self, services: Sequence[str], waits: Waits) -> None:
        # Its stubs take the generator for a coroutine.
        self._describe: Any = reflection.aio.ReflectionServicer(services).ServerReflectionInfo
        self._waits = waits

    async def ServerReflectionInfo(  # noqa: N802
        self,
        requests: AsyncIterator[reflection_pb2.ServerReflectionRequest],
        context: grpc.aio.ServicerContext[Any, Any],
    ) -> AsyncIterator[reflection_pb2.ServerReflectionResponse]:
        """Describe the services, until the server drains."""
        try:
            async for response in self._describe(self._waits.each(requests), context):
                yield response
        except Refusal as refusal:
            await abort(context, refusal)
