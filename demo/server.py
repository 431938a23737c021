"""The server of the demo, and what its metrics say."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.request import ProxyHandler, build_opener

import numpy as np
from prometheus_client.parser import text_string_to_metric_families

_READY = re.compile(r"gradwire serving on (\S+), metrics on (\S+)")


@dataclass(frozen=True, slots=True)
class Running:
    """A server that answers."""

    address: str
    metrics_url: str


@contextmanager
def serving() -> Iterator[Running]:
    """A server of our own, on free ports; it is told to stop at the end of the block, and waited for."""
    command = [sys.executable, "-m", "gradwire_server", "serve", "--port=0", "--metrics-port=0", "--log-level=warning"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603  (our own command)
        try:
            line = process.stdout.readline() if process.stdout else ""
            ready = _READY.match(line)
            if ready is None:
                raise RuntimeError("the server did not start; what it says is above")
            yield Running(ready[1], ready[2])
        finally:
            process.terminate()


@dataclass(frozen=True, slots=True)
class Served:
    """Calls of ComputeGradients, as Prometheus would see them."""

    requests: int
    p50: float
    """Median duration in seconds, from the buckets of the histogram."""
    p99: float


def served(server: Running) -> Served:
    """What the metrics of a server say."""
    with build_opener(ProxyHandler({})).open(server.metrics_url, timeout=10) as response:
        families = text_string_to_metric_families(response.read().decode())
    buckets = {
        float(sample.labels["le"]): sample.value
        for family in families
        for sample in family.samples
        if sample.name == "grpc_server_handling_seconds_bucket" and sample.labels["grpc_method"] == "ComputeGradients"
    }
    return Served(int(buckets[np.inf]), quantile(buckets, 0.5), quantile(buckets, 0.99))


def quantile(buckets: dict[float, float], q: float) -> float:
    """As ``histogram_quantile`` of Prometheus: linear inside the bucket, and the last bound beyond all bounds."""
    bounds = sorted(buckets)
    counts = [buckets[bound] for bound in bounds]
    return float(np.interp(q * counts[-1], [0.0, *counts[:-1]], [0.0, *bounds[:-1]]))
