"""The port of operators: metrics and probes."""

from __future__ import annotations

import json
import socket
import struct
import sys
from contextlib import ExitStack
from http.client import HTTPConnection
from pathlib import Path

import psutil
import pytest

from gradwire_server.service.telemetry.probes import OPEN
from tests.integration.server_process import DEADLINE, PAGES_HOST, ServerProcess, beginning, compiling, listening
from tests.integration.waiting import eventually


def ask(port: int, path: str, method: str = "GET", host: str = "127.0.0.1") -> tuple[int, str]:
    connection = HTTPConnection(host, port, timeout=DEADLINE)
    try:
        connection.request(method, path)
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


@pytest.mark.parametrize(
    ("method", "path", "status", "text"),
    [
        ("GET", "/livez", 200, "ok\n"),
        ("GET", "/readyz", 200, "ok\n"),
        ("GET", "/readyz?verbose", 200, "ok\n"),
        ("HEAD", "/readyz", 200, ""),
        ("HEAD", "/livez", 200, ""),
        ("HEAD", "/metrics", 200, ""),
        ("HEAD", "/nothing", 404, ""),
        ("POST", "/metrics", 405, "ask with GET or HEAD\n"),
        ("OPTIONS", "/metrics", 405, "ask with GET or HEAD\n"),
        ("POST", "/livez", 405, "ask with GET or HEAD\n"),
        ("GET", "/", 404, "there is /metrics /livez /readyz here\n"),
        ("GET", "/metrics/x", 404, "there is /metrics /livez /readyz here\n"),
        ("GET", "/%ff%0d%0a", 404, "there is /metrics /livez /readyz here\n"),
    ],
)
def test_pages(server: ServerProcess, method: str, path: str, status: int, text: str) -> None:
    assert ask(server.metrics_port, path, method) == (status, text)


@pytest.mark.parametrize("path", ["/metrics", "/livez", "/nothing"])
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
def test_a_page_tells_its_length_and_no_version(server: ServerProcess, method: str, path: str) -> None:
    headers = ask_with(server, path, {}, method)[1]
    assert headers["Server"] == "gradwire"
    assert int(headers["Content-Length"]) > 0


@pytest.mark.parametrize("line", [b"GET\r\n\r\n", b"GET /livez HTTP/9.9\r\n\r\n", b"\xff\xfe\r\n\r\n"])
def test_what_is_no_request_is_told_no_version(server: ServerProcess, line: bytes) -> None:
    with socket.create_connection(("127.0.0.1", server.metrics_port), DEADLINE) as connection:
        connection.sendall(line)
        told = b"".join(iter(lambda: connection.recv(1 << 16), b""))
    assert b"Error" in told
    assert b"Python" not in told


def ask_with(
    server: ServerProcess, path: str, headers: dict[str, str], method: str = "GET"
) -> tuple[int, dict[str, str], bytes]:
    connection = HTTPConnection("127.0.0.1", server.metrics_port, timeout=DEADLINE)
    try:
        connection.request(method, path, headers=headers)
        response = connection.getresponse()
        return response.status, dict(response.getheaders()), response.read()
    finally:
        connection.close()


@pytest.mark.parametrize("workers", [1, 2])
def test_whatever_asks_for_metrics_gets_them_and_leaves_no_trace_in_the_log(workers: int) -> None:
    accepted = [
        "application/openmetrics-text; version=zz",
        "application/openmetrics-text; version=",
        "application/openmetrics-text; version=1.0.0; escaping=\xe9",
        f"application/openmetrics-text; version={'9' * 5000}",
        "text/plain; version=1.x",
        "text/plain; version=-1; escaping=nothing",
        ";;;,,,===",
        "\xff",
    ]
    with ServerProcess(flags=(f"--workers={workers}",)) as server:
        for accept in accepted:
            status, _, body = ask_with(server, "/metrics", {"Accept": accept})
            assert (status, b"gradwire_build_info" in body) == (200, True), accept
        for query in ("name[]=a", "name[]=", "%ff%00=%zz", "&&&;=;"):
            assert ask_with(server, f"/metrics?{query}", {"Accept-Encoding": "gzip;q=x"})[0] == 200
        server.stop()
        assert {json.loads(line)["level"] for line in server.log.splitlines()} == {"info"}


async def test_a_server_that_drains_is_not_ready_but_lives() -> None:
    with ServerProcess(flags=("--announce=30",)) as server:
        server.process.terminate()
        await eventually(lambda: ask(server.metrics_port, "/readyz") == (503, "no\n"))
        assert ask(server.metrics_port, "/livez")[0] == 200
        assert ask(server.metrics_port, "/metrics")[0] == 200
        server.process.kill()
        server.wait()


def test_a_server_that_compiles_is_not_ready_but_lives(tmp_path: Path) -> None:
    with compiling(tmp_path) as process:
        port = listening(process, PAGES_HOST)
        assert ask(port, "/readyz", host=PAGES_HOST)[0] == 503
        assert ask(port, "/livez", host=PAGES_HOST)[0] == 200
        process.terminate()
        process.communicate(timeout=DEADLINE)
        assert process.returncode == 0


@pytest.mark.parametrize("workers", [1, 2])
def test_a_start_asks_for_the_name_of_no_address(workers: int) -> None:
    code = "import socket; socket.gethostbyaddr = None; from gradwire_server.__main__ import main; main()"
    line = f"shift 3; exec {sys.executable} -c '{code}' \"$@\""
    with beginning(f"--workers={workers}", line=line) as process:
        assert process.stdout is not None
        assert "gradwire serving on" in process.stdout.readline()
        process.terminate()
        process.communicate(timeout=DEADLINE)
        assert process.returncode == 0


def test_pages_are_open_where_calls_need_tokens(tmp_path: Path) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_text("token")
    with ServerProcess(flags=(f"--tokens-file={tokens}",)) as server:
        assert [ask(server.metrics_port, path)[0] for path in ("/metrics", "/livez", "/readyz")] == [200] * 3


async def test_connections_that_say_nothing_hold_few_threads_and_keep_nobody_out() -> None:
    with ServerProcess() as server, ExitStack() as idle:
        threads = psutil.Process(server.process.pid).num_threads
        before = threads()
        for _ in range(3 * OPEN):
            idle.enter_context(socket.create_connection(("127.0.0.1", server.metrics_port), DEADLINE))
        assert ask(server.metrics_port, "/livez") == (200, "ok\n")
        await eventually(lambda: threads() <= before + OPEN)
        idle.pop_all().close()
        assert ask(server.metrics_port, "/readyz") == (200, "ok\n")
        server.stop()
        assert [json.loads(line)["event"] for line in server.log.splitlines()] == ["serving", "draining", "stopped"]


def test_connections_that_break_off_are_not_logged() -> None:
    with ServerProcess() as server:
        for _ in range(20):
            with socket.create_connection(("127.0.0.1", server.metrics_port), DEADLINE) as broken:
                broken.sendall(b"GET /metrics HTTP/1.1\r\nHost: ")
                # Reset where it would be closed.
                broken.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            assert ask(server.metrics_port, "/livez")[0] == 200
        server.stop()
        assert [json.loads(line)["event"] for line in server.log.splitlines()] == ["serving", "draining", "stopped"]
