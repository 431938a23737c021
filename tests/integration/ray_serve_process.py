"""A cluster of Ray of its own with the service behind Ray Serve, as the documentation starts it."""

from __future__ import annotations

import csv
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from random import randrange
from tempfile import mkdtemp
from time import monotonic, sleep
from typing import IO, Any
from urllib.error import URLError
from urllib.request import ProxyHandler, build_opener

import psutil
import yaml

from tests.clusters import without

DEPLOY = Path(__file__).parents[2] / "deploy" / "ray-serve"
REPLICA = "ray::ServeReplica:gradwire:gradwire"
SCRIPTS = Path(sys.executable).parent
ATTEMPTS = 3
STARTING = 240.0
"""Seconds after which a cluster that does not serve counts as hanging."""


@dataclass(frozen=True)
class RayServe:
    """A service behind Ray Serve, on free ports of the loopback."""

    address: str
    metrics_url: str
    """Where Ray tells Prometheus."""
    stats_url: str
    """Where HAProxy says what it knows of replicas."""
    cluster: psutil.Process
    log: Path

    def replicas(self) -> list[psutil.Process]:
        """Processes that answer calls."""
        found = []
        for process in self.cluster.children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                if process.cmdline()[:1] == [REPLICA]:
                    found.append(process)
        return found

    def wait_for(self, count: int, without: int | None = None) -> None:
        """Wait until so many replicas live, none of which is that process, and all of them get calls.

        Raises:
            AssertionError: They do not.
        """
        end = monotonic() + STARTING
        while True:
            found = [replica.pid for replica in self.replicas()]
            if len(found) == count and without not in found and self._up() == count:
                return
            assert monotonic() < end, f"{found} live, {self._up()} get calls: {self.log.read_text()}"
            # To look at all processes takes time of theirs.
            sleep(0.1)

    def _up(self) -> int:
        """Replicas that HAProxy sends calls to."""
        try:
            rows = list(csv.DictReader(page(self.stats_url + ";csv").splitlines()))
        except URLError:
            return 0
        return sum(
            row["# pxname"] == "grpc-gradwire" and "SERVE_REPLICA" in row["svname"] and row["status"] == "UP"
            for row in rows
        )


def page(url: str) -> str:
    """The content of a page of this machine."""
    with build_opener(ProxyHandler({})).open(url, timeout=30) as response:
        text: str = response.read().decode()
    return text


@contextmanager
def ray_serve(replicas: int, **args: Any) -> Iterator[RayServe]:
    """The service with so many replicas, and these options of gradwire; not yet ready.

    The cluster is one that nobody else finds: it has a folder of its own, and ends with the block.
    """
    # Sockets are in it, whose paths may not be long.
    folder = Path(mkdtemp(prefix="gw-", dir="/tmp"))
    grpc, http, metrics, stats, *others = _free_ports(8)
    configuration = yaml.safe_load((DEPLOY / "gradwire.yaml").read_text())
    configuration["grpc_options"]["port"] = grpc
    configuration["http_options"] = {"port": http}
    application = configuration["applications"][0]
    application["args"] |= args
    application["deployments"][0] |= {
        "num_replicas": replicas,
        "ray_actor_options": {"num_cpus": 0.1},
        "health_check_period_s": 1,
    }
    (folder / "gradwire.yaml").write_text(yaml.safe_dump(configuration))
    environment = _environment(folder, stats, *others)
    flags = (f"--metrics-export-port={metrics}", f"--ray-client-server-port={others[-1]}")
    with (folder / "log").open("w") as log:
        try:
            cluster, address = _begun(folder, environment, log, *flags)
            with subprocess.Popen(
                [SCRIPTS / "serve", "run", f"--address={address}", folder / "gradwire.yaml"],
                stdout=log,
                stderr=log,
                env=environment,
            ) as serving:
                try:
                    yield RayServe(
                        f"127.0.0.1:{grpc}",
                        f"http://127.0.0.1:{metrics}/metrics",
                        f"http://127.0.0.1:{stats}/stats",
                        psutil.Process(cluster.pid),
                        folder / "log",
                    )
                finally:
                    serving.kill()
                    _end(cluster, folder)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _begun(folder: Path, environment: dict[str, str], log: IO[str], *flags: str) -> tuple[subprocess.Popen[str], str]:
    """A cluster, and where it listens.

    Ray gives up where its parts take 15 seconds to begin, as they may on a busy machine. Then it is begun anew.
    """
    said = ""
    for attempt in range(ATTEMPTS):
        files = folder / f"ray-{attempt}"
        cluster = subprocess.Popen(
            [
                *(SCRIPTS / "ray", "start", "--head", "--block", "--node-ip-address=127.0.0.1", "--port=0"),
                *("--min-worker-port=0", "--max-worker-port=0", "--dashboard-agent-listen-port=0", *flags),
                *("--include-dashboard=false", "--include-log-monitor=false", "--no-monitor"),
                *("--num-cpus=2", "--object-store-memory=80000000", f"--temp-dir={files}"),
            ],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env=environment,
        )
        assert cluster.stdout is not None
        try:
            for line in cluster.stdout:
                said += line
                if "block forever" in line:
                    return cluster, (files / "ray_current_cluster").read_text().strip()
        except BaseException:
            _end(cluster, folder)
            raise
        _end(cluster, folder)
    raise AssertionError(f"the cluster did not start: {said}")


def _environment(folder: Path, stats: int, *ports: int) -> dict[str, str]:
    lines = [line for line in (DEPLOY / "ray.env").read_text().splitlines() if not line.startswith("#")]
    first = randrange(20_000, 29_000, 200)  # noqa: S311  (no secret)
    names = ("FALLBACK_PROXY_HTTP_PORT", "FALLBACK_PROXY_GRPC_PORT", "HAPROXY_METRICS_PORT")
    serve = {
        **dict(zip(names, ports, strict=False)),
        "HAPROXY_STATS_PORT": stats,
        "HAPROXY_HEALTH_CHECK_INTER": "1s",
        "DIRECT_INGRESS_MIN_HTTP_PORT": first,
        "DIRECT_INGRESS_MAX_HTTP_PORT": first + 99,
        "DIRECT_INGRESS_MIN_GRPC_PORT": first + 100,
        "DIRECT_INGRESS_MAX_GRPC_PORT": first + 199,
        "HAPROXY_CONFIG_FILE_LOC": folder / "haproxy" / "haproxy.cfg",
        "HAPROXY_SOCKET_PATH": folder / "haproxy" / "admin.sock",
        "HAPROXY_SERVER_STATE_BASE": folder / "haproxy",
        "HAPROXY_SERVER_STATE_FILE": folder / "haproxy" / "state",
        "HAPROXY_METRICS_SOCKET_PATH": folder / "haproxy" / "metrics.sock",
    }
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith("RAY_")},
        **dict(line.split("=", 1) for line in lines),
        **{f"RAY_SERVE_{name}": str(value) for name, value in serve.items()},
        "PYTHONPATH": without(folder, "pandas", "rfc3987_syntax"),
        "RAY_AUTH_MODE": "disabled",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_metrics_report_interval_ms": "1000",
        # The addresses of everything are of the loopback.
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    }


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def _end(cluster: subprocess.Popen[str], folder: Path) -> None:
    """End all of a cluster, whatever state it is in: also what it has left behind, which has the folder's name."""
    processes = psutil.Process(cluster.pid).children(recursive=True)
    for process in psutil.process_iter(["cmdline"]):
        if any(str(folder) in argument for argument in process.info["cmdline"] or ()):
            processes.append(process)
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    cluster.kill()
    cluster.communicate()
    psutil.wait_procs(processes)
