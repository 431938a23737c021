"""Generates the Python stubs of the contract: ``python -m tools.generate_stubs client``."""

from __future__ import annotations

import sys
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).parent.parent
PROTOS = ROOT / "protos"


def generate(out: Path) -> None:
    """Writes the stubs of every file in ``protos/`` below ``out``; stubs that are there already go first.

    Raises:
        RuntimeError: protoc found an error, and has written it to stderr.
    """
    for stale in out.rglob("*_pb2*.py*"):
        stale.unlink()
    files = sorted(PROTOS.rglob("*.proto"))
    services = [file for file in files if file.stem.endswith("_service")]
    _protoc(f"--python_out={out}", f"--pyi_out={out}", *map(str, files))
    _protoc(f"--grpc_python_out={out}", *map(str, services))


def _protoc(*arguments: str) -> None:
    # grpc_tools brings google/protobuf/*.proto along, beside its own module.
    well_known = Path(protoc.__file__).parent / "_proto"
    if protoc.main(["protoc", f"-I{PROTOS}", f"-I{well_known}", *arguments]) != 0:
        raise RuntimeError("protoc failed")


if __name__ == "__main__":
    generate(ROOT / sys.argv[1])
