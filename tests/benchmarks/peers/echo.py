"""A bare grpc.aio server that looks at no bytes: the floor under any gRPC call and any message of a stream.

It answers every message with the bytes on its standard input, or, if there are none, with those of the message.
Options of the server are given as NAME=NUMBER.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from typing import Any

import grpc
import uvloop

METHOD = "/benchmark.Echo/Echo"
STREAM = "/benchmark.Echo/EchoStream"


async def serve(reply: bytes, options: Sequence[tuple[str, int]]) -> None:
    """Serve until SIGTERM."""

    async def echo(request: bytes, _: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        return reply or request

    async def echo_stream(
        messages: AsyncIterator[bytes], _: grpc.aio.ServicerContext[bytes, bytes]
    ) -> AsyncIterator[bytes]:
        async for message in messages:
            yield reply or message

    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    server = grpc.aio.server(options=options)
    handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
        "Echo": grpc.unary_unary_rpc_method_handler(echo),
        "EchoStream": grpc.stream_stream_rpc_method_handler(echo_stream),
    }
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("benchmark.Echo", handlers)])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(f"serving on 127.0.0.1:{port}", flush=True)  # noqa: T201  (the ready line)
    await stop.wait()
    await server.stop(None)


def main() -> None:
    """Serve in this process."""
    reply = sys.stdin.buffer.read()
    options = [(name, int(number)) for name, _, number in (text.partition("=") for text in sys.argv[1:])]
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(reply, options))


if __name__ == "__main__":
    main()
