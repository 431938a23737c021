"""Programs in other languages train to the same bits as one in Python, and say what the service says."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from socket import socket

import numpy as np
import pytest

from demo import export, problem
from tests.integration.server_process import DEADLINE, ServerProcess
from tests.languages.programs import LANGUAGES, ROOT, Command, python

pytestmark = [
    pytest.mark.languages,
    pytest.mark.timeout(300),  # compilers take long on a busy machine
]


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    with ServerProcess() as process:
        yield process


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server for those who have a token."""
    tokens = tmp_path_factory.mktemp("tokens") / "tokens"
    tokens.write_text("secret\n")
    with ServerProcess(flags=(f"--tokens-file={tokens}",)) as process:
        yield process


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("data") / "breast-cancer.csv"
    export.main(file)
    return file


@pytest.fixture(scope="module", params=LANGUAGES)
def program(request: pytest.FixtureRequest) -> Command:
    return LANGUAGES[request.param]()


def run(program: Command, address: str, file: Path) -> subprocess.CompletedProcess[str]:
    command = [*program, address, file]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=DEADLINE, check=False)


def trained(program: Command, server: ServerProcess, file: Path) -> tuple[float, list[float]]:
    """The loss at the end, and the parameters."""
    done = run(program, server.address, file)
    assert (done.returncode, done.stderr) == (0, "")
    printed = dict(line.split(" ", 1) for line in done.stdout.splitlines())
    return float(printed["loss"]), [float(number) for number in printed["w"].strip("[]").split()]


@pytest.fixture(scope="module")
def expected(server: ServerProcess, data: Path) -> tuple[float, list[float]]:
    """What Python ends at, which is a loss as small as it should be."""
    loss, w = trained(python(), server, data)
    train, held_out = problem.load()
    assert np.isclose(loss, np.maximum(0, 1 - train.features @ w * train.labels).mean(), rtol=1e-12)
    assert loss < 0.05
    assert problem.accuracy(np.array(w), held_out) > 0.97
    return loss, w


def test_training_ends_at_the_bits_of_python(
    program: Command, server: ServerProcess, data: Path, expected: tuple[float, list[float]]
) -> None:
    loss, w = trained(program, server, data)
    assert loss.hex() == expected[0].hex()
    assert [number.hex() for number in w] == [number.hex() for number in expected[1]]


def test_an_error_on_a_stream_is_told_with_its_reason(program: Command, server: ServerProcess, tmp_path: Path) -> None:
    (tmp_path / "nan.csv").write_text("1.0,1.0,1.0\nnan,1.0,-1.0\n")
    done = run(program, server.address, tmp_path / "nan.csv")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.endswith(': node "phi" has the value nan at position (0,) of example 1 (NON_FINITE)\n')


def test_an_error_of_a_call_is_told_with_its_reason(program: Command, guarded: ServerProcess, data: Path) -> None:
    done = run(program, guarded.address, data)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.endswith(" (UNAUTHENTICATED)\n")


def test_no_server_is_told(program: Command, data: Path) -> None:
    with socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # and does not listen
        host, port = nobody.getsockname()
        done = run(program, f"{host}:{port}", data)
    assert (done.returncode, done.stdout) == (1, "")
    assert "unavailable" in done.stderr.lower()
