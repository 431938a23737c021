"""Starting, stopping, giving up: the process as an operator sees it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import chain
from pathlib import Path
from threading import Event
from typing import Any

import grpc
import numpy as np
import psutil
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

import gradwire as gw
from gradwire.v1 import gradient_service_pb2 as pb
from gradwire.v1 import graph_pb2
from gradwire_server.version import VERSION
from tests.integration.command import run
from tests.integration.raw import SERVICE, channel, refused, stub
from tests.integration.server_process import DEADLINE, ServerProcess, beginning, compiling, listening
from tests.integration.test_service import tensors
from tests.integration.waiting import eventually
from tests.losses import Case, endless, hinge, perceptron

UNAVAILABLE = grpc.StatusCode.UNAVAILABLE
BUSY, IDLE = "gradwire_requests_in_flight 1.0", "gradwire_requests_in_flight 0.0"


def half_a_request() -> bytes:
    """The head of a request, whose tensor is to come."""
    request = pb.ComputeGradientsRequest(graph=gw.graph(gw.sum(gw.parameter("w", shape=(4,)))))
    head = pb.StreamRequestHead(request=request, framed=[pb.FramedTensor(name="w", shape=[4])])
    return bytes(pb.StreamGradientsRequest(head=head).SerializeToString())


async def test_a_signal_lets_work_in_flight_finish() -> None:
    case = perceptron(1_000_000)
    for number in (signal.SIGTERM, signal.SIGINT):
        with ServerProcess() as server, gw.connect(server.address, max_attempts=1) as client:
            value_and_grad = client.value_and_grad(case.loss)
            # Registers the graph, so that the server is not busy with that.
            value_and_grad(perceptron(1).arrays)
            with ThreadPoolExecutor(1) as pool:
                call = pool.submit(value_and_grad.evaluate, case.arrays)
                await eventually(partial(_is_busy, server))
                server.process.send_signal(number)
                assert call.result().examples == 1_000_000
            assert server.wait() == 0
            assert '"event": "stopped"' in server.log
            with pytest.raises(gw.UnavailableError):
                client.info()


async def test_work_that_outlasts_the_grace_is_refused_and_the_server_still_ends_well() -> None:
    case = perceptron(1_000_000)
    # A tenth of the grace is for telling the caller, which must be enough on a busy machine too.
    with ServerProcess(flags=("--grace=3",)) as server, gw.connect(server.address, max_attempts=1) as client:
        with ThreadPoolExecutor(1) as pool:
            call = pool.submit(client.check, case.loss, case.arrays)
            await eventually(lambda: BUSY in server.metrics())
            server.process.terminate()
            error = call.exception()
        assert isinstance(error, gw.UnavailableError)
        assert error.reason == "SHUTTING_DOWN"
        assert server.wait() == 0


async def test_work_that_does_not_stop_is_left_when_the_grace_is_over() -> None:
    # Without any grace it is left at once; with a little it would have been stopped.
    size = 5000
    column, row = gw.parameter("a", shape=(size, 1)), gw.parameter("b", shape=(1, size))
    case = Case(gw.sum((column * row) @ (column * row)), {"a": np.ones((size, 1)), "b": np.ones((1, size))})
    request = pb.ComputeGradientsRequest(graph=gw.graph(case.loss), tensors=tensors(case))
    left = False
    while not left:  # work passes a checkpoint every few hundredths of a second, where it may stop in time
        with ServerProcess(flags=("--grace=0",)) as server, channel(server.address) as opened:
            before = _computed(server)
            call = stub(opened).ComputeGradients.future(request)
            # It is checked in less than half of that, and all else is the products, which take some ten times as long.
            await eventually(partial(_has_computed, server, before + 1))
            server.process.terminate()
            assert server.wait() == 0
            assert call.code() is grpc.StatusCode.UNAVAILABLE
            left = "did not stop" in server.log
            assert '"event": "stopped"' in server.log


WAITING: list[tuple[str, str, list[bytes]]] = [
    ("between-requests", f"/{SERVICE}/StreamGradients", []),
    # The server waits a second for more of it.
    ("in-a-request", f"/{SERVICE}/StreamGradients", [half_a_request()]),
    ("reflection", "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", []),
]


@pytest.mark.parametrize(("method", "frames"), [row[1:] for row in WAITING], ids=[row[0] for row in WAITING])
async def test_a_call_that_waits_for_its_caller_does_not_hold_up_the_end(method: str, frames: list[bytes]) -> None:
    with ServerProcess(flags=("--grace=300",)) as server, channel(server.address) as opened:
        hold = Event()
        kind: Any = opened.stream_stream(method)
        call = kind(chain(frames, iter(hold.wait, True)))
        await eventually(lambda: started(server) == 1)
        server.process.terminate()
        with pytest.raises(grpc.RpcError) as raised:
            list(call)
        hold.set()
        assert (refused(raised.value).code, refused(raised.value).reason) == (UNAVAILABLE, "SHUTTING_DOWN")
        assert server.wait() == 0


def test_a_call_whose_message_does_not_come_does_not_outlast_the_grace() -> None:
    hold = Event()

    def nothing() -> Iterator[bytes]:
        hold.wait()
        yield from ()

    with ServerProcess(flags=("--grace=0.5",)) as server, channel(server.address) as opened:
        kind: Any = opened.stream_unary(f"/{SERVICE}/GetServerInfo")
        call = kind.future(nothing())
        while started(server) == 0:
            assert not call.done()
        assert server.stop() == 0
        assert call.code() is grpc.StatusCode.UNAVAILABLE
        hold.set()


async def test_new_calls_are_taken_while_the_drain_is_announced() -> None:
    case = hinge()
    with ServerProcess(flags=("--announce=30",)) as server, channel(server.address) as opened:
        health: Any = health_pb2_grpc.HealthStub(opened)
        watch = health.Watch(health_pb2.HealthCheckRequest())
        next(watch)
        server.process.terminate()
        assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING
        request = pb.ComputeGradientsRequest(graph=gw.graph(case.loss), tensors=tensors(case))
        assert stub(opened).ComputeGradients(request).stats.examples == 5
        server.process.kill()
        server.wait()


@pytest.mark.parametrize("method", ["ComputeGradients", "CheckGradients"])
async def test_a_deadline_stops_the_work(method: str) -> None:
    case = endless()
    request = getattr(pb, f"{method}Request")(graph=gw.graph(case.loss), tensors=tensors(case))
    with ServerProcess(flags=("--threads=1",)) as server, channel(server.address) as opened:
        # Connects: the work is to come to the server long before the deadline.
        stub(opened).GetServerInfo(pb.GetServerInfoRequest())
        with pytest.raises(grpc.RpcError) as raised:
            getattr(stub(opened), method)(request, timeout=2)
        assert refused(raised.value).code is grpc.StatusCode.DEADLINE_EXCEEDED
        await eventually(lambda: IDLE in server.metrics())
        labels = f'grpc_code="DeadlineExceeded",grpc_method="{method}"'
        await eventually(lambda: _counted(server, labels) == 1)
        assert "gradwire_examples_processed_total 0.0" in server.metrics()


async def test_cancelling_stops_the_work() -> None:
    case = perceptron(2_000_000)
    with ServerProcess() as server, channel(server.address) as opened:
        request = pb.CheckGradientsRequest(graph=gw.graph(case.loss), tensors=tensors(case))
        call: Any = stub(opened).CheckGradients.future(request)
        await eventually(lambda: BUSY in server.metrics())
        call.cancel()
        await eventually(lambda: IDLE in server.metrics())
        labels = 'grpc_code="Canceled",grpc_method="CheckGradients"'
        await eventually(lambda: _counted(server, labels) == 1)
        # Its thread is free again: one thread could not do both.
        small = hinge()
        answer = stub(opened).ComputeGradients(
            pb.ComputeGradientsRequest(graph=gw.graph(small.loss), tensors=tensors(small))
        )
        assert answer.stats.examples == 5


def started(server: ServerProcess) -> float:
    """Calls of any method."""
    lines = [line for line in server.metrics().splitlines() if line.startswith("grpc_server_started_total{")]
    return sum(float(line.rpartition(" ")[2]) for line in lines)


def tanh_chain(length: int) -> graph_pb2.Graph:
    graph = graph_pb2.Graph(loss=length)
    graph.nodes.add(name="w").parameter.SetInParent()
    for i in range(length):
        graph.nodes.add().tanh.operands.append(i)
    return graph


@pytest.mark.parametrize("method", ["RegisterGraph", "ComputeGradients", "TraceGraph", "CheckGradients"])
async def test_cancelling_stops_the_check_of_a_graph(method: str) -> None:
    kind = getattr(pb, f"{method}Request")
    with ServerProcess(flags=("--threads=1",)) as server, channel(server.address) as opened:
        call: Any = getattr(stub(opened), method).future(kind(graph=tanh_chain(300_000)))
        await eventually(lambda: BUSY in server.metrics())
        call.cancel()
        # It has the only thread, so that it is over when this one is done.
        stub(opened).RegisterGraph(pb.RegisterGraphRequest(graph=tanh_chain(100)))
        assert "gradwire_programs_cached 1.0" in server.metrics()


def _is_busy(server: ServerProcess) -> bool:
    return BUSY in server.metrics()


def _has_computed(server: ServerProcess, seconds: float) -> bool:
    return _computed(server) > seconds


def _computed(server: ServerProcess) -> float:
    """Seconds that its threads have had of the processors, beside that of its event loop."""
    threads = psutil.Process(server.process.pid).threads()
    return float(sum(thread.user_time for thread in threads if thread.id != server.process.pid))


def _counted(server: ServerProcess, labels: str) -> float:
    [line] = [line for line in server.metrics().splitlines() if f"handled_total{{{labels}," in line]
    return float(line.rpartition(" ")[2])


def gradwire(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return run(*arguments, environment={**os.environ, **environment})


@pytest.mark.parametrize(
    ("arguments", "environment", "code", "words"),
    [
        (["serve", "--port=abc"], {}, 2, ["gradwire: --port: ", "integer", "'abc'"]),
        (["serve", "--port=99999"], {}, 2, ["--port", "65535"]),
        (["serve"], {"GRADWIRE_THREADS": "0"}, 2, ["gradwire: GRADWIRE_THREADS: ", "greater than 0"]),
        (["serve", "--threads=0"], {"GRADWIRE_THREADS": "1"}, 2, ["gradwire: --threads: "]),
        (["serve", "--threads=0"], {"GRADWIRE_PORT": "x"}, 2, ["\n--threads: ", "GRADWIRE_PORT: "]),
        *(
            (["serve", f"{flag}="], {}, 2, [f"gradwire: {flag}: ", "not be empty", "leave the option out", "''"])
            for flag in ("--host", "--metrics-host", "--port", "--tokens-file", "--config")
        ),
        (["serve"], {"GRADWIRE_HOST": " "}, 2, ["gradwire: GRADWIRE_HOST: ", "not be empty", "' '"]),
        (["health", "--timeout=x"], {}, 2, ["gradwire: --timeout: ", "number", "'x'"]),
        (["serve", "--prot=1"], {}, 2, ["--prot=1", "did you mean --port?"]),
        (["serve", "--worker", "2"], {}, 2, ["--worker", "did you mean --workers?"]),
        (["health", "--cert", "file"], {}, 2, ["--cert", "did you mean --certificate?"]),
        (["serve", "extra"], {}, 2, ["extra"]),
        (["--vesrion"], {}, 2, ["--vesrion"]),
        (["serve", "--max-message-bytes=-1"], {}, 2, ["--max-message-bytes", "greater than or equal to 1048576"]),
        (["serve", "--grace=inf"], {}, 2, ["--grace", "less than or equal to 2000000"]),
        (["serve", "--max-connections=2147483647"], {}, 2, ["--max-connections", "less than"]),
        *(
            (["serve", "--host=192.0.2.1", "--insecure", workers], {}, 1, ["192.0.2.1", "assign requested", "--host"])
            for workers in ("--workers=1", "--workers=2")
        ),
        *(
            (["serve", f"{flag}={host}"], {}, 2, [f"gradwire: {flag}: ", "without brackets and port", repr(host)])
            for flag in ("--host", "--metrics-host")
            for host in ("::g", "[::1]", "127.0.0.1:80", "http://localhost", "a b")
        ),
        *(
            # An address of its own, for the port is always the same.
            (
                ["serve", "--host=127.0.0.77", "--metrics-port=50051", workers],
                {},
                1,
                ["127.0.0.77:50051 is to be for calls and for metrics", "--port"],
            )
            for workers in ("--workers=1", "--workers=2")
        ),
        (["serve"], {"PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION": "python"}, 1, ["pure Python", "PROTOCOL_BUFFERS"]),
        (["srve"], {}, 2, ["srve", "serve"]),
        ([], {}, 2, ["usage", "serve", "explain"]),
        (["explain", "absent.json"], {}, 1, ["absent.json", "No such file"]),
    ],
)
def test_a_mistake_is_one_clear_message(
    arguments: list[str], environment: dict[str, str], code: int, words: list[str]
) -> None:
    done = gradwire(*arguments, **environment)
    assert done.returncode == code, done.stderr
    assert [word for word in words if word not in done.stderr] == [], done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_an_address_that_is_taken_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for flag in ("--port", "--metrics-port"):
            other = "--metrics-port" if flag == "--port" else "--port"
            done = gradwire("serve", f"{flag}={port}", f"{other}=0")
            assert (done.returncode, done.stdout) == (1, "")
            assert f"127.0.0.1:{port}" in done.stderr
            assert flag in done.stderr
            assert len(done.stderr.splitlines()) == 1


def test_two_servers_do_not_share_a_port(server: ServerProcess) -> None:
    done = gradwire("serve", f"--port={server.port}", "--metrics-port=0")
    assert done.returncode == 1
    assert "another server" in done.stderr


def test_a_limit_of_open_files_below_that_of_connections_is_told() -> None:
    with beginning(line='ulimit -n 5000; exec "$@"') as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("gradwire serving")
        process.terminate()
        _, log = process.communicate(timeout=DEADLINE)
    assert "--max-connections" in log
    assert '"limit": 5000, "needed": 11000, "max_connections": 4000' in log


def test_settings_come_from_the_environment() -> None:
    environment = {**os.environ, "GRADWIRE_MAX_NODES": "7", "GRADWIRE_LOG_LEVEL": "debug"}
    with ServerProcess(environment=environment) as server, gw.connect(server.address) as client:
        assert client.info().limits["max_nodes"] == 7
        server.stop()
        assert '"method": "gradwire.v1.GradientService/GetServerInfo"' in server.log


def test_a_variable_that_is_no_setting_is_told_with_the_closest_one() -> None:
    with ServerProcess(environment={**os.environ, "GRADWIRE_PROT": "1"}) as server:
        server.stop()
        assert '"variable": "GRADWIRE_PROT", "closest": "GRADWIRE_PORT"' in server.log


def test_where_another_service_collects_its_metrics_is_nothing_to_this_one() -> None:
    elsewhere = {"PROMETHEUS_MULTIPROC_DIR": "/nonexistent", "prometheus_multiproc_dir": "/nonexistent"}
    for workers in (1, 2):
        with ServerProcess(flags=(f"--workers={workers}",), environment={**os.environ, **elsewhere}) as server:
            assert IDLE in server.metrics()


@pytest.mark.parametrize(
    ("streams", "workers"),
    [
        *((stream, 1) for stream in ("<&-", ">&-", "2>&-", ">/dev/full", "2>/dev/full")),
        ("<&- >&- 2>&-", 2),
        (">/dev/full 2>/dev/full", 2),
    ],
)
def test_it_serves_and_ends_well_without_standard_streams(streams: str, workers: int) -> None:
    with beginning(f"--workers={workers}", line=f'exec "$@" {streams}') as process:
        address = f"127.0.0.1:{listening(process)}"
        while gradwire("health", address).returncode:
            assert process.poll() is None
        process.terminate()
        process.communicate(timeout=DEADLINE)
        assert process.returncode == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_it_imports_ends_it_without_a_trace(tmp_path: Path, number: int) -> None:
    (tmp_path / "pydantic.py").write_text(f"import os, time; os.kill(os.getpid(), {number}); time.sleep(60)")
    done = gradwire("serve", "--port=0", "--metrics-port=0", PYTHONPATH=str(tmp_path))
    assert (done.returncode, done.stdout, done.stderr) == (128 + number, "", "")


def test_help_and_version() -> None:
    assert gradwire("--version").stdout == f"gradwire {VERSION}\n"
    assert "--no-version" not in gradwire("--help").stdout
    text = gradwire("serve", "--help").stdout
    assert "--max-message-bytes" in text
    assert "GRADWIRE_PORT" in text
    assert "lambda" not in text


REQUEST = """{"graph": {"nodes": [{"name": "w", "parameter": {}}, {"sigmoid": {"operands": [0]}}], "loss": 1},
             "tensors": {"w": {"values": [0]}}}"""


@pytest.mark.parametrize(
    ("text", "code", "words"),
    [
        (REQUEST, 0, []),
        ('{"nodes": [{"name": "w", "parameter": {}}]}', 0, []),
        (REQUEST.replace('"operands": [0]', '"operands": [1]'), 1, ["itself"]),
        (REQUEST.replace('"values": [0]', '"values": [0, 1]'), 1, ['"w"']),
        ('{"nods": []}', 1, ["nods"]),
        ('{"grph": {"nodes": []}}', 1, ["grph", "TraceGraphRequest"]),
        ('{"nodes": [{"name": "w", "parametr": {}}]}', 1, ["parametr", "Graph.nodes[0]"]),
        ('{"nodes": []}', 1, ["no graph, or one without nodes"]),
        ('{"nodes": [{"add": {"operands": [5, 7]}}]}', 1, ["nodes[0].add.operands[0]", "nodes[0].add.operands[1]"]),
        ('{"nodes": [{"name": "w", "parameter": {}}, {"add": {"operands": [0, 1]}}], "loss": 1}', 1, ["itself"]),
        ('{"nodes": [{"name": "w", "parameter": {}}], "loss": 9}', 1, ["loss is index 9"]),
        ('{"nodes": [{"constant": {"value": {"shape": [2], "raw": "AAA="}}}]}', 1, ["nodes[0].constant", "16 bytes"]),
        ('{"nodes": [{"name": "w"}]}', 1, ['"w"', "no kind"]),
        ("5", 1, ["no object but int", "TraceGraphRequest"]),
        (b"\xff\xfe", 1, ["utf-8", "TraceGraphRequest"]),
        ("not json", 1, ["JSON"]),
    ],
)
def test_explain_draws_what_a_file_holds(tmp_path: Path, text: str | bytes, code: int, words: list[str]) -> None:
    (tmp_path / "request.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    done = gradwire("explain", str(tmp_path / "request.json"), "-o", str(tmp_path / "graph.svg"), "--title=$\\frac$")
    assert done.returncode == code, done.stderr
    assert [word for word in words if word not in done.stderr] == [], done.stderr
    assert "Traceback" not in done.stderr
    assert (tmp_path / "graph.svg").exists() == (code == 0)


@pytest.mark.parametrize(
    ("arguments", "file", "begins"),
    [
        (["-o", "graph.html"], "graph.html", b"<!doctype html>"),
        (["-o", "graph.svg"], "graph.svg", b"<?xml"),
        (["-o", "graph.png"], "graph.png", b"\x89PNG"),
        (["-o", "graph.txt"], "graph.txt", b"node "),
        (["-o", "graph.page", "--format", "html"], "graph.page", b"<!doctype html>"),
        (["--format", "png"], None, b"\x89PNG"),
        ([], None, b"node "),
    ],
)
def test_explain_writes_what_the_suffix_or_the_format_says(
    tmp_path: Path, arguments: list[str], file: str | None, begins: bytes
) -> None:
    (tmp_path / "request.json").write_text(REQUEST)
    command = [sys.executable, "-m", "gradwire_server", "explain", "request.json", *arguments]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert (tmp_path / file).read_bytes().startswith(begins) if file else done.stdout.startswith(begins)
    assert file is None or done.stdout.decode() == f"{file}\n"


def test_explain_draws_images_for_a_dark_page_and_says_what_is_none(tmp_path: Path) -> None:
    (tmp_path / "request.json").write_text(REQUEST)
    done = gradwire("explain", str(tmp_path / "request.json"), "--format", "svg", "--dark")
    assert (done.returncode, done.stderr) == (0, "")
    assert "fill: #22332d" in done.stdout
    done = gradwire("explain", str(tmp_path / "request.json"), "--dark")
    assert (done.returncode, done.stdout) == (2, "")
    assert "dark is for images, svg or png; found text" in done.stderr


def test_explain_writes_no_file_of_another_kind(tmp_path: Path) -> None:
    (tmp_path / "request.json").write_text(REQUEST)
    done = gradwire("explain", str(tmp_path / "request.json"), "-o", str(tmp_path / "graph.pdf"))
    assert (done.returncode, done.stdout) == (2, "")
    assert "graph.pdf is none of .html, .svg, .png, .txt" in done.stderr
    assert not (tmp_path / "graph.pdf").exists()


def test_a_server_that_compiles_says_that_it_does_not_serve_yet_and_ends_at_once(tmp_path: Path) -> None:
    with compiling(tmp_path) as process:
        with channel(f"127.0.0.1:{listening(process)}") as opened:
            health: Any = health_pb2_grpc.HealthStub(opened)
            check = health.Check(health_pb2.HealthCheckRequest(service=SERVICE), wait_for_ready=True)
            assert check.status == health_pb2.HealthCheckResponse.NOT_SERVING
        process.terminate()
        ready, log = process.communicate(timeout=DEADLINE)
        assert (ready, process.returncode) == ("", 0)
        assert '"event": "stopped"' in log


def test_a_thread_does_not_hold_python_for_long_while_others_wait() -> None:
    with ServerProcess(module="tests.integration.telling_server") as server:
        server.stop()
        assert "switches after 0.0005" in server.log
