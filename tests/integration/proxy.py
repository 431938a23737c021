"""What stands between a client and a server: TLS, as a load balancer has it, and lines that break."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from itertools import repeat
from typing import Any

import trustme

NEVER = 1 << 62


@asynccontextmanager
async def proxy(
    address: str, *, tls: ssl.SSLContext | None = None, limits: Iterator[int] | None = None
) -> AsyncIterator[int]:
    """A port on 127.0.0.1 that passes on what it hears to an address.

    Each connection has the next one of ``limits``, in bytes from the client; it breaks when they have come.
    """
    limits = limits or repeat(NEVER)
    host, _, port = address.rpartition(":")
    tasks: set[asyncio.Task[None]] = set()
    accepts: set[asyncio.Task[Any]] = set()
    writers: list[asyncio.StreamWriter] = []

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, limit: int) -> None:
        with suppress(ConnectionError, ssl.SSLError):
            while limit > 0 and (data := await reader.read(1 << 16)):
                writer.write(data)
                await writer.drain()
                limit -= len(data)
        writer.close()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        accepting = asyncio.current_task()
        assert accepting is not None
        accepts.add(accepting)
        accepting.add_done_callback(accepts.discard)
        behind_reader, behind_writer = await asyncio.open_connection(host, port)
        writers.append(behind_writer)
        ways = forward(reader, behind_writer, next(limits)), forward(behind_reader, writer, NEVER)
        for way in ways:
            task = asyncio.create_task(way)
            tasks.add(task)
            task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=tls)
    try:
        yield int(server.sockets[0].getsockname()[1])
    finally:
        server.close()
        for task in (*accepts, *tasks):
            task.cancel()
        await asyncio.gather(*accepts, *tasks, return_exceptions=True)
        for writer in writers:
            writer.close()
        await asyncio.gather(*(writer.wait_closed() for writer in writers), return_exceptions=True)


def tls_proxy(address: str, authority: trustme.CA, *, ask: bool = False) -> AbstractAsyncContextManager[int]:
    """A proxy that speaks TLS, as 127.0.0.1, in front of an address that does not.

    With ``ask`` it takes only clients that have a certificate of the authority.
    """
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.set_alpn_protocols(["h2"])
    authority.issue_cert("127.0.0.1").configure_cert(context)
    if ask:
        authority.configure_trust(context)
        context.verify_mode = ssl.CERT_REQUIRED
    return proxy(address, tls=context)
