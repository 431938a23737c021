"""The examples in other languages, and the program in Python to compare them with: how they are built and run."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
BUILDS = ROOT / ".cache" / "languages"
SITE_PACKAGES = Path(sys.prefix) / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
"""Where googleapis-common-protos has put ``google/rpc/error_details.proto``."""

Command = list[str | Path]


def python() -> Command:
    """The trainer that uses the SDK."""
    return [sys.executable, "-m", "tests.languages.trainer"]


def node() -> Command:
    """JavaScript with grpc-js, on the versions of its lock file."""
    folder = EXAMPLES / "node"
    _run("npm", "ci", "--silent", "--no-audit", "--no-fund", folder=folder)
    return ["node", folder / "train.js"]


def go() -> Command:
    """Go with the libraries of Debian, which are in a workspace of the kind that was before modules."""
    folder = BUILDS / "go" / "src" / "example.com" / "train"
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(EXAMPLES / "go" / "train.go", folder)
    _run(Path(sys.executable).parent / "buf", "generate", "--output", folder, folder=EXAMPLES / "go")
    libraries = {"GO111MODULE": "off", "GOPATH": f"{BUILDS / 'go'}:/usr/share/gocode"}
    _run("go", "build", "-o", BUILDS / "go" / "train", folder=folder, environment=libraries)
    return [BUILDS / "go" / "train"]


def cpp() -> Command:
    """C++ with the libraries that CMake finds."""
    folder = BUILDS / "cpp"
    _run("cmake", "-S", EXAMPLES / "cpp", "-B", folder, f"-DGOOGLEAPIS={SITE_PACKAGES}", folder=ROOT)
    _run("cmake", "--build", folder, "--parallel", folder=ROOT)
    return [folder / "train"]


LANGUAGES: dict[str, Callable[[], Command]] = {"cpp": cpp, "go": go, "node": node}


def _run(*command: str | Path, folder: Path, environment: dict[str, str] | None = None) -> None:
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, **(environment or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{command}: {done.stdout}"
