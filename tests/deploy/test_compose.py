"""The compose file: what a schema can say, and that its parts fit together."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import yaml

from gradwire_server.service.supervisor import MARGIN

DEPLOY = Path(__file__).parents[2] / "deploy"
FILE = DEPLOY / "compose.yaml"
SERVICES = yaml.safe_load(FILE.read_text())["services"]


def test_it_is_a_compose_file() -> None:
    command = [
        str(Path(sys.executable).parent / "check-jsonschema"),
        *("--builtin-schema", "vendor.compose-spec", str(FILE)),
    ]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_every_file_that_it_mounts_is_there() -> None:
    mounts = [mount.split(":") for service in SERVICES.values() for mount in service.get("volumes", [])]
    files = [DEPLOY / source for source, *_ in mounts if source.startswith(".")]
    assert len(files) == 4
    assert [file for file in files if not file.exists()] == []


def test_the_image_is_built_of_the_dockerfile() -> None:
    build = SERVICES["server"]["build"]
    assert (DEPLOY / build["context"] / build["dockerfile"]).samefile(DEPLOY / "Dockerfile")


def test_prometheus_finds_the_server_and_grafana_finds_prometheus() -> None:
    config = yaml.safe_load((DEPLOY / "prometheus/prometheus.yaml").read_text())
    assert config["scrape_configs"][0]["static_configs"] == [{"targets": ["server:9464"]}]
    [source] = yaml.safe_load((DEPLOY / "grafana/provisioning/datasources/prometheus.yaml").read_text())["datasources"]
    assert source["url"] == "http://prometheus:9090"
    assert {"server", "prometheus", "grafana"} == SERVICES.keys()


def test_only_this_machine_reaches_it() -> None:
    ports = [port for service in SERVICES.values() for port in service["ports"]]
    assert [port for port in ports if not port.startswith("127.0.0.1:")] == []


def test_the_server_has_its_grace_before_it_is_killed() -> None:
    server = SERVICES["server"]
    assert int(server["stop_grace_period"].removesuffix("s")) > server["environment"]["GRADWIRE_GRACE"] + MARGIN
