"""How a client finds its server, and what it says when there is none."""

from __future__ import annotations

import multiprocessing
import os
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

import gradwire as gw
from tests.integration.server_process import ServerProcess
from tests.losses import hinge


@pytest.mark.parametrize(
    ("target", "options", "words"),
    [
        ("", {}, "no address.*localhost:50051"),
        ("localhost", {}, "no port.*host:port"),
        ("http://localhost:50051", {}, "scheme.*host:port"),
        ("localhost:65536", {}, "port above 65535.*host:port"),
        (f"localhost:1{'0' * 5000}", {}, "port above 65535"),
        ("unixes.example.org:65536", {}, "port above 65535"),
        ("dns:///localhost:99999", {}, "port above 65535"),
        ("ipv4:127.0.0.1:4294967297,127.0.0.1:1", {}, "port above 65535"),
        ("localhost:1", {"certificate": "a.pem"}, "come together"),
        ("localhost:1", {"tls": True, "ca": np.array(["a", "b"])}, "no path"),
        ("localhost:1", {"tls": True, "ca": "\ud800"}, "no path"),
        ("localhost:1", {"ca": "a.pem"}, "tls=True"),
        ("example.org:1", {"token": "secret"}, "in the clear"),
        ("unixes.example.org:1", {"token": "secret"}, "in the clear"),
        ("127.0.0.1.example.org:1", {"token": "secret"}, "in the clear"),
        ("localhost:1", {"max_attempts": 0}, "from 1"),
        ("localhost:1", {"max_attempts": "3"}, "'3': expected an integer from 1"),
        ("localhost:1", {"max_attempts": 2.5}, "2.5: expected an integer from 1"),
        ("localhost:1", {"tls": "no"}, "neither True nor False"),
        ("localhost:1", {"health_checks": 1}, "health_checks=1 is neither True nor False"),
        ("localhost:1", {"tls": True, "ca": 5}, "ca=5 is no path"),
        ("localhost:1", {"token": 5}, "printable ASCII"),
        ("localhost:1", {"token": "a\nb"}, "printable ASCII"),
        ("localhost:1", {"token": "ü"}, "printable ASCII"),
        (5, {}, "target 5 is no address"),
        (b"local", {}, "target b'local' is no address"),
    ],
)
def test_arguments_that_make_no_sense(target: Any, options: Any, words: str) -> None:
    with pytest.raises(gw.UsageError, match=words):
        gw.connect(target, **options)
    with pytest.raises(gw.UsageError, match=words):
        gw.AsyncClient(target, **options)


@pytest.mark.parametrize("target", ["localhost:65535", "localhost:000000050051", "unix:/run/gradwire:99999", "[::1]:1"])
def test_targets_that_make_sense(target: str) -> None:
    gw.connect(target).close()


@pytest.mark.parametrize(
    "target", ["localhost:1", "dns:///localhost:1", "127.1.2.3:1", "[::1]:1", "unix:/run/gradwire"]
)
def test_a_token_may_travel_in_the_clear_on_this_machine(target: str) -> None:
    gw.connect(target, token="secret").close()  # noqa: S106  (none)


def test_options_are_checked_for_the_engine_in_the_process_too() -> None:
    with pytest.raises(gw.UsageError, match="max_attempts=99"):
        gw.connect("local", max_attempts=99)
    with pytest.raises(TypeError, match="foo"):
        gw.connect("local", foo=1)  # type: ignore[call-arg]  # the mistake
    with gw.connect("local", token="secret", max_attempts=1) as client:  # noqa: S106  (none)
        assert client.info().ops


@pytest.mark.parametrize("option", ["ca", "certificate", "key"])
def test_a_file_that_cannot_be_read_is_named_with_its_option(tmp_path: Path, option: str) -> None:
    (tmp_path / "there.pem").touch()
    files: Any = dict.fromkeys(["ca", "certificate", "key"], tmp_path / "there.pem") | {option: tmp_path / "absent.pem"}
    with (
        gw.connect("localhost:1", tls=True, **files) as client,
        pytest.raises(gw.UsageError, match=rf"absent\.pem \({option}=\): No such file"),
    ):
        client.info()


def test_nobody_there() -> None:
    with (
        gw.connect("127.0.0.1:1", max_attempts=1) as client,
        pytest.raises(gw.UnavailableError, match=r"127\.0\.0\.1:1.*does `gradwire serve` run there"),
    ):
        client.info()


def test_somebody_else_there(server: ServerProcess) -> None:
    with gw.connect(f"127.0.0.1:{server.metrics_port}", max_attempts=1) as client, pytest.raises(gw.UnavailableError):
        client.info()


def test_a_server_of_another_contract_is_named_with_that_of_the_client() -> None:
    other = grpc.server(ThreadPoolExecutor(1))
    port = other.add_insecure_port("127.0.0.1:0")
    other.start()
    w = gw.parameter("w")
    with gw.connect(f"127.0.0.1:{port}") as client, client.stream(w * w) as stream:
        for call in (client.info, lambda: client.value_and_grad(w * w)(w=1.0), lambda: stream(w=1.0)):
            with pytest.raises(gw.UnimplementedError, match=rf"{port} does not speak gradwire\.v1\.GradientService: "):
                call()
    other.stop(None)


def test_a_client_made_before_a_fork_works_after_it(server: ServerProcess) -> None:
    client = gw.connect(server.address)
    case = hinge()
    value_and_grad = client.value_and_grad(case.loss)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        # The forks happen in a process that has not used gRPC, as a training script is before its workers start.
        forked, expected = pool.apply(_fork_and_call, (server.address,))
    value, _ = value_and_grad(**case.arrays)
    client.close()
    assert forked == expected == float(value)


def _fork_and_call(address: str) -> tuple[float, float]:
    case = hinge()
    value_and_grad = gw.connect(address).value_and_grad(case.loss)
    ours, theirs = multiprocessing.Pipe()
    child = os.fork()
    if child == 0:
        theirs.send(float(value_and_grad(**case.arrays)[0]))
        os._exit(0)
    forked = ours.recv()
    os.waitpid(child, 0)
    return forked, float(value_and_grad(**case.arrays)[0])


def test_a_client_used_before_a_fork_says_so_after_it(server: ServerProcess) -> None:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert "connect in the child" in pool.apply(_call_and_fork, (server.address,))


def _call_and_fork(address: str) -> str:
    client = gw.connect(address)
    client.info()
    ours, theirs = multiprocessing.Pipe()
    child = os.fork()
    if child == 0:
        _tell(client, theirs)
        os._exit(0)
    message: str = ours.recv()
    os.waitpid(child, 0)
    return message


def _tell(client: gw.Client, parent: Connection[str, str]) -> None:
    try:
        client.info()
        parent.send("no error")
    except gw.UsageError as error:
        parent.send(str(error))
