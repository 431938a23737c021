"""The compose file, as compose reads it, and that its parts fit together."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from gradwire_server.configuration.settings import PREFIX, Settings
from gradwire_server.service.process.supervisor import MARGIN

DEPLOY = Path(__file__).parents[2] / "deploy"


@cache
def services() -> dict[str, Any]:
    """With all that compose fills in."""
    command = [
        str(Path(sys.executable).parent / "docker-compose"),
        *("--file", str(DEPLOY / "compose.yaml"), "config", "--format=json"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    found: dict[str, Any] = json.loads(done.stdout)["services"]
    return found


def test_every_file_that_it_mounts_is_there() -> None:
    mounts = [mount for service in services().values() for mount in service.get("volumes", [])]
    files = [Path(mount["source"]) for mount in mounts if mount["type"] == "bind"]
    assert len(files) == 4
    assert [file for file in files if not file.exists()] == []


def test_the_image_is_built_of_the_dockerfile() -> None:
    build = services()["server"]["build"]
    assert (Path(build["context"]) / build["dockerfile"]).samefile(DEPLOY / "Dockerfile")


def test_prometheus_finds_the_server_and_grafana_finds_prometheus() -> None:
    config = yaml.safe_load((DEPLOY / "prometheus/prometheus.yaml").read_text())
    assert config["scrape_configs"][0]["static_configs"] == [{"targets": ["server:9464"]}]
    [source] = yaml.safe_load((DEPLOY / "grafana/provisioning/datasources/prometheus.yaml").read_text())["datasources"]
    assert source["url"] == "http://prometheus:9090"
    assert services().keys() == {"server", "prometheus", "grafana"}


def test_only_this_machine_reaches_it() -> None:
    ports = [port for service in services().values() for port in service["ports"]]
    assert {port["target"]: port["host_ip"] for port in ports} == dict.fromkeys((50051, 9090, 3000), "127.0.0.1")


def test_the_server_has_its_grace_before_it_is_killed() -> None:
    server = services()["server"]
    assert (
        float(server["stop_grace_period"].removesuffix("s")) > float(server["environment"]["GRADWIRE_GRACE"]) + MARGIN
    )


def test_what_it_sets_are_settings() -> None:
    names = {name.removeprefix(PREFIX).lower() for name in services()["server"]["environment"]}
    assert names <= Settings.model_fields.keys()
