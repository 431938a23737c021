"""A name server: a name of several addresses, which change as replicas come and go."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from socketserver import BaseRequestHandler, ThreadingUDPServer
from threading import Thread
from typing import Any

from dns import message, rdatatype, rrset

NAME = "gradwire"


class Names(ThreadingUDPServer):
    """Answers for one name, on a free port of the loopback, as a headless Service of Kubernetes does.

    Args:
        port: Where servers listen, at each of their addresses.
        addresses: The addresses.
    """

    daemon_threads = True

    def __init__(self, port: int, addresses: Sequence[str]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.port = port
        self.addresses = addresses
        self.asked = 0
        """Times that somebody asked for them."""

    @property
    def own_port(self) -> int:
        """The port of this server."""
        return int(self.server_address[1])

    @property
    def target(self) -> str:
        """What a client is given: like ``dns:///gradwire:50051``, with the name server to ask."""
        return f"dns://127.0.0.1:{self.own_port}/{NAME}:{self.port}"


class _Handler(BaseRequestHandler):
    server: Names

    def handle(self) -> None:
        query = message.from_wire(self.request[0])
        response = message.make_response(query)
        [question] = query.question
        # There are none of IPv6, which are asked for too.
        if question.rdtype == rdatatype.A:
            self.server.asked += 1
            response.answer.append(rrset.from_text(question.name, 0, "IN", "A", *self.server.addresses))
        reply: Any = self.request[1]
        reply.sendto(response.to_wire(), self.client_address)


@contextmanager
def names(port: int, *addresses: str) -> Iterator[Names]:
    """A name server that answers until the block ends."""
    with Names(port, addresses) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
