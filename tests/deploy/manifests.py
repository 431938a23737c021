"""The manifests, as kubectl builds them."""

from __future__ import annotations

import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

KUBERNETES = Path(__file__).parents[2] / "deploy" / "kubernetes"
KUBECTL = str(Path(sys.executable).parent / "kubectl")

Resource = dict[str, Any]


def kustomize(folder: Path) -> list[Resource]:
    """What kubectl would apply."""
    done = subprocess.run([KUBECTL, "kustomize", str(folder)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return list(yaml.safe_load_all(done.stdout))


@cache
def base() -> list[Resource]:
    """The base."""
    return kustomize(KUBERNETES / "base")


@cache
def production(component: str | None = None) -> list[Resource]:
    """The production overlay, with one of the components that its kustomization has as comments."""
    with TemporaryDirectory() as folder:
        copy = shutil.copytree(KUBERNETES, Path(folder) / "kubernetes")
        file = copy / "overlays" / "production" / "kustomization.yaml"
        if component is not None:
            line = f"  - ../../components/{component}\n"
            text = file.read_text()
            assert text.count(line.replace("- ", "# - ")) == 1
            file.write_text(text.replace(line.replace("- ", "# - "), line))
        return kustomize(file.parent)


def the(resources: list[Resource], kind: str, name: str = "gradwire") -> Resource:
    """The resource of this kind and name."""
    [found] = [each for each in resources if (each["kind"], each["metadata"]["name"]) == (kind, name)]
    return found
