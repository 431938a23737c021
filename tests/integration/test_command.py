"""The command: where options come from, its help, and what it asks a server."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
import trustme

import gradwire as gw
from gradwire_server.configuration.limits import ServiceLimits
from gradwire_server.configuration.settings import Settings
from gradwire_server.version import VERSION
from tests.integration.server_process import DEADLINE, ServerProcess, beginning
from tests.integration.test_lifecycle import gradwire
from tests.pem import authority_file, pair


def test_health_and_info(server: ServerProcess) -> None:
    done = gradwire("health", server.address)
    assert (done.returncode, done.stdout, done.stderr) == (0, "SERVING\n", "")
    done = gradwire("info", GRADWIRE_ADDRESS=server.address)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0] == f"gradwire {VERSION} at {server.address}, one process"
    assert "max_message_bytes 134,217,728 (128 MiB)" in [" ".join(line.split()) for line in lines]
    assert [name for name in ServiceLimits.model_fields if name not in done.stdout] == []
    assert [line.split()[0] for line in lines if line.endswith("s = 1 / (1 + e^-a)")] == ["sigmoid"]


def test_a_server_works_with_the_largest_limits() -> None:
    bounded = {"max_message_bytes", "max_rank", "max_connections"}
    largest = dict.fromkeys(ServiceLimits.model_fields.keys() - bounded, 2**63 - 1)
    flags = tuple(f"--{name.replace('_', '-')}={value}" for name, value in largest.items())
    a = gw.parameter("a")
    with ServerProcess(flags=flags) as server, gw.connect(server.address) as client:
        assert largest.items() <= client.info().limits.items()
        assert client.value_and_grad(a * a)(a=3.0) == (9.0, {"a": 6.0})


def test_health_of_a_server_that_drains_is_a_failure() -> None:
    with ServerProcess(flags=("--announce=30",)) as server:
        server.process.terminate()
        while (done := gradwire("health", server.address)).returncode == 0:
            assert done.stdout == "SERVING\n"
        assert (done.returncode, done.stdout, done.stderr) == (1, "NOT_SERVING\n", "")
        server.process.kill()
        server.wait()


@pytest.mark.parametrize("command", ["health", "info"])
@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["127.0.0.1:1"], 1, "no server answers at 127.0.0.1:1"),
        (["nothing"], 2, "has no port"),
        (["localhost:99999"], 2, "'localhost:99999' has a port above 65535"),
        (["localhost:1", "--ca=absent.pem"], 2, "--ca, --certificate, --key and --server-name need --tls"),
        (["localhost:1", "--tls", "--ca=absent.pem"], 2, "cannot read absent.pem (--ca): No such file"),
        (["localhost:1", "--token-file=absent"], 2, "cannot read the token in absent"),
    ],
)
def test_a_server_that_cannot_be_asked(command: str, arguments: list[str], code: int, words: str) -> None:
    done = gradwire(command, *arguments)
    assert (done.returncode, done.stdout) == (code, "")
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("command", ["health", "info"])
def test_a_server_that_hangs_is_not_waited_for(server: ServerProcess, command: str) -> None:
    server.process.send_signal(signal.SIGSTOP)
    try:
        done = gradwire(command, server.address, "--timeout=0.5")
    finally:
        server.process.send_signal(signal.SIGCONT)
    assert (done.returncode, done.stdout) == (1, "")
    assert f"{server.address} did not answer within the timeout" in done.stderr


def test_a_server_that_speaks_tls_or_does_not_is_told_from_the_other(server: ServerProcess, tmp_path: Path) -> None:
    assert "does not speak TLS; connect without --tls;" in gradwire("health", server.address, "--tls").stderr
    with ServerProcess(flags=pair(tmp_path, trustme.CA()).of_server) as encrypted:
        assert "connect with --tls;" in gradwire("health", encrypted.address).stderr
        assert "no authority that this client trusts (--ca)" in gradwire("info", encrypted.address, "--tls").stderr


def test_they_ask_over_mutual_tls_with_a_token_under_another_name(tmp_path: Path) -> None:
    authority = trustme.CA()
    ca = authority_file(tmp_path / "ca.pem", authority)
    files = pair(tmp_path / "server", authority, "gradwire.example")
    own = pair(tmp_path / "own", authority, "operator")
    tokens = tmp_path / "tokens"
    tokens.write_text("token\n")
    flags = (*files.of_server, f"--tls-client-ca={ca}", f"--tokens-file={tokens}")
    with ServerProcess(flags=flags) as server:
        given = ["--tls", f"--ca={ca}", f"--certificate={own.certificate}", f"--key={own.key}"]
        named = [*given, "--server-name=gradwire.example"]
        assert gradwire("health", server.address, *named).stdout == "SERVING\n"
        assert "for another name" in gradwire("health", server.address, *given).stderr
        assert "needs a token" in gradwire("info", server.address, *named).stderr
        assert "max_nodes" in gradwire("info", server.address, *named, f"--token-file={tokens}").stdout
        options: Any = {"ca": ca, "server_name": "gradwire.example", "token": tokens, **own.of_client}
        with gw.connect(server.address, tls=True, **options) as client:
            assert client.info().version == VERSION


def test_asking_imports_no_engine(server: ServerProcess) -> None:
    code = (
        "import sys; from gradwire_server.__main__ import main; sys.argv[1:] = ['health', sys.argv[1]]; main(); "
        "print(*sorted({name.partition('.')[0] for name in sys.modules} & {'numba', 'llvmlite', 'igraph'}))"
    )
    done = subprocess.run([sys.executable, "-c", code, server.address], capture_output=True, text=True, check=True)
    assert done.stdout == "SERVING\n\n"


# Where options come from.


def test_flags_count_more_than_the_environment_and_that_more_than_the_file(tmp_path: Path) -> None:
    file = tmp_path / "gradwire.toml"
    file.write_text("max_nodes = 1\nmax_edges = 1\nmax_rank = 1\nlog_level = 'error'\ninsecure = true\n")
    environment = {**os.environ, "GRADWIRE_MAX_EDGES": "2", "GRADWIRE_MAX_RANK": "2", "GRADWIRE_CONFIG": str(file)}
    flags = ("--max-rank=3",)
    with ServerProcess(flags=flags, environment=environment) as server, gw.connect(server.address) as client:
        limits = client.info().limits
        assert (limits["max_nodes"], limits["max_edges"], limits["max_rank"]) == (1, 2, 3)
        server.stop()
        assert server.log == ""
    with ServerProcess(flags=(f"--config={file}", "--workers=2")) as server, gw.connect(server.address) as client:
        assert client.info().limits["max_edges"] == 1


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("max_ndoes = 1", ['unknown option "max_ndoes"', "did you mean max_nodes?"]),
        ("max-nodes = 1", ['unknown option "max-nodes"', "did you mean max_nodes?"]),
        ("[serve]\nport = 1", ['unknown option "serve"']),
        ("config = 'other.toml'", ['unknown option "config"']),
        ("port = 'x'", ["gradwire: port in ", "gradwire.toml: ", "integer", "'x'"]),
        ("port = -1", ["gradwire: port in ", "greater than or equal to 0"]),
        ("port = ", ["is no TOML", "Invalid value", "--config"]),
        ("\udcff", ["is no TOML"]),
        (None, ["No such file", "--config"]),
    ],
)
def test_a_file_that_is_wrong_is_named(tmp_path: Path, content: str | None, words: list[str]) -> None:
    file = tmp_path / "gradwire.toml"
    if content is not None:
        file.write_bytes(content.encode(errors="surrogateescape"))
    done = gradwire("serve", f"--config={file}")
    assert (done.returncode, done.stdout) == (2, "")
    assert [word for word in words if word not in done.stderr] == [], done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert "Value error" not in done.stderr


@pytest.mark.parametrize(("content", "words"), [("port = ", "is no TOML"), (None, "No such file")])
def test_a_file_that_is_wrong_is_laid_to_the_variable_that_names_it(
    tmp_path: Path, content: str | None, words: str
) -> None:
    file = tmp_path / "gradwire.toml"
    if content is not None:
        file.write_text(content)
    done = gradwire("serve", GRADWIRE_CONFIG=str(file))
    assert (done.returncode, done.stdout) == (2, "")
    assert words in done.stderr
    assert done.stderr.endswith("(GRADWIRE_CONFIG)\n")
    # A flag counts more.
    assert gradwire("serve", f"--config={file}", GRADWIRE_CONFIG="other").stderr.endswith("(--config)\n")


def test_variables_of_others_change_nothing() -> None:
    for name in ("VERSION", "SERVE", "HEALTH", "INFO", "EXPLAIN"):
        assert gradwire("--version", **{name: "1.2.3"}).stdout == f"gradwire {VERSION}\n"


def test_the_help_has_every_option_in_a_group_with_its_unit() -> None:
    text = gradwire("serve", "--help", COLUMNS="200").stdout
    for name in Settings.model_fields:
        assert f"  --{name.replace('_', '-')}" in text, name
    for title in ("Where the server listens:", "Who may call:", "What it logs:", "What it refuses to take on:"):
        assert f"\n{title}\n" in text
    assert "--max-cache-bytes BYTES" in text
    assert "(default: 1073741824, 1 GiB)" in text
    assert "--grace SECONDS" in text
    assert "(default: None)" not in text
    assert {"health", "info", "serve", "explain"} <= set(gradwire("--help").stdout.split())


# Checks before a start, and after.


def test_a_check_says_whether_a_server_could_start_and_starts_none(server: ServerProcess, tmp_path: Path) -> None:
    files, tokens = pair(tmp_path, trustme.CA()), tmp_path / "tokens"
    tokens.write_text("a-token-of-the-tests\n")
    # The port is taken, by a server that may be the one to be started again.
    flags = [*files.of_server, f"--tokens-file={tokens}", "--host=0.0.0.0", f"--port={server.port}", "--workers=2"]
    done = gradwire("serve", "--check", *flags)
    assert (done.returncode, done.stdout) == (0, "these options are fine\n")
    config = tmp_path / "gradwire.toml"
    config.write_text("check = true\ninsecure = true\nhost = '0.0.0.0'\n")
    assert gradwire("serve", f"--config={config}").stdout == "these options are fine\n"


@pytest.mark.parametrize(
    ("flags", "code", "words"),
    [
        (["--port=x"], 2, "--port: "),
        (["--config=absent"], 2, "absent"),
        (["--tls-cert=absent", "--tls-key=absent"], 1, "cannot read absent (--tls-cert)"),
        (["--tokens-file=absent"], 1, "cannot read absent (--tokens-file)"),
        (["--host=0.0.0.0"], 1, "--insecure"),
        (["--port=7777", "--metrics-port=7777"], 1, "127.0.0.1:7777 is to be for calls and for metrics"),
        (["--host=192.0.2.1", "--insecure"], 1, "cannot listen on 192.0.2.1: "),
        (["--metrics-host=192.0.2.1"], 1, "(--metrics-host)"),
    ],
)
def test_a_check_names_what_is_wrong(flags: list[str], code: int, words: str) -> None:
    done = gradwire("serve", "--check", *flags)
    assert (done.returncode, done.stdout) == (code, "")
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_either_name_of_the_option_for_tokens_is_understood(tmp_path: Path) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_text("a-token-of-the-tests\n")
    with ServerProcess(flags=(f"--token-file={tokens}",)) as server:
        assert "needs a token" in gradwire("info", server.address).stderr
        for option in ("--token-file", "--tokens-file"):
            assert "max_nodes" in gradwire("info", server.address, f"{option}={tokens}").stdout
            assert "max_nodes" in gradwire("info", server.address, option, str(tokens)).stdout
    # In the environment each has its own, since a server and its probes share that.
    done = gradwire("serve", "--check", GRADWIRE_TOKEN_FILE=str(tokens))
    assert '"closest": "GRADWIRE_TOKENS_FILE"' in done.stderr


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("how", ["flag", "file", "host"])
def test_the_check_of_a_container_finds_the_pages_wherever_they_are(tmp_path: Path, workers: int, how: str) -> None:
    config = tmp_path / "gradwire.toml"
    config.write_text("metrics_port = 0\nannounce = 60\n")
    flags = {"flag": "--announce=60", "file": f"--config={config}", "host": "--metrics-host=0.0.0.0"}[how]
    with ServerProcess(flags=(flags, f"--workers={workers}")) as server:
        check = [sys.executable, "-m", "gradwire_server.healthcheck", str(server.process.pid)]
        assert subprocess.run(check, check=False).returncode == 0
        if how != "host":
            server.process.terminate()
            while subprocess.run(check, capture_output=True, check=False).returncode == 0:
                pass
            done = subprocess.run(check, capture_output=True, text=True, check=False)
            assert (done.returncode, done.stderr) == (1, "not ready: 503\n")
            server.process.kill()
            server.wait()


def test_the_check_of_a_container_finds_a_server_below_an_init_process() -> None:
    with beginning(line='"$@" & wait') as init:
        assert init.stdout is not None
        check = [sys.executable, "-m", "gradwire_server.healthcheck", str(init.pid)]
        assert "gradwire serving on" in init.stdout.readline()
        assert subprocess.run(check, check=False).returncode == 0
        for child in psutil.Process(init.pid).children():
            child.terminate()
        init.communicate(timeout=DEADLINE)


def test_the_check_of_a_container_without_a_server_fails() -> None:
    with subprocess.Popen(["/bin/sleep", "60"]) as process:
        check = [sys.executable, "-m", "gradwire_server.healthcheck", str(process.pid)]
        done = subprocess.run(check, capture_output=True, text=True, check=False)
        process.kill()
    assert (done.returncode, done.stderr) == (1, "no page of a server answers\n")
