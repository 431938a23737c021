"""Many calls at once, made by h2load, which takes little of the machine itself."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from shutil import which

import numpy as np
from rich.console import Console

import gradwire as gw
from gradwire.v1 import gradient_service_pb2 as pb
from gradwire.v1 import tensor_pb2
from tests.benchmarks.peers import hinge, running, serving
from tests.benchmarks.peers.echo import METHOD
from tests.benchmarks.table import Row, rows
from tests.benchmarks.timing import Timings, in_turns
from tests.benchmarks.unary import SERVE, request
from tests.losses import hinge as hinge_case

COMPUTE = "/gradwire.v1.GradientService/ComputeGradients"
IN_FLIGHT = 32
CALLS = 4000
EXAMPLES, STEPS = 4096, 200
"""Of a call that computes for some milliseconds, on little that has to be moved."""

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


def _rows(work: str, timings: Timings, ours: str, peer: str, reach: float | None) -> Iterator[Row]:
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
        ours = stack.enter_context(running((sys.executable, "-m", *SERVE)))
        client = stack.enter_context(gw.connect(ours.address))
        message = request(client.register(hinge_case(features=hinge.FEATURES).loss), arrays)
        reply = pb.ComputeGradientsResponse(loss=tensor_pb2.Tensor(raw=bytes(8)))
        reply.gradients["w"].raw = arrays["w"].tobytes()
        answer, outgoing = reply.SerializeToString(), message.SerializeToString()
        servers = {"gradwire": ours}
        for name, command in {"echo": (sys.executable, "-m", "tests.benchmarks.peers.echo"), **_in_cpp(folder)}.items():
            servers[name] = stack.enter_context(running(command, answer))
        loads = {
            name: _Load(folder, server.address, COMPUTE if name == "gradwire" else METHOD, outgoing, f"-n{CALLS}", 1)
            for name, server in servers.items()
        }
        taken: dict[str, list[float]] = {name: [] for name in servers}

        def turn(name: str) -> float:
            before = servers[name].seconds()
            seconds = loads[name]()
            taken[name].append((servers[name].seconds() - before) / CALLS)
            return seconds

        timings = in_turns({name: partial(turn, name) for name in servers}, 20)
    for peer, reach in (("echo", 0.65), ("C++ echo", None)):
        if peer in servers:
            yield from _rows(f"small unary calls, {IN_FLIGHT} in flight", timings, "gradwire", peer, reach)
            yield from rows("processor time of the server a call", Timings(taken), "gradwire", {peer: None}, 1e-6)


def _in_cpp(folder: str) -> dict[str, tuple[str, ...]]:
    """The command of the echo in C++, where it can be compiled."""
    program = str(Path(folder) / "cpp_echo")
    source = Path(__file__).parent / "peers" / "echo.cc"
    compiler, finder = which("g++"), which("pkg-config")
    asked = (str(finder), "--cflags", "--libs", "grpc++")
    try:
        flags = subprocess.run(asked, check=True, capture_output=True, text=True).stdout.split()
        subprocess.run((str(compiler), "-O2", "-o", program, str(source), *flags), check=True)
    except (OSError, subprocess.CalledProcessError):
        Console(stderr=True).print("no echo in C++: Debian has what it needs in g++, pkg-config and libgrpc++-dev")
        return {}
    return {"C++ echo": (program,)}


def compare_workers() -> Iterator[Row]:
    """Calls that compute, to a server of two processes, and to two servers, against one of one."""
    x, w = gw.input("x", per_example=True), gw.parameter("w")
    loss: gw.Expression = x
    for step in range(STEPS):
        loss = gw.tanh(loss * w + 0.1 * step)
    numbers = np.random.default_rng(1).normal(size=EXAMPLES).tobytes()
    message = pb.ComputeGradientsRequest(
        graph=gw.graph(loss),
        tensors={
            "x": tensor_pb2.Tensor(shape=(EXAMPLES,), raw=numbers),
            "w": tensor_pb2.Tensor(raw=np.array(0.9).tobytes()),
        },
    ).SerializeToString()
    with ExitStack() as stack:

        def load(address: str, connections: int) -> _Load:
            # For a time, not for a number of calls: the kernel does not give each worker as many connections.
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            return _Load(folder, address, COMPUTE, message, f"-D{SECONDS}", connections)

        flags = "--workers=1", "--workers=2", "--workers=1"
        one, two, other = (stack.enter_context(serving(*SERVE, flag, "--threads=1")) for flag in flags)
        halves = [load(address, IN_FLIGHT // 2) for address in (one, other)]
        threads = stack.enter_context(ThreadPoolExecutor(len(halves)))

        def apart() -> float:
            seconds: list[float] = list(threads.map(lambda half: half(), halves))
            return 1 / sum(1 / each for each in seconds)

        loads: dict[str, Callable[[], float]] = {
            "one worker": load(one, IN_FLIGHT),
            "two workers": load(two, IN_FLIGHT),
            "two servers": apart,
        }
        timings = in_turns(loads, 20)
    work = f"{STEPS} tanh on {EXAMPLES:,} examples in every call, {IN_FLIGHT} connections"
    yield from _rows(work, timings, "two workers", "one worker", 1.85)
    yield from _rows(work, timings, "two servers", "one worker", None)
