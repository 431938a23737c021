"""The distributions, as a release has them: each wheel is built from its sdist, and installed where nothing else is."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tarfile
import tomllib
import venv
from collections.abc import Iterator
from dataclasses import dataclass
from email.message import Message
from email.parser import Parser
from pathlib import Path
from zipfile import ZipFile

import pytest

from tests.integration.server_process import ServerProcess
from tools.hash_requirements import HASHED, requirements

ROOT = Path(__file__).parents[2]
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
FOLDERS = {
    "gradwire": ROOT,
    "gradwire_imports": ROOT / "imports",
    "gradwire_pictures": ROOT / "pictures",
    "gradwire_server": ROOT / "server",
}
PACKAGES = {name: (folder / "client" if folder == ROOT else folder) / name for name, folder in FOLDERS.items()}

# The first test builds both, and installs packages.
pytestmark = pytest.mark.timeout(300)


@dataclass(frozen=True)
class Distribution:
    """A distribution that was built."""

    sdist: Path
    wheel: Path

    @property
    def files(self) -> set[str]:
        """Files in the wheel."""
        with ZipFile(self.wheel) as archive:
            return set(archive.namelist())

    @property
    def metadata(self) -> Message:
        """Its name, its version, and what it needs."""
        [path] = [name for name in self.files if name.endswith(".dist-info/METADATA")]
        with ZipFile(self.wheel) as archive:
            return Parser().parsestr(archive.read(path).decode())


def run(*command: str | Path, folder: Path = ROOT) -> str:
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, check=False)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


def build(target: str, folder: Path, output: Path) -> Path:
    run(sys.executable, "-m", "hatchling", "build", f"--target={target}", f"--directory={output}", folder=folder)
    [built] = output.glob("*.whl" if target == "wheel" else "*.tar.gz")
    return built


@pytest.fixture(scope="module")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Distribution]:
    found = {}
    for name, folder in FOLDERS.items():
        output = tmp_path_factory.mktemp(name)
        sdist = build("sdist", folder, output)
        with tarfile.open(sdist) as archive:
            archive.extractall(output, filter="data")
        found[name] = Distribution(sdist, build("wheel", output / sdist.name.removesuffix(".tar.gz"), output))
    return found


def install(python: Path, requirement: str, distributions: dict[str, Distribution]) -> None:
    links = [f"--find-links={found.wheel.parent}" for found in distributions.values()]
    pip = (sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--only-binary=:all:", "--no-compile")
    run(*pip, "--constraint=constraints.txt", *links, f"{requirement}=={VERSION}")


@pytest.mark.parametrize(("name", "folder"), PACKAGES.items())
def test_a_wheel_has_its_package_whole_and_alone(
    name: str, folder: Path, distributions: dict[str, Distribution]
) -> None:
    tracked = run("git", "ls-files", "--cached", "--others", "--exclude-standard", folder).split()
    expected = {str((ROOT / path).relative_to(folder.parent)) for path in tracked if (ROOT / path).exists()}
    files = distributions[name].files
    assert {path for path in files if ".dist-info/" not in path and ".data/" not in path} == expected
    assert f"{name}-{VERSION}.dist-info/licenses/LICENSE" in files


def test_the_manual_page_comes_with_the_command(distributions: dict[str, Distribution]) -> None:
    page = f"gradwire_server-{VERSION}.data/data/share/man/man1/gradwire.1"
    assert page in distributions["gradwire_server"].files


def test_the_client_is_small(distributions: dict[str, Distribution]) -> None:
    assert distributions["gradwire"].wheel.stat().st_size < 200_000


def test_what_is_of_others_comes_with_its_licence(distributions: dict[str, Distribution]) -> None:
    files = distributions["gradwire_pictures"].files
    page = "gradwire_pictures/page"
    assert {f"{page}/page.html", f"{page}/dagre.js", f"{page}/stix-two-text.woff2"} <= files
    licences = f"gradwire_pictures-{VERSION}.dist-info/licenses/{page}"
    assert {f"{licences}/dagre.LICENSE", f"{licences}/stix-two-text.LICENSE"} <= files


def test_all_have_one_version_and_ask_for_their_own(distributions: dict[str, Distribution]) -> None:
    metadata = {name: found.metadata for name, found in distributions.items()}
    assert {found["Version"] for found in metadata.values()} == {VERSION}
    needed = {name: found.get_all("Requires-Dist", []) for name, found in metadata.items()}
    assert needed["gradwire_imports"] == needed["gradwire_pictures"] == [f"gradwire=={VERSION}"]
    assert {f"gradwire=={VERSION}", f"gradwire-pictures=={VERSION}"} <= set(needed["gradwire_server"])
    extras = [each.replace("'", '"') for each in needed["gradwire"]]
    assert {'gradwire-server; extra == "server"', 'gradwire-pictures; extra == "pictures"'} <= set(extras)
    assert {re.split(r"[<>=!;\[ ]", each)[0] for each in needed["gradwire"] if "extra ==" not in each} == {
        *("googleapis-common-protos", "grpcio", "grpcio-status", "numpy", "optree", "protobuf"),
    }


def test_what_is_deployed_names_the_version() -> None:
    assert f'org.opencontainers.image.version="{VERSION}"' in (ROOT / "deploy" / "Dockerfile").read_text()
    production = ROOT / "deploy" / "kubernetes" / "overlays" / "production" / "kustomization.yaml"
    assert f"newTag: {VERSION}\n" in production.read_text()


@pytest.mark.parametrize("folder", ["imports", "server", "pictures"])
def test_what_each_sdist_needs_is_the_same_in_each(folder: str) -> None:
    assert (ROOT / folder / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()
    hook = "hatch_build.py"
    assert (ROOT / folder / hook).read_bytes() == (ROOT / "server" / hook).read_bytes()


TRAINING = """
import sys
import numpy as np
import gradwire as gw

phi, y = np.array([[1.0, 2.0], [3.0, -1.0], [-2.0, 0.5]]), np.array([1.0, -1.0, 1.0])
w = gw.parameter("w", shape=(2,))
margin = gw.dot(w, gw.input("phi", shape=(2,), per_example=True)) * gw.input("y", per_example=True)
weights, losses = np.zeros(2), []
with gw.connect(sys.argv[1]) as client:
    hinge = client.value_and_grad(gw.maximum(0, 1 - margin))
    for _ in range(3):
        value, gradients = hinge(w=weights, phi=phi, y=y)
        losses.append(float(value))
        weights -= 0.5 * gradients["w"]
print(losses)
try:
    gw.connect("local")
except gw.UsageError as error:
    print(error)
try:
    import gradwire.ray
except ModuleNotFoundError as error:
    print(error)
"""


def test_the_client_alone_trains_against_a_server_and_its_extra_brings_that(
    tmp_path: Path, distributions: dict[str, Distribution]
) -> None:
    venv.create(tmp_path)
    python = tmp_path / "bin" / "python"
    install(python, "gradwire", distributions)
    with ServerProcess() as server:
        losses, local, ray = run(python, "-c", TRAINING, server.address).splitlines()
    # By hand: after a step against [4, -3.5] / 3 only the first example is left, with half of its loss; then none is.
    assert json.loads(losses) == pytest.approx([1, 1 / 6, 0])
    assert local == "connect(\"local\") needs gradwire_server: pip install 'gradwire[server]'"
    assert ray == "there is no gradwire_server: pip install 'gradwire[ray]'"

    install(python, "gradwire[server]", distributions)
    command = python.parent / "gradwire"
    assert run(command, "--version") == f"gradwire {VERSION}\n"
    assert run(command, "serve", "--check", "--port=0", "--metrics-port=0") == "these options are fine\n"
    (tmp_path / "graph.json").write_text('{"nodes": [{"name": "w", "parameter": {}}]}')
    run(command, "explain", tmp_path / "graph.json", f"-o={tmp_path / 'page.html'}")
    assert '"name":"w"' in (tmp_path / "page.html").read_text()


def pins(file: Path) -> Iterator[tuple[str, str]]:
    for name, version in re.findall(r"^([\w.-]+)==(\S+)", file.read_text(), re.MULTILINE):
        yield re.sub(r"[-_.]+", "-", name).lower(), version


@pytest.mark.parametrize("name", ["server.txt", "build.txt"])
def test_what_the_image_installs_is_hashed_in_the_versions_of_the_constraints(name: str) -> None:
    hashed = dict(pins(HASHED / name))
    assert hashed.items() <= dict(pins(ROOT / "constraints.txt")).items()
    needed = {re.split(r"[<>=!;\[ ]", each)[0].lower() for each in requirements()[name]}
    assert needed <= hashed.keys()
    text = (HASHED / name).read_text()
    assert len(re.findall(r"==\S+(?: ;[^\n]*)? \\\n    --hash=sha256:[0-9a-f]{64}", text)) == len(hashed)
    assert "//" not in text
