"""The image, built and run by a real engine; `make test-container` brings one."""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import ProxyHandler, build_opener
from uuid import uuid4

import pytest
import trustme

import gradwire as gw
from tests.container.engine import Container, docker, project, running
from tests.integration.server_process import DEADLINE
from tests.integration.waiting import eventually
from tests.losses import hinge
from tests.pem import authority_file, pair

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

HARDENED = ("--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges", "--health-interval=1s")
TRUSTED = "--env=GRADWIRE_INSECURE=true"
"""The network is ours alone: it may be plaintext."""

# The first test builds the image.
pytestmark = [pytest.mark.container, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def image() -> str:
    tag = "gradwire:test"
    arguments = [f"--build-arg={name}" for name in ("BASE", "PIP_CERT", "PIP_INDEX_URL", "PIP_TRUSTED_HOST")]
    docker("build", "--network=host", f"--file={ROOT / 'deploy/Dockerfile'}", f"--tag={tag}", *arguments, str(ROOT))
    return tag


@pytest.fixture(scope="module")
def network() -> Iterator[str]:
    name = f"gradwire-test-{uuid4().hex}"
    docker("network", "create", name)
    yield name
    docker("network", "rm", name)


@pytest.fixture
def container(image: str, network: str) -> Iterator[Container]:
    ports = ("--publish=127.0.0.1::50051", "--publish=127.0.0.1::9464")
    with running(image, *HARDENED, TRUSTED, *ports, network=network) as started:
        yield started


def inside(image: str, script: str) -> str:
    return docker("run", "--rm", "--network=none", "--entrypoint=sh", image, "-c", script)


async def test_it_serves_hardened_and_ends_well(container: Container) -> None:
    await eventually(lambda: container.health == "healthy")
    case = hinge(examples=1000)
    with gw.connect(container.address(50051)) as client, gw.connect("local") as local:
        value, gradients = client.value_and_grad(case.loss)(**case.arrays)
        expected, expected_gradients = local.value_and_grad(case.loss)(**case.arrays)
    assert value == pytest.approx(expected, rel=1e-12)
    assert gradients["w"] == pytest.approx(expected_gradients["w"], rel=1e-12)
    with build_opener(ProxyHandler({})).open(f"http://{container.address(9464)}/metrics", timeout=DEADLINE) as page:
        assert "gradwire_examples_processed_total 1000.0" in page.read().decode()
    docker("stop", container.name)
    state = container.inspect()["State"]
    assert (state["ExitCode"], state["OOMKilled"]) == (0, False)
    assert '"event": "stopped"' in container.log
    # Nothing is left to compile, which would take a minute.
    assert "compiling kernels" not in container.log


async def test_any_user_may_run_it(image: str, network: str) -> None:
    with running(image, *HARDENED, TRUSTED, "--user=54321:54321", network=network) as container:
        await eventually(lambda: container.health == "healthy")
        assert "compiling kernels" not in container.log


async def test_several_workers_need_nothing_to_write_either(image: str, network: str) -> None:
    with running(image, *HARDENED, TRUSTED, "--env=GRADWIRE_WORKERS=2", network=network) as container:
        await eventually(lambda: container.health == "healthy")
        assert "compiling kernels" not in container.log
        docker("stop", container.name)
        assert container.inspect()["State"]["ExitCode"] == 0


async def test_it_is_healthy_over_mutual_tls_too(image: str, network: str, tmp_path: Path) -> None:
    authority = trustme.CA()
    pair(tmp_path / "server", authority)
    ca = authority_file(tmp_path / "server" / "ca.crt", authority)
    own = pair(tmp_path / "client", authority, "worker")
    files = {"TLS_CERT": "tls.crt", "TLS_KEY": "tls.key", "TLS_CLIENT_CA": "ca.crt"}
    options = [f"--env=GRADWIRE_{name}=/tls/{file}" for name, file in files.items()]
    mount = f"--volume={tmp_path / 'server'}:/tls:ro"
    with running(image, *HARDENED, *options, mount, "--publish=127.0.0.1::50051", network=network) as container:
        await eventually(lambda: container.health == "healthy")
        access: Any = {"tls": True, "ca": ca, **own.of_client}
        with gw.connect(container.address(50051), **access) as client:
            assert client.value_and_grad(gw.exp(gw.parameter("w")))(w=0.0)[0] == 1


async def test_it_is_unhealthy_while_it_drains(image: str, network: str) -> None:
    with running(image, *HARDENED, TRUSTED, "--env=GRADWIRE_ANNOUNCE=60", network=network) as container:
        await eventually(lambda: container.health == "healthy")
        docker("kill", "--signal=TERM", container.name)
        await eventually(lambda: container.health == "unhealthy")


def test_compose_serves_this_machine_and_prometheus(image: str, tmp_path: Path) -> None:
    (tmp_path / "test.yaml").write_text(
        f"services: {{server: {{image: {image}, build: !reset null, ports: !override ['127.0.0.1::50051']}}}}"
    )
    with project(ROOT / "deploy/compose.yaml", tmp_path / "test.yaml") as started:
        started.compose("up", "--detach", "--wait", "server")
        container = Container(started.compose("ps", "--quiet", "server"))
        with gw.connect(container.address(50051)) as client:
            assert client.value_and_grad(gw.exp(gw.parameter("w")))(w=0.0)[0] == 1
        # As Prometheus does: by the name of the service, in the network of the project.
        script = "from urllib.request import urlopen; print(urlopen('http://server:9464/metrics').read().decode())"
        network = f"--network={started.name}_default"
        page = docker("run", "--rm", network, "--entrypoint=python", image, "-c", script)
        assert "gradwire_examples_processed_total 1.0" in page


def test_its_own_user_is_a_number_and_not_root(image: str) -> None:
    # A number, so that Kubernetes can see that it is not root.
    assert inside(image, "id -u") == "10001"
    assert docker("inspect", "--format={{.Config.User}}", image) == "10001:10001"


def test_nothing_in_it_builds_or_installs_packages(image: str) -> None:
    assert inside(image, "for tool in cc gcc g++ ld make git; do command -v $tool; done; true") == ""
    assert "No module named pip" in inside(image, "python -m pip 2>&1; true")


def test_its_labels_say_what_it_is(image: str) -> None:
    labels = json.loads(docker("inspect", "--format={{json .Config.Labels}}", image))
    prefix = "org.opencontainers.image"
    assert {name: labels[f"{prefix}.{name}"] for name in ("title", "version", "licenses")} == {
        "title": PROJECT["name"],
        "version": PROJECT["version"],
        "licenses": PROJECT["license"],
    }
    assert labels[f"{prefix}.base.name"] == os.environ.get("BASE", "python:3.11-slim-bookworm")


def test_its_bill_of_materials_lists_what_is_installed_in_the_pinned_versions(image: str) -> None:
    listing = "from importlib.metadata import distributions as d; print(*(f'{p.name}=={p.version}' for p in d()))"
    installed = set(map(_normalized, inside(image, f'python -c "{listing}"').split()))
    materials = json.loads(inside(image, "cat /opt/gradwire/sbom.cdx.json"))
    components = {_normalized(f"{found['name']}=={found['version']}") for found in materials["components"]}
    assert components | {f"gradwire=={PROJECT['version']}"} == installed
    pinned = {_normalized(line) for line in (ROOT / "constraints.txt").read_text().splitlines()}
    ours = ("gradwire", "gradwire-pictures", "gradwire-server")
    assert installed - pinned == {f"{name}=={PROJECT['version']}" for name in ours}


def _normalized(requirement: str) -> str:
    return re.sub(r"[-_.]+", "-", requirement.partition("==")[0]).lower() + "==" + requirement.partition("==")[2]
