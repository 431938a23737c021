"""The standard health service, which ends its watches when the server drains."""

from __future__ import annotations

from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2

from gradwire_server.errors import Refusal
from gradwire_server.service.jobs import Waits
from gradwire_server.service.status import abort


class HealthServicer(health.aio.HealthServicer):
    """grpc.health.v1.Health; a watch would otherwise hold up a draining server until its grace is over."""

    def __init__(self, waits: Waits) -> None:
        super().__init__()
        self._waits = waits

    async def Watch(  # noqa: N802
        self, request: health_pb2.HealthCheckRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> None:
        """Tell the status, and every change of it, until the server drains."""
        try:
            with self._waits:
                await super().Watch(request, context)
        except Refusal as refusal:
            await abort(context, refusal)
