"""Where a server is and how to speak to it, as callers say it."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import TypedDict

from gradwire._errors import UsageError
from gradwire._numbers import whole
from gradwire._transports.token import Token, token_source

LOCAL = "local"
"""The target that is no server, but the engine in this process."""

REQUEST_ID = "x-request-id"
"""Key of the metadata that have the id of a call."""

_HAS_PORT = re.compile(r":\d+$")
_PORTS = re.compile(r":0*(\d+)(?=,|$)")
"""Ports in a target, which with a scheme may be several addresses."""
_SOCKETS = ("unix:", "unix-abstract:")
_WITHOUT_PORTS = (*_SOCKETS, "xds:")
_SCHEMES = ("dns:", "ipv4:", "ipv6:", *_WITHOUT_PORTS)


@dataclass(frozen=True, slots=True)
class Address:
    """A server and how to speak to it."""

    target: str
    tls: bool
    ca: Path | None
    certificate: Path | None
    key: Path | None
    server_name: str | None
    token: Callable[[], str] | None
    max_attempts: int
    health_checks: bool

    def metadata(self, request_id: str) -> tuple[tuple[str, str], ...]:
        """What goes with a call that begins now.

        Raises:
            UsageError: There is no token to be had.
        """
        own = ((REQUEST_ID, request_id),)
        return own if self.token is None else (*own, ("authorization", f"Bearer {self.token()}"))


class Connection(TypedDict, total=False):
    """How to connect to a server."""

    tls: bool
    """Whether to encrypt, and check the server's certificate."""
    ca: str | Path | None
    """File of the certificates to trust (PEM). Default: gRPC's own."""
    certificate: str | Path | None
    """File of this client's certificate (PEM), for servers that ask for one."""
    key: str | Path | None
    """File of the key to it (PEM)."""
    server_name: str | None
    """Name that the server's certificate is for, where it is not that of the target, as through a tunnel."""
    token: Token | None
    """Bearer token to send with every call: a string, the ``Path`` of a file that holds it, or a function that returns
    it; file and function are asked at each call. Needs ``tls``, except on this machine."""
    max_attempts: int
    """How often to try a call that no server answers, or that a busy one turns away, 1 to 5 (default), with growing
    pauses of about twelve seconds together."""
    health_checks: bool
    """Whether servers are asked how they are (gRPC's health service), and have no new calls while they say that they do
    not serve: while they drain (``--announce``), or compile. Where the target has several addresses. Default: they are
    not; a gateway that lets nobody ask would be taken for a server that does not serve."""


def address(
    target: str,
    *,
    tls: bool = False,
    ca: str | Path | None = None,
    certificate: str | Path | None = None,
    key: str | Path | None = None,
    server_name: str | None = None,
    token: Token | None = None,
    max_attempts: int = 5,
    health_checks: bool = False,
) -> Address:
    """Checked arguments of ``connect``.

    Raises:
        UsageError: They make no sense.
    """
    _check_target(target)
    for option, flag in (("tls", tls), ("health_checks", health_checks)):
        if not isinstance(flag, bool):
            raise UsageError(f"{option}={flag!r:.64} is neither True nor False")
    if (certificate is None) != (key is None):
        raise UsageError("certificate= and key= come together: give both or none")
    if not (ca is None and certificate is None and server_name is None) and not tls:
        raise UsageError("ca=, certificate=, key= and server_name= need tls=True")
    named: object = server_name
    if named is not None and not (isinstance(named, str) and named and named.isprintable()):
        raise UsageError(f"server_name={server_name!r:.64} is no name of a server")
    source = None if token is None else token_source(token)
    if token is not None and not tls and not is_loopback(target):
        raise UsageError("a token would travel in the clear; use tls=True, or a server on this machine")
    attempts = whole(max_attempts)
    if attempts is None or not 1 <= attempts <= 5:  # gRPC's own bound
        raise UsageError(f"max_attempts={max_attempts!r:.64}: expected an integer from 1, for no retry, to 5")
    return Address(
        target=target,
        tls=tls,
        ca=_path("ca", ca),
        certificate=_path("certificate", certificate),
        key=_path("key", key),
        server_name=server_name,
        token=source,
        max_attempts=attempts,
        health_checks=health_checks,
    )


def _check_target(target: str) -> None:
    if not isinstance(target, str) or not target or not target.isprintable():  # type: ignore[redundant-expr]  # as a caller gives it
        raise UsageError(f"target {target!r:.64} is no address; expected one such as 'localhost:50051', or 'local'")
    if "://" in target and not target.startswith(_SCHEMES):
        raise UsageError(f"target {target!r} has a scheme that gRPC does not know; leave it out: 'host:port'")
    if target != LOCAL and not target.startswith(_SCHEMES) and not _HAS_PORT.search(target):
        raise UsageError(f"target {target!r} has no port; expected 'host:port', such as 'localhost:50051'")
    # gRPC would take the rest of a division by 65536.
    if not target.startswith(_WITHOUT_PORTS) and any(
        len(port) > 5 or int(port) > 65535 for port in _PORTS.findall(target)
    ):
        raise UsageError(f"target {target!r} has a port above 65535; expected 'host:port', such as 'localhost:50051'")


def _path(option: str, path: str | Path | None) -> Path | None:
    if path is None:
        return None
    try:
        found = Path(path)
        os.fsencode(found)
    except (TypeError, ValueError):
        found = None
    if found is None or "\0" in str(found):
        raise UsageError(f"{option}={path!r:.64} is no path of a file")
    return found


def hosts(target: str) -> list[str]:
    """The hosts that a target names; none of a socket's path."""
    if target == LOCAL or target.startswith(_WITHOUT_PORTS):
        return []
    scheme = next((scheme for scheme in _SCHEMES if target.startswith(scheme)), "")
    # Behind two slashes an authority may stand, such as the server of names to ask.
    addresses = target.removeprefix(scheme).rpartition("/")[2].split(",")
    return [_HAS_PORT.sub("", each).strip("[]") for each in addresses]


def is_loopback(target: str) -> bool:
    """Whether a target is this machine and no other, by its spelling alone."""
    if target == LOCAL or target.startswith(_SOCKETS):
        return True
    named = hosts(target)
    return bool(named) and all(map(_is_loopback_host, named))


def _is_loopback_host(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"
