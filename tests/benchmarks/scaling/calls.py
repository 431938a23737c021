"""Processor time of client and server for a call: in process, with its examples, and with examples that are stored."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import perf_counter, process_time

import grpc

import gradwire as gw
from gradwire.v1 import gradient_service_pb2 as pb
from gradwire.v1.gradient_service_pb2_grpc import GradientServiceStub
from tests.benchmarks.peers import Server
from tests.benchmarks.scaling.points import POINTS, SMALL, Point
from tests.integration.server_process import ServerProcess

SLICE = 0.02
"""Seconds of a turn, at least; a call at least."""

ROUNDS = 5
CALLERS = 16
"""Callers of a server that is never idle."""

MOVED = ("gradwire_received_bytes_total", "gradwire_sent_bytes_total")
"""Metrics of the server: bytes that it receives and sends."""

CONNECTIONS = 400
FLAGS = ("--threads=1", "--log-level=warning")


@dataclass(frozen=True, slots=True)
class Spent:
    """What a call takes, on average over a turn."""

    client: float
    """Processor seconds of this process."""
    server: float
    """Processor seconds of the server's."""
    loop: float
    """Those of its event loop."""
    wall: float
    """Seconds by the clock."""


@contextmanager
def one_core() -> Iterator[None]:
    """Whoever counts the cores meanwhile finds one."""
    usable = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(usable)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, usable)


def seconds(server: ServerProcess) -> float:
    """Processor time that a server has taken, by the kernel's clocks."""
    return Server(server.address, server.process.pid).seconds()


def loop_seconds(server: ServerProcess) -> float:
    """Processor time that its event loop has taken, which is its first thread; the metric is a second old at worst."""
    pid = server.process.pid
    return int(Path(f"/proc/{pid}/task/{pid}/schedstat").read_text().split()[0]) / 1e9


def clocks(server: ServerProcess) -> tuple[float, float, float, float]:
    """Seconds until now, as ``Spent`` has them."""
    return process_time(), seconds(server), loop_seconds(server), perf_counter()


def metric(page: str, name: str) -> float:
    """The sum of a metric over its labels."""
    return sum(float(value) for value in re.findall(rf"^{name}(?:{{.*}})? (\S+)$", page, re.MULTILINE))


def turn(call: Callable[[], object], server: ServerProcess) -> Spent:
    """Make calls for a slice of time."""
    count, begun = 0, clocks(server)
    while not count or perf_counter() - begun[-1] < SLICE:
        call()
        count += 1
    return Spent(*((after - before) / count for before, after in zip(begun, clocks(server), strict=True)))


def measure() -> Iterator[Mapping[str, object]]:
    """A row for every point and way: medians over rounds in which all take turns."""
    with one_core():
        local = gw.connect("local")
    with local, ServerProcess(FLAGS) as server, gw.connect(server.address) as remote:
        contestants = {
            (point, way): _call(point, way, local if way == "local" else remote)
            for point in POINTS
            for way in ("local", "sent", "stored")
        }
        moved = {key: _moved(call, server) for key, call in contestants.items()}
        rounds: dict[tuple[Point, str], list[Spent]] = {key: [] for key in contestants}
        for _ in range(ROUNDS):
            for key, call in contestants.items():
                rounds[key].append(turn(call, server))
    for (point, way), spent in rounds.items():
        received, sent = moved[point, way]
        yield {
            "widths": point.widths,
            "examples": point.examples,
            "held": point.held,
            "way": way,
            "client_seconds": median(each.client for each in spent),
            "server_seconds": median(each.server for each in spent) if way != "local" else 0.0,
            "loop_seconds": median(each.loop for each in spent) if way != "local" else 0.0,
            "wall_seconds": median(each.wall for each in spent),
            "bytes_in": received,
            "bytes_out": sent,
        }


def _call(point: Point, way: str, client: gw.Client) -> Callable[[], object]:
    work = point.workload()
    step = client.value_and_grad(work.loss)
    if way != "stored":
        return lambda: step(work.arrays)
    rows = client.examples(work.data)[:]
    return lambda: step(work.parameters, examples=rows)


def _moved(call: Callable[[], object], server: ServerProcess) -> tuple[float, float]:
    """Bytes that the server receives and sends for a call, once all is warm."""
    call()
    call()
    pages = [server.metrics()]
    call()
    pages.append(server.metrics())
    before, after = ([metric(page, name) for name in MOVED] for page in pages)
    received, sent = (last - first for first, last in zip(before, after, strict=True))
    return received, sent


def busy(calls: int = 1500) -> Iterator[Mapping[str, object]]:
    """A server that always has the next call waiting: processor seconds a call, of all its threads and of its loop."""
    for point in SMALL:
        work = point.workload()
        with ServerProcess(FLAGS) as server, ExitStack() as stack:
            client = stack.enter_context(gw.connect(server.address))
            message = pb.ComputeGradientsRequest(graph_id=client.register(work.loss))
            for name, array in work.arrays.items():
                message.tensors[name].shape.extend(array.shape)
                message.tensors[name].raw = array.tobytes()
            stubs = [GradientServiceStub(stack.enter_context(_connection(server.address))) for _ in range(CALLERS)]
            _all(stubs, message, 10)
            begun = clocks(server)
            _all(stubs, message, calls // CALLERS)
            ended = clocks(server)
            made = calls // CALLERS * CALLERS
            yield {
                "widths": point.widths,
                "examples": point.examples,
                "server_seconds": (ended[1] - begun[1]) / made,
                "loop_seconds": (ended[2] - begun[2]) / made,
                "bytes_in": message.ByteSize(),
            }


def _all(stubs: Sequence[GradientServiceStub], message: pb.ComputeGradientsRequest, each: int) -> None:
    """Have every caller make its calls, each as soon as the one before is answered."""
    for _ in range(each):
        for answer in [stub.ComputeGradients.future(message) for stub in stubs]:
            answer.result()


def _connection(address: str) -> grpc.Channel:
    """A connection that no other channel shares."""
    return grpc.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)])


def connection_bytes() -> float:
    """Resident memory of a server for a connection that rests."""
    with ServerProcess(FLAGS) as server, ExitStack() as stack:
        _open(stack, server.address, 20)
        before = metric(server.metrics(), "process_resident_memory_bytes")
        _open(stack, server.address, CONNECTIONS)
        return (metric(server.metrics(), "process_resident_memory_bytes") - before) / CONNECTIONS


def _open(stack: ExitStack, address: str, count: int) -> None:
    for _ in range(count):
        channel = stack.enter_context(_connection(address))
        GradientServiceStub(channel).GetServerInfo(pb.GetServerInfoRequest())
