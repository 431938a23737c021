"""``python -m tools.hash_requirements``: what the image installs, in pinned versions, each file with its hash."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
HASHED = ROOT / "deploy" / "requirements"

HEADER = "# Written by `make hashes` from constraints.txt, for the image.\n"

OPTIONS = (
    *("--quiet", "--generate-hashes", "--allow-unsafe", "--strip-extras", "--constraint=constraints.txt"),
    # Neither where packages come from, nor why.
    *("--no-emit-index-url", "--no-emit-find-links", "--no-emit-trusted-host", "--no-annotate", "--no-header"),
)


def requirements() -> dict[str, list[str]]:
    """What the image installs besides the project, by the file that has it: to run, and to build."""
    client, server = _read(ROOT), _read(ROOT / "server")
    project = client["project"]
    return {
        "server.txt": [
            *project["dependencies"],
            *server["tool"]["hatch"]["metadata"]["hooks"]["custom"]["dependencies"],
            *(each for each in project["optional-dependencies"]["otel"] if not each.startswith("gradwire[")),
        ],
        "build.txt": [*server["build-system"]["requires"], "cyclonedx-bom"],
    }


def _read(folder: Path) -> dict[str, Any]:
    return tomllib.loads((folder / "pyproject.toml").read_text())


def main() -> None:
    """Write the files; what has not changed in them is not looked up again."""
    for name, needed in requirements().items():
        file = HASHED / name
        command = [sys.executable, "-m", "piptools", "compile", *OPTIONS, f"--output-file={file}", "-"]
        subprocess.run(command, input="\n".join(needed), text=True, cwd=ROOT, check=True)  # noqa: S603  (it is ours)
        file.write_text(HEADER + file.read_text())


if __name__ == "__main__":
    main()
