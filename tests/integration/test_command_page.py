"""The page of the command: its commands are run, and write what it says."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from tests.integration.command import run
from tests.integration.server_process import ServerProcess

PAGE = (Path(__file__).parents[2] / "docs" / "command.md").read_text()

ADDRESS, URL = "localhost:50051", "http://localhost:9464/metrics"

ROUNDING = re.compile(r"\d\.\de-\d+")
NUMBER = re.compile(r"\d[\d,.]*( (ms|µs|s|min|B|KiB|MiB|%))?")
"""What is different each time in what is measured."""


def steps() -> list[tuple[str, str]]:
    """Commands of the page, each with what it writes."""
    blocks = re.findall(r"```console\n(.*?)```", PAGE, re.DOTALL)
    return [tuple(step.split("\n", 1)) for block in blocks for step in block.split("$ ")[1:]]


def shape(text: str) -> str:
    """What was measured without its numbers: words, rows and columns."""
    return re.sub(r"[ ▇]+", " ", NUMBER.sub("N", text)).replace(" \n", "\n")


def test_the_commands_of_the_page_write_what_it_says(tmp_path: Path) -> None:
    [graph] = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)
    (tmp_path / "hinge.json").write_text(graph)
    with ServerProcess() as server:
        for command, expected in steps():
            name, *arguments = shlex.split(command)
            here = [each.replace(ADDRESS, server.address).replace(URL, server.metrics_url) for each in arguments]
            done = run(*here, folder=tmp_path)
            assert (name, done.returncode, done.stderr) == ("gradwire", 0, ""), command
            written = done.stdout.replace(server.address, ADDRESS)
            if arguments[0] in ("bench", "top"):
                assert shape(written) == shape(expected), command
            else:
                assert ROUNDING.sub("E", written) == ROUNDING.sub("E", expected), command


def test_every_command_has_its_place_on_the_page() -> None:
    [commands] = re.findall(r"^  \{([\w,]+)\}$", run("--help").stdout, re.MULTILINE)
    headings = re.findall(r"^## (.*)$", PAGE, re.MULTILINE)
    assert sorted(", ".join(headings).split(", ")) == sorted(commands.split(","))
