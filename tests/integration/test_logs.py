"""What the log says, and does not say, and how a caller finds its call in it."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from threading import Event
from typing import Any

import grpc
import pytest

import gradwire as gw
from gradwire.v1 import gradient_service_pb2 as pb
from gradwire.v1 import tensor_pb2
from tests.hostile.http2 import connected
from tests.integration.raw import SERVICE, channel
from tests.integration.server_process import ServerProcess
from tests.integration.waiting import eventually


@pytest.fixture(scope="module")
def talkative() -> Iterator[ServerProcess]:
    """A server that logs every call."""
    with ServerProcess(flags=("--log-level=debug",)) as process:
        yield process


def lines(server: ServerProcess, request_id: str) -> list[dict[str, Any]]:
    """What is logged of a call."""
    logged = [json.loads(line) for line in server.log.splitlines()]
    return [line for line in logged if line.get("request_id") == request_id]


def call(server: ServerProcess, method: str, *metadata: tuple[str, str], request: bytes = b"") -> tuple[str, Any]:
    """The id that comes back, and how the call ends."""
    with channel(server.address) as opened:
        kind: Any = opened.stream_stream(f"/{SERVICE}/{method}")
        made = kind(iter([request]), metadata=metadata)
        with suppress(grpc.RpcError):
            list(made)
        [found] = [value for key, value in made.trailing_metadata() if key == "x-request-id"]
    return found, made.code()


@pytest.mark.parametrize("method", ["GetServerInfo", "ComputeGradients", "StreamGradients", "Nothing"])
async def test_the_id_of_the_caller_comes_back_and_is_in_the_log(talkative: ServerProcess, method: str) -> None:
    given = f"of-the-caller/{method}"
    found, code = call(talkative, method, ("x-request-id", given))
    assert found == given
    await eventually(lambda: len(lines(talkative, given)) > 0)
    [line] = [line for line in lines(talkative, given) if line["event"] == "call"]
    assert line["code"] == code.name
    assert line["method"] == (f"{SERVICE}/{method}" if method != "Nothing" else "unknown/unknown")
    assert line["seconds"] > 0
    assert line["peer"].startswith("ipv4:127.0.0.1:")
    assert line.get("asked") == (f'"/{SERVICE}/Nothing"' if method == "Nothing" else None)
    assert line["level"] == ("debug" if code is grpc.StatusCode.OK or method == "Nothing" else "info")


@pytest.mark.parametrize("given", ["", "a b", "x" * 129, None])
def test_an_id_that_is_none_is_replaced(talkative: ServerProcess, given: str | None) -> None:
    metadata: Any = [] if given is None else [("x-request-id", given.encode())]
    found, _ = call(talkative, "GetServerInfo", *metadata)
    assert len(found) == 32
    assert found != call(talkative, "GetServerInfo", *metadata)[0]


def test_workers_forked_from_one_process_have_ids_of_their_own() -> None:
    with ServerProcess(flags=("--workers=2",)) as server:
        # By as many connections, of which each worker has some.
        found = [call(server, "GetServerInfo")[0] for _ in range(16)]
    assert len(set(found)) == len(found)


def test_a_line_is_written_at_once_for_others_write_too() -> None:
    reading, writing = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with reading, writing:
        command = [sys.executable, "-m", "gradwire_server", "serve", "--workers=2", "--port=0", "--metrics-port=0"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=writing.fileno(), text=True) as process:
            writing.close()
            assert process.stdout is not None
            process.stdout.readline()
            process.terminate()
            written = list(iter(lambda: reading.recv(1 << 16), b""))
    # A worker may have stopped before another one drains.
    assert sorted(json.loads(line)["event"] for line in written) == ["draining"] * 3 + ["serving"] + ["stopped"] * 3


async def test_a_call_that_fails_is_one_line_that_says_why_and_shows_no_value() -> None:
    with ServerProcess() as server, gw.connect(server.address) as client:
        x = gw.input("x", shape=(), per_example=True)
        with pytest.raises(gw.NonFiniteError) as non_finite:
            client.value_and_grad(gw.log(x), reject_non_finite=True)(x=[1.0, -98765.4321])
        with pytest.raises(gw.InvalidRequestError) as wrong:
            client.value_and_grad(gw.take(gw.parameter("w", shape=(3,)), gw.input("i", dtype="int64")))(
                w=[1.0] * 3, i=98765
            )
        with client.stream(gw.log(x), reject_non_finite=True) as stream, pytest.raises(gw.NonFiniteError) as framed:
            stream(x=[-98765.4321])
        client.info()
        server.stop()
        for error, method in (
            (non_finite, "ComputeGradients"),
            (wrong, "ComputeGradients"),
            (framed, "StreamGradients"),
        ):
            assert error.value.request_id is not None
            [line] = lines(server, error.value.request_id)
            assert method in line["method"]
            assert line["reason"] == error.value.reason
            assert line["level"] == "info"
        assert "98765" not in server.log
        assert "GetServerInfo" not in server.log


async def test_calls_of_strangers_are_summed_up(tmp_path: Path) -> None:
    calls, kinds = 300, ("UNAUTHENTICATED", "UNIMPLEMENTED", "LIMIT_EXCEEDED")
    tokens = tmp_path / "tokens"
    tokens.write_text("a-token-of-the-tests\n")
    known = ("authorization", "Bearer a-token-of-the-tests")
    with ServerProcess(flags=(f"--tokens-file={tokens}",)) as server:
        async with grpc.aio.insecure_channel(server.address) as opened:

            async def ask(method: str, *metadata: tuple[str, str]) -> None:
                kind: Any = opened.unary_unary(f"/{method}")
                with pytest.raises(grpc.RpcError):
                    await kind(b"", metadata=metadata)

            for _ in range(calls // 100):
                await asyncio.gather(*(ask(f"{SERVICE}/GetServerInfo") for _ in range(100)))
                await asyncio.gather(*(ask(f"nobody/Nothing{number}", known) for number in range(100)))
        for _ in range(3):
            with connected(server.address) as connection:
                connection.trailers(connection.call("GetServerInfo", [("x-large", "x" * 17_000)]))
        server.stop()
        logged = [json.loads(line) for line in server.log.splitlines()]
        summed = [line for line in logged if line["event"] == "refused calls, unread"]
        assert [sum(line.get(kind, 0) for line in summed) for kind in kinds] == [calls, calls, 3]
        assert {line["level"] for line in summed} == {"info"}
        assert summed[0]["last_peer"].startswith("ipv4:127.0.0.1:")
        assert [line for line in logged if line["event"] == "call"] == []
        # One a second at most, of which there were few.
        assert len(logged) < calls / 3


def test_the_line_of_a_call_that_is_over_a_limit_names_the_setting() -> None:
    with ServerProcess(flags=("--max-nodes=1", "--max-arrival=0.1")) as server, channel(server.address) as opened:
        request = pb.ComputeGradientsRequest(graph=gw.graph(gw.exp(gw.parameter("w"))))
        found, _ = call(server, "ComputeGradients", request=request.SerializeToString())
        slow: Any = opened.stream_stream(f"/{SERVICE}/ComputeGradients")
        arriving = Event()
        with pytest.raises(grpc.RpcError):
            list(slow(iter(arriving.wait, True), metadata=[("x-request-id", "late")]))
        arriving.set()
        server.stop()
        [large], [late] = lines(server, found), lines(server, "late")
        assert (large["reason"], large["setting"]) == ("LIMIT_EXCEEDED", "max_nodes")
        assert (late["reason"], late["setting"]) == ("DEADLINE_EXCEEDED", "max_arrival")


async def test_the_text_of_a_caller_is_bounded(talkative: ServerProcess) -> None:
    request = pb.ComputeGradientsRequest(tensors={"n" * 100_000: tensor_pb2.Tensor(values=[1.0])})
    request.graph.nodes.add(name="w\n\x1b[31m" * 10_000).parameter.SetInParent()
    found, code = call(talkative, "ComputeGradients", ("x-noise", "y" * 1000), request=request.SerializeToString())
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    await eventually(lambda: len(lines(talkative, found)) > 0)
    [line] = lines(talkative, found)
    assert len(json.dumps(line)) < 1000
    assert "yyy" not in talkative.log


def test_a_warning_of_python_is_a_line_as_others_are() -> None:
    # As a float32 it is infinite, of which NumPy warns.
    graph = gw.graph(gw.power(gw.parameter("x"), 1e308))
    request = pb.ComputeGradientsRequest(graph=graph, dtype=tensor_pb2.DTYPE_FLOAT32)
    request.tensors["x"].values.append(1.0)
    with ServerProcess() as server:
        _, code = call(server, "ComputeGradients", request=request.SerializeToString())
        assert code is grpc.StatusCode.OK
        server.stop()
        # Each of them can be read.
        assert {json.loads(line)["level"] for line in server.log.splitlines()} <= {"info", "warning"}


@pytest.mark.parametrize("flags", [["--log-format=text"], ["--log-format=json"]])
def test_the_form_is_as_asked(flags: list[str]) -> None:
    with ServerProcess(flags=(*flags, "--log-level=debug")) as server, gw.connect(server.address) as client:
        client.info()
        server.stop()
        # A call is over, and logged, when its answer is sent, which the client may see before.
        [line] = [line for line in server.log.splitlines() if "GetServerInfo" in line]
        assert line.startswith("{") == (flags == ["--log-format=json"])
        assert "\x1b" not in server.log


def test_a_person_sees_text_without_being_asked() -> None:
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "gradwire_server", "serve", "--port=0", "--metrics-port=0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=theirs) as process:
        assert process.stdout is not None
        ready = process.stdout.readline()
        process.terminate()
        seen = os.read(ours, 100)
        process.communicate()
    os.close(ours)
    os.close(theirs)
    assert ready.startswith(b"gradwire serving")
    assert seen.startswith(b"\x1b")
