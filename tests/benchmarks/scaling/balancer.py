"""What a balancer for calls takes: Envoy in front of a server, beside the same calls without it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import sleep

import gradwire as gw
from tests.benchmarks.peers import Server
from tests.benchmarks.scaling.calls import FLAGS, ROUNDS, metric
from tests.benchmarks.scaling.points import Point
from tests.integration.envoy import envoy
from tests.integration.server_process import ServerProcess

POINTS = (Point((10, 1), 1), Point((100, 1), 256), Point((30, 32, 1), 32), Point((100, 256, 1), 64))
HELD = (Point((100, 1), 100, held=True), Point((64, 64, 1), 32, held=True))
CALLS = 60


def measure() -> Iterator[Mapping[str, object]]:
    """A row for each point: processor seconds of Envoy for a call, and the bytes that pass it."""
    with ExitStack() as stack:
        server = stack.enter_context(ServerProcess(FLAGS))
        folder = Path(stack.enter_context(TemporaryDirectory()))
        balancer = stack.enter_context(envoy(folder, [server]))
        while not balancer.healthy():
            sleep(0.1)
        client = stack.enter_context(gw.connect(balancer.address))
        clock = Server(balancer.address, balancer.pid)
        for point in (*POINTS, *HELD):
            arrays, step = point.workload().arrays, client.value_and_grad(point.workload().loss)
            taken, before = [], server.metrics()
            for _ in range(ROUNDS):
                begun = clock.seconds()
                for _ in range(CALLS):
                    step(arrays)
                taken.append((clock.seconds() - begun) / CALLS)
            after = server.metrics()
            received, sent = (
                (metric(after, name) - metric(before, name)) / (ROUNDS * CALLS)
                for name in ("gradwire_received_bytes_total", "gradwire_sent_bytes_total")
            )
            yield {"held": point.held, "bytes_in": received, "bytes_out": sent, "balancer_seconds": median(taken)}
