"""The hinge loss as a compute function of pytensor-federated."""

from __future__ import annotations

import asyncio
import signal
import socket

from grpclib.server import Server
from pytensor_federated import ArraysToArraysService

from tests.benchmarks.peers import hinge


async def serve() -> None:
    """Serve until SIGTERM."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    server = Server([ArraysToArraysService(hinge.value_and_gradient)])
    listener = socket.create_server(("127.0.0.1", 0))
    await server.start(sock=listener)
    print(f"serving on 127.0.0.1:{listener.getsockname()[1]}", flush=True)  # noqa: T201  (the ready line)
    await stop.wait()
    server.close()
    await server.wait_closed()


if __name__ == "__main__":
    asyncio.run(serve())
