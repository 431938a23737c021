"""The site, built once for all processes that test it."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """The folder of the pages; links, anchors, blocks of live pages and cells of notebooks are checked on the way."""
    base = tmp_path_factory.getbasetemp()
    into = (base if worker_id == "master" else base.parent) / "documentation"
    into.mkdir(exist_ok=True)
    with (into / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (into / "log").exists():
            done = subprocess.run(
                [sys.executable, "-m", "tools.site", "build", into],
                env={name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")},  # too slow
                capture_output=True,
                text=True,
                check=False,
            )
            (into / "log").write_text(f"{done.returncode}\n{done.stdout}{done.stderr}")
    status, _, said = (into / "log").read_text().partition("\n")
    assert status == "0", said
    return into / "site"
