"""Many calls at once, made by h2load, which takes little of the machine itself."""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from shutil import which

import numpy as np

import gradwire as gw
from gradwire.v1 import gradient_service_pb2 as pb
from gradwire.v1 import tensor_pb2
from tests.benchmarks.peers import hinge, serving
from tests.benchmarks.peers.echo import METHOD
from tests.benchmarks.table import Row
from tests.benchmarks.timing import Timings, in_turns
from tests.benchmarks.unary import SERVE, request
from tests.losses import hinge as hinge_case

COMPUTE = "/gradwire.v1.GradientService/ComputeGradients"
IN_FLIGHT = 32
CALLS = 4000
SIDE = 1000
"""Of a table of numbers that a call computes from few."""

SECONDS = 2


class _Load:
    """Calls of one message to one address, an amount in terms of h2load; called, it gives the seconds a call."""

    def __init__(self, folder: str, address: str, method: str, message: bytes, amount: str, connections: int) -> None:
        program = which("h2load")
        if program is None:
            raise SystemExit("h2load is not there; Debian has it in nghttp2-client")
        body = Path(folder) / method.rpartition("/")[2]
        body.write_bytes(b"\0" + len(message).to_bytes(4, "big") + message)
        flight = IN_FLIGHT // connections
        numbers = amount, f"-c{connections}", f"-m{flight}", f"-d{body}"
        headers = "-Hcontent-type: application/grpc", "-Hte: trailers"
        self._command = (program, *numbers, *headers, f"http://{address}{method}")
        self()  # Whoever was idle is warm now.

    def __call__(self) -> float:
        output = subprocess.run(
            self._command, check=True, capture_output=True, text=True, stdin=subprocess.DEVNULL
        ).stdout
        rate = re.search(r"([\d.]+) req/s", output)
        done = re.search(r"(\d+) succeeded, (\d+) failed", output)
        if rate is None or done is None or int(done[2]):
            raise RuntimeError(output)
        return 1 / float(rate[1])


def _rows(work: str, timings: Timings, ours: str, peer: str, reach: float) -> Iterator[Row]:
    yield Row(
        work=work,
        ours=f"{ours} {1 / timings.seconds(ours):,.0f}/s",
        peer=f"{peer} {1 / timings.seconds(peer):,.0f}/s",
        ratio=timings.ratio(peer, ours),
        reach=reach,
    )


def compare_small() -> Iterator[Row]:
    """Small calls, 32 in flight on one connection, against a bare echo of the same bytes."""
    arrays = hinge.data()
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        address = stack.enter_context(serving(*SERVE))
        client = stack.enter_context(gw.connect(address))
        message = request(client.register(hinge_case(features=hinge.FEATURES).loss), arrays)
        reply = pb.ComputeGradientsResponse(loss=tensor_pb2.Tensor(raw=bytes(8)))
        reply.gradients["w"].raw = arrays["w"].tobytes()
        echo = stack.enter_context(serving("tests.benchmarks.peers.echo", standard_input=reply.SerializeToString()))
        outgoing = message.SerializeToString()
        loads = {
            "gradwire": _Load(folder, address, COMPUTE, outgoing, f"-n{CALLS}", 1),
            "echo": _Load(folder, echo, METHOD, outgoing, f"-n{CALLS}", 1),
        }
        timings = in_turns(loads, 10)
    yield from _rows(f"small unary calls, {IN_FLIGHT} in flight", timings, "gradwire", "echo", 0.9)


def compare_workers() -> Iterator[Row]:
    """Calls that compute, to a server of two processes and to one of one."""
    x, y = gw.parameter("x", shape=(SIDE, 1)), gw.parameter("y", shape=(1, SIDE))
    numbers = np.random.default_rng(1).normal(size=SIDE).tobytes()
    message = pb.ComputeGradientsRequest(
        graph=gw.graph(gw.sum(gw.exp(x * y))),
        tensors={
            "x": tensor_pb2.Tensor(shape=(SIDE, 1), raw=numbers),
            "y": tensor_pb2.Tensor(shape=(1, SIDE), raw=numbers),
        },
    ).SerializeToString()
    with ExitStack() as stack:
        loads = {}
        for workers in (1, 2):
            address = stack.enter_context(serving(*SERVE, f"--workers={workers}", "--threads=1"))
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            # For a time, not for a number of calls: the kernel does not give each worker as many connections.
            loads[f"{workers} workers"] = _Load(folder, address, COMPUTE, message, f"-D{SECONDS}", IN_FLIGHT)
        timings = in_turns(loads, 20)
    work = f"exp of {SIDE:,} x {SIDE:,} products in every call, {IN_FLIGHT} connections"
    yield from _rows(work, timings, "2 workers", "1 workers", 1.8)
