"""A Docker engine, by its command."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from shutil import which
from typing import Any
from uuid import uuid4


def docker(*arguments: str) -> str:
    """What the command writes.

    Raises:
        AssertionError: It fails, or there is none.
    """
    command = which("docker")
    assert command, "there is no Docker here; `make test-container` brings it"
    return _written(command, *arguments)


@dataclass(frozen=True)
class Project:
    """What compose makes of files."""

    name: str
    files: tuple[Path, ...]

    def compose(self, *arguments: str) -> str:
        """What the command writes.

        Raises:
            AssertionError: It fails.
        """
        command = str(Path(sys.executable).parent / "docker-compose")
        return _written(command, f"--project-name={self.name}", *(f"--file={file}" for file in self.files), *arguments)


def _written(*command: str) -> str:
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stdout}"
    return done.stdout.strip()


@dataclass(frozen=True)
class Container:
    """A container that runs, or ran."""

    name: str

    def inspect(self) -> dict[str, Any]:
        """All that the engine knows of it."""
        found: dict[str, Any] = json.loads(docker("inspect", "--format={{json .}}", self.name))
        return found

    @property
    def health(self) -> str:
        """What its health check said last."""
        status: str = self.inspect()["State"]["Health"]["Status"]
        return status

    def address(self, port: int) -> str:
        """Where this machine reaches a port of it."""
        return docker("port", self.name, str(port)).splitlines()[0]

    @property
    def log(self) -> str:
        """What it wrote, to stdout and stderr."""
        return docker("logs", self.name)


@contextmanager
def running(image: str, *options: str, network: str) -> Iterator[Container]:
    """A container of the image, removed with the block."""
    container = Container(f"gradwire-test-{uuid4().hex}")
    docker("run", "--detach", f"--name={container.name}", f"--network={network}", *options, image)
    try:
        yield container
    finally:
        docker("rm", "--force", container.name)


@contextmanager
def project(*files: Path) -> Iterator[Project]:
    """A project of its own name, taken down with the block."""
    found = Project(f"gradwire-test-{uuid4().hex}", files)
    try:
        yield found
    finally:
        found.compose("down", "--volumes")
