"""The gRPC methods: bytes in, bytes out, and a status for everything that can be wrong."""

from __future__ import annotations

from gradwire.v1 import gradient_service_pb2 as pb
from gradwire_server.service.rpc.planning import Planner
from gradwire_server.service.rpc.status import Context
from gradwire_server.service.rpc.streams import Streams
from gradwire_server.service.rpc.unary import UnaryCalls
from gradwire_server.service.rpc.uploads import Uploads


class GradientServicer:
    """The methods of gradwire.v1.GradientService on messages that are not parsed yet.

    gRPC would answer bytes that do not parse with INTERNAL, before any handler runs.
    """

    def __init__(self, planner: Planner, unary: UnaryCalls, streams: Streams, uploads: Uploads) -> None:
        self._planner = planner
        self._unary = unary
        self._streams = streams
        self._uploads = uploads
        self.ComputeGradients = unary.compute
        """Evaluate and differentiate."""

    async def RegisterGraph(self, raw: bytes, context: Context) -> bytes:  # noqa: N802
        """Check a graph and keep it."""
        return await self._unary.answer(context, pb.RegisterGraphRequest, raw, self._planner.register)

    async def TraceGraph(self, raw: bytes, context: Context) -> bytes:  # noqa: N802
        """Show every value and gradient of one example."""
        return await self._unary.answer(context, pb.TraceGraphRequest, raw, self._planner.trace)

    async def CheckGradients(self, raw: bytes, context: Context) -> bytes:  # noqa: N802
        """Compare with finite differences."""
        return await self._unary.answer(context, pb.CheckGradientsRequest, raw, self._planner.check)

    async def GetServerInfo(self, raw: bytes, context: Context) -> bytes:  # noqa: N802
        """Tell version, ops and limits."""
        plan = self._planner.info
        return await self._unary.answer(context, pb.GetServerInfoRequest, raw, plan, plan)

    async def StreamGradients(self, _: object, context: Context) -> None:  # noqa: N802
        """Evaluate and differentiate many times."""
        await self._streams.answer(context)

    async def UploadExamples(self, _: object, context: Context) -> None:  # noqa: N802
        """Keep examples."""
        await self._uploads.answer(context)
