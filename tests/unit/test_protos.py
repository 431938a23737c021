"""The committed stubs are those of the contract, and run with every dependency that the package allows."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import gradwire.v1
from tools.generate_stubs import ROOT, generate

STUBS = Path(gradwire.v1.__path__[0])


def test_generating_the_stubs_again_changes_nothing(tmp_path: Path) -> None:
    generate(tmp_path)
    fresh = {path.name: path.read_text() for path in (tmp_path / "gradwire/v1").iterdir()}
    committed = {path.name: path.read_text() for path in STUBS.iterdir() if path.suffix in {".py", ".pyi"}}
    # What the generator does not write.
    assert committed.pop("__init__.py").count("\n") == 1
    for written in ("elements.py", "examples.py", "frames.py"):
        assert committed.pop(written)
    assert committed == fresh, "run `make protos` and commit what it writes"


def test_buf_finds_nothing_to_say() -> None:
    buf = Path(sys.executable).with_name("buf")
    done = subprocess.run([buf, "lint"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_oldest_grpcio_and_protobuf_allowed_can_load_the_stubs() -> None:
    dependencies = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    oldest = {
        name: _version(dependency.split(">=")[1].split(",")[0])
        for dependency in dependencies
        if (name := dependency.split(">=")[0]) in {"grpcio", "protobuf"}
    }
    grpc_stub = (STUBS / "gradient_service_pb2_grpc.py").read_text()
    protobuf_stub = (STUBS / "gradient_service_pb2.py").read_text()
    assert oldest == {
        "grpcio": _version(_found(r"GRPC_GENERATED_VERSION = '(.*)'", grpc_stub)),
        "protobuf": _version(_found(r"# Protobuf Python Version: (.*)", protobuf_stub)),
    }


def _found(pattern: str, text: str) -> str:
    match = re.search(pattern, text)
    assert match is not None
    return match[1]


def _version(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split(".")))
