"""Proxies that the environment names, through which gRPC reaches servers on other machines."""

from __future__ import annotations

import os
from ipaddress import ip_address, ip_network

from gradwire._transports.address import Address, hosts, is_loopback

_NAMED_IN = ("grpc_proxy", "https_proxy", "http_proxy")
"""Variables where gRPC looks for a proxy; the first that is set counts."""

_EXCEPTIONS_IN = ("no_grpc_proxy", "no_proxy")
"""Variables where it looks for hosts that it reaches without one; the first that is set counts."""


def told(to: Address) -> str:
    """The variable that sends calls to an address through a proxy, in words for an error; nothing if none does."""
    variable = next((name for name in _NAMED_IN if name in os.environ), "")
    scheme, _, proxy = os.environ.get(variable, "").partition("://")
    named = hosts(to.target)
    if scheme.lower() != "http" or not named or is_loopback(to.target) or _is_excepted(named[0]):
        return ""
    # What stands before the @ is a secret.
    where = proxy.rpartition("@")[2].partition("/")[0]
    return (
        f"; the environment variable {variable} sends calls through the proxy {where}: if that is not meant, list "
        f"{named[0]} in no_proxy"
    )


def _is_excepted(host: str) -> bool:
    variable = next((name for name in _EXCEPTIONS_IN if name in os.environ), "")
    entries = [entry.strip() for entry in os.environ.get(variable, "").split(",") if entry]
    return any(host.lower().endswith(entry.lower()) or _is_in(host, entry) for entry in entries)


def _is_in(host: str, network: str) -> bool:
    try:
        return "/" in network and ip_address(host) in ip_network(network, strict=False)
    except ValueError:
        return False
