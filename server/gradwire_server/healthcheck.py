"""Whether the server of a container is ready: ``python -m gradwire_server.healthcheck``.

Where its pages are may stand in its environment, its flags or a file; all of them end in a socket on which it listens,
and that is what is looked for. It imports nothing that takes long, since it runs every few seconds.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import suppress
from http.client import HTTPConnection, HTTPException
from ipaddress import ip_address
from pathlib import Path
from struct import pack

TIMEOUT = 5.0
"""Seconds in which a server answers that is well."""

FIRST = 1
"""The process of a container that is started first: the server, or what started it."""

LISTENS = "0A"
"""The state of a socket, as Linux writes it."""


def main() -> None:
    """Exit with 0 if a process, the first one or that of the argument, or a child of it, says that it is ready."""
    process = int(sys.argv[1]) if len(sys.argv) > 1 else FIRST
    for host, port in _listening(process):
        status = _status(host, port)
        if status is not None:
            sys.exit(0 if status == 200 else f"not ready: {status}")
    sys.exit("no page of a server answers")


def _listening(process: int) -> Iterator[tuple[str, int]]:
    """Addresses on which a process or one of its children listens."""
    proc = Path("/proc") / str(process)
    children = proc.joinpath("task", str(process), "children").read_text(encoding="ascii").split()
    for each in (proc, *(proc.parent / child for child in children)):
        sockets = set()
        with suppress(OSError):
            for file in each.joinpath("fd").iterdir():
                with suppress(OSError):
                    sockets.add(str(file.readlink()))
        for table in ("tcp", "tcp6"):
            with suppress(OSError):
                for line in each.joinpath("net", table).read_text(encoding="ascii").splitlines()[1:]:
                    fields = line.split()
                    if fields[3] == LISTENS and f"socket:[{fields[9]}]" in sockets:
                        yield _address(fields[1])


def _address(text: str) -> tuple[str, int]:
    """Where to reach what listens there: on this machine, if it is on every address."""
    host, _, port = text.partition(":")
    # Words of four bytes, each as the processor has it.
    raw = b"".join(pack("=I", int(host[start : start + 8], 16)) for start in range(0, len(host), 8))
    address = ip_address(raw)
    if address.is_unspecified:
        return ("127.0.0.1" if address.version == 4 else "::1"), int(port, 16)
    return str(getattr(address, "ipv4_mapped", None) or address), int(port, 16)


def _status(host: str, port: int) -> int | None:
    """What its page says; None if there is none, as on the port of gRPC."""
    connection = HTTPConnection(host, port, timeout=TIMEOUT)
    try:
        connection.request("GET", "/readyz")
        response = connection.getresponse()
        return response.status if response.getheader("Server") == "gradwire" else None
    except (OSError, HTTPException):
        return None
    finally:
        connection.close()


if __name__ == "__main__":
    main()
