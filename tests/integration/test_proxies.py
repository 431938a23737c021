"""Proxies that the environment names, as in the networks of companies: never for this machine."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import suppress
from threading import Thread

import pytest

import gradwire as gw
from gradwire_server.command import asking
from gradwire_server.configuration.settings import Target
from tests.integration.server_process import DEADLINE, ServerProcess

VARIABLES = ["grpc_proxy", "https_proxy", "http_proxy"]


@pytest.fixture(autouse=True)
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*VARIABLES, "no_grpc_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def silent() -> Iterator[str]:
    """A proxy that takes connections and never answers, as one that does not know the host."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"127.0.0.1:{listener.getsockname()[1]}"


@pytest.fixture
def refusing() -> Iterator[str]:
    """A proxy that refuses every host."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def refuse() -> None:
            with suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    with connection:
                        connection.recv(1 << 16)
                        connection.sendall(b"HTTP/1.1 403 Forbidden\r\n\r\n")

        thread = Thread(target=refuse)
        thread.start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        # To close it would leave the thread in its wait.
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


@pytest.mark.parametrize("variable", VARIABLES)
@pytest.mark.parametrize("host", ["localhost", "LOCALHOST", "127.0.0.1", "dns:///localhost", "ipv4:127.0.0.1"])
def test_calls_to_this_machine_go_through_none(
    server: ServerProcess, silent: str, monkeypatch: pytest.MonkeyPatch, variable: str, host: str
) -> None:
    monkeypatch.setenv(variable, f"http://{silent}")
    target = f"{host}:{server.port}"
    w = gw.parameter("w")

    async def work() -> float:
        async with gw.AsyncClient(target, max_attempts=1) as client:
            return float((await client.value_and_grad(w * w)(w=3.0, timeout=DEADLINE))[0])

    with gw.connect(target, max_attempts=1) as client, client.stream(w * w) as stream:
        assert client.value_and_grad(w * w)(w=3.0, timeout=DEADLINE)[0] == 9
        assert stream(w=3.0, timeout=DEADLINE)[0] == 9
    assert asyncio.run(work()) == 9
    assert asking.health(Target(address=target)) == "SERVING"


def test_nor_do_those_to_several_addresses_of_it(
    server: ServerProcess, silent: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", f"http://{silent}")
    with gw.connect(f"ipv4:127.0.0.1:{server.port},127.0.0.1:{server.port}", max_attempts=1) as client:
        assert client.info(timeout=DEADLINE).ops


@pytest.mark.parametrize("variable", VARIABLES)
def test_an_error_names_the_variable_that_sends_other_calls_through_one(
    refusing: str, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, f"http://user:secret@{refusing}")
    words = f"the environment variable {variable} sends calls through the proxy {refusing}.* list gradwire.test in no_p"
    with (
        gw.connect("gradwire.test:50051", max_attempts=1) as client,
        pytest.raises(gw.UnavailableError, match=words) as raised,
    ):
        client.info()
    assert "secret" not in str(raised.value)

    async def work() -> None:
        async with gw.AsyncClient("gradwire.test:50051", max_attempts=1) as client:
            await client.info()

    with pytest.raises(gw.UnavailableError, match=words):
        asyncio.run(work())


def test_it_does_so_too_where_the_time_passes(silent: str, refusing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    words = "the environment variable http_proxy sends calls through the proxy"

    async def work() -> None:
        async with gw.AsyncClient("gradwire.test:50051") as client:
            await client.info(timeout=0.5)

    for proxy in (silent, refusing):
        monkeypatch.setenv("http_proxy", f"http://{proxy}")
        with gw.connect("gradwire.test:50051") as client, pytest.raises(gw.DeadlineExceededError, match=words):
            client.info(timeout=0.5)
        with pytest.raises(gw.DeadlineExceededError, match=words):
            asyncio.run(work())


REFUSES = "http://127.0.0.1:1"


@pytest.mark.parametrize(
    ("environment", "named"),
    [
        ({"http_proxy": REFUSES}, True),
        ({"http_proxy": REFUSES, "no_proxy": "example.org,127.0.0.1,"}, True),
        ({"http_proxy": REFUSES, "no_proxy": "example.org, 0.0.0.0/8"}, False),
        ({"http_proxy": REFUSES, "no_proxy": ".0.0.0"}, False),
        ({"http_proxy": REFUSES, "no_proxy": ".0.0.0", "no_grpc_proxy": "x/y"}, True),
        ({"grpc_proxy": "", "http_proxy": REFUSES}, False),
        ({"http_proxy": "socks5://127.0.0.1:1"}, False),
        ({"HTTP_PROXY": REFUSES}, False),
    ],
)
def test_a_variable_is_named_where_grpc_heeds_it(
    server: ServerProcess, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], named: bool
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    # This machine too, though nothing says so: the call arrives where no proxy takes it.
    with gw.connect(f"0.0.0.0:{server.port}", max_attempts=1) as client:
        if not named:
            assert client.info(timeout=DEADLINE).ops
            return
        with pytest.raises(gw.UnavailableError, match="the environment variable http_proxy"):
            client.info(timeout=DEADLINE)
