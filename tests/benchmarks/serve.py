"""A small call through Ray Serve and HAProxy, against one to a server itself."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import gradwire as gw
from tests.benchmarks.peers import hinge, serving
from tests.benchmarks.table import Row, rows
from tests.benchmarks.timing import interleave
from tests.integration.ray_serve_process import ray_serve
from tests.losses import hinge as hinge_case

MOST = 1.5
"""How many times as long as a call to a server one through Ray Serve may take."""

SIZES = (4, 256)


def compare() -> Iterator[Row]:
    """With one replica, which has one thread, as the server has."""
    loss = hinge_case(features=hinge.FEATURES).loss
    server = ("gradwire_server", "serve", "--port=0", "--metrics-port=0", "--log-level=warning", "--threads=1")
    with ray_serve(1) as behind, serving(*server) as address:
        behind.wait_for(1)
        with gw.connect(behind.address) as through, gw.connect(address) as direct:
            calls = {"Ray Serve": through.value_and_grad(loss), "direct": direct.value_and_grad(loss)}
            for size in SIZES:
                arrays = hinge_case(examples=size, features=hinge.FEATURES).arrays
                for call in calls.values():
                    for _ in range(200):
                        call(arrays)
                timings = interleave({name: partial(call, arrays) for name, call in calls.items()}, seconds=15)
                work = f"small call through Ray Serve, hinge {size} x {hinge.FEATURES}"
                yield from rows(work, timings, "Ray Serve", {"direct": 1 / MOST}, 1e-6)
