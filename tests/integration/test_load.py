"""Load on a real server, by ``gradwire bench``, and what ``gradwire top`` shows of it."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest

import gradwire as gw
from gradwire.v1 import graph_pb2
from gradwire_server.command.page import Page, quantile
from tests.integration.server_process import DEADLINE, ServerProcess
from tests.integration.test_lifecycle import gradwire


def counted(server: ServerProcess) -> float:
    """Calls of the server that were answered."""
    name = 'grpc_server_handled_total{grpc_code="OK",grpc_method="ComputeGradients"'
    return sum(float(line.split()[-1]) for line in server.metrics().splitlines() if line.startswith(name))


def test_as_many_calls_are_made_as_are_asked_for() -> None:
    with ServerProcess() as server:
        done = gradwire("bench", server.address, "--calls=100", "--callers=3", "--examples=7", "--timeout=60")
        assert (done.returncode, done.stderr) == (0, "")
        # One more registers the graph.
        assert counted(server) == 101
        assert "gradwire_examples_processed_total 707.0" in server.metrics()
    lines = done.stdout.splitlines()
    assert re.fullmatch(rf"100 calls answered in .* s by {server.address}, 3 at a time: [\d,]+ a second", lines[0])
    times = [float(word) for word in lines[3].replace(" ms", "").split()]
    assert times == sorted(times)
    rows = [line.split() for line in lines[6:]]
    assert sum(int(row[-1]) for row in rows) == 100
    assert float(rows[-1][2]) == pytest.approx(times[-1], abs=0.01)


def test_it_ends_when_its_time_is_over(server: ServerProcess) -> None:
    done = gradwire("bench", server.address, "--seconds=0.2", "--calls=10000000", "--timeout=60")
    assert (done.returncode, done.stderr) == (0, "")


def test_failures_are_counted_by_kind_and_make_it_fail() -> None:
    with ServerProcess() as server:
        command = [sys.executable, "-m", "gradwire_server", "bench", server.address, "--calls=1000000", "--seconds=8"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            while counted(server) < 10:
                assert process.poll() is None
            server.process.kill()
            written, said = process.communicate(timeout=DEADLINE)
        server.wait()
    assert (process.returncode, said) == (1, "")
    failed = re.search(r"^([\d,]+) failed, UnavailableError: .*no server answers at ", written, re.MULTILINE)
    answered = re.match(r"([\d,]+) calls answered", written)
    assert failed is not None, written
    assert answered is not None
    assert int(answered[1].replace(",", "")) > 0
    # Callers wait between calls that no server answers.
    assert 0 < int(failed[1].replace(",", "")) < 1000


def test_a_server_that_is_not_there_is_no_result() -> None:
    done = gradwire("bench", "127.0.0.1:1")
    assert (done.returncode, done.stdout) == (1, "")
    assert "no server answers at 127.0.0.1:1" in done.stderr


def rows(text: str) -> dict[str, list[str]]:
    """Rows of a table, by their first two words."""
    return {" ".join(line.split()[:2]): line.split()[2:] for line in text.splitlines() if line.strip()}


def test_one_look_shows_what_a_server_has_done() -> None:
    w = gw.parameter("w")
    with ServerProcess(flags=("--workers=2",)) as server:
        with gw.connect(server.address) as client:
            step = client.value_and_grad(w * w)
            for _ in range(5):
                step(w=1.0)
            with pytest.raises(gw.InvalidGraphError):
                client.register(graph_pb2.Graph())
        done = gradwire("top", server.metrics_url, "--once")
    assert (done.returncode, done.stderr) == (0, "")
    assert re.match(r"gradwire \S+, up .*, 2 workers, rates over ", done.stdout)
    found = rows(done.stdout)
    assert found["ComputeGradients OK"][0] == "5"
    assert found["RegisterGraph InvalidArgument"][0] == "1"
    assert [len(found[row]) for row in ("ComputeGradients OK", "RegisterGraph InvalidArgument")] == [8, 8]
    assert "memory" in done.stdout


@contextmanager
def answering(body: bytes) -> Iterator[str]:
    """A page of somebody else."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with HTTPServer(("127.0.0.1", 0), Handler) as other:
        thread = Thread(target=other.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{other.server_port}/metrics"
        other.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("body", "words"),
    [(b"<html>", "no page of metrics"), (b"up 1\n", "no gradwire_build_info"), (b"\xff", "no page of metrics")],
)
def test_a_page_of_somebody_else_is_told(body: bytes, words: str) -> None:
    with answering(body) as url:
        done = gradwire("top", url, "--once")
    assert (done.returncode, done.stdout) == (1, "")
    assert words in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["http://127.0.0.1:1/metrics", "--once"], 1, "no page at http://127.0.0.1:1/metrics: "),
        (["localhost:9464"], 2, "'localhost:9464' is no address of a page"),
        (["file:///etc/passwd"], 2, "is no address of a page"),
    ],
)
def test_what_cannot_be_watched_is_named(arguments: list[str], code: int, words: str) -> None:
    done = gradwire("top", *arguments)
    assert (done.returncode, done.stdout) == (code, "")
    assert words in done.stderr


def test_only_a_terminal_is_watched(server: ServerProcess) -> None:
    done = gradwire("top", server.metrics_url)
    assert (done.returncode, done.stderr) == (2, "gradwire: the output is no terminal; --once shows one look\n")


def test_a_live_view_goes_on_until_it_is_ended_and_leaves_the_terminal_as_it_was() -> None:
    environment = {**os.environ, "COLUMNS": "100", "LINES": "30", "TERM": "xterm"}
    with ServerProcess() as server, gw.connect(server.address) as client:
        for number, before in ((signal.SIGINT, "no call has ended yet"), (signal.SIGTERM, "RegisterGraph")):
            ours, theirs = pty.openpty()
            command = [sys.executable, "-m", "gradwire_server", "top", server.metrics_url, "--interval=0.1"]
            with subprocess.Popen(command, stdout=theirs, env=environment) as process:
                os.close(theirs)
                screen = read_until(ours, before)
                client.register(gw.parameter("w") * 2)
                screen += read_until(ours, "RegisterGraph")
                process.send_signal(number)
                screen += read_until(ours, "\x1b[?1049l")
                assert process.wait() == 0
            os.close(ours)
            # Another screen, and no cursor; then those that were before.
            assert screen.index("\x1b[?1049h") < screen.index("RegisterGraph") < screen.index("\x1b[?1049l")
            assert screen.count("\x1b[?25l") == screen.count("\x1b[?25h")


def read_until(terminal: int, words: str) -> str:
    text = ""
    while words not in text:
        text += os.read(terminal, 65536).decode(errors="replace")
    return text


def page(**buckets: float) -> Page:
    """A histogram, by the bounds of its buckets."""
    series = {
        frozenset({("le", bound.removeprefix("le_")), ("method", "a")}): count for bound, count in buckets.items()
    }
    return Page(0.0, {"time_bucket": series})


@pytest.mark.parametrize(
    ("fraction", "expected"),
    # Ten values below 1, thirty from 1 to 2, ten from 2 on.
    [(0.1, 0.5), (0.2, 1.0), (0.5, 1.5), (0.8, 2.0), (0.99, 2.0)],
)
def test_quantiles_are_those_of_prometheus(fraction: float, expected: float) -> None:
    found = page(**{"le_1.0": 10, "le_2.0": 40, "le_+Inf": 50})
    assert quantile(fraction, found, "time", method="a") == pytest.approx(expected)
    assert quantile(fraction, found, "time", method="b") is None


def test_a_server_that_was_restarted_counts_from_nothing() -> None:
    before, after = page(**{"le_1.0": 10, "le_+Inf": 10}), page(**{"le_1.0": 4, "le_+Inf": 12})
    recent = after.since(before)
    assert (recent.total("time_bucket", le="1.0"), recent.total("time_bucket", le="+Inf")) == (4, 2)
