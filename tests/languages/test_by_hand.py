"""Requests that a person types: the commands of the page for other languages, run as they stand there."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.server_process import DEADLINE, ServerProcess
from tests.languages.programs import ROOT

PAGE = (ROOT / "docs" / "other-languages.md").read_text()
EXAMPLES: list[tuple[str, str]] = re.findall(r"```console\n\$ ((?:.*\\\n)*.*)\n((?:.*\n)*?)```", PAGE)
"""Commands of the page, and what it says they print."""

CHANGES = re.compile(r'"computeTime": "[^"]*"')
"""What no two answers have in common."""


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    with ServerProcess() as process:
        yield process


@pytest.mark.parametrize(
    ("command", "printed"),
    [
        pytest.param(command, printed, id=command, marks=pytest.mark.languages if "grpcurl" in command else ())
        for command, printed in EXAMPLES
    ],
)
def test_a_command_of_the_page_prints_what_it_says(server: ServerProcess, command: str, printed: str) -> None:
    line = command.replace("localhost:50051", server.address)
    done = subprocess.run(
        ["/bin/sh", "-c", line],
        cwd=ROOT,
        env={"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "HOME": "/nonexistent"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    assert CHANGES.sub("", done.stdout) == CHANGES.sub("", printed)


def test_the_page_shows_both_tools() -> None:
    assert {command.split()[0] for command, _ in EXAMPLES} == {"buf", "grpcurl"}
