"""Alerts and dashboard, with the real Prometheus on a real server."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from threading import Event
from time import perf_counter
from typing import Any

import grpc
import numpy as np
import pytest
import yaml
from grpc_health.v1 import health_pb2, health_pb2_grpc
from prometheus_client.parser import text_string_to_metric_families

import gradwire as gw
from tests.deploy.prometheus_process import Prometheus, prometheus
from tests.integration.raw import Refused, channel, send
from tests.integration.server_process import ServerProcess
from tests.integration.test_workers import workers_of
from tests.integration.waiting import eventually
from tests.losses import hinge, perceptron

DEPLOY = Path(__file__).parents[2] / "deploy"
ALERTS = DEPLOY / "prometheus" / "alerts.yaml"
ALERTS_TEST = DEPLOY / "prometheus" / "alerts_test.yaml"
CONFIG = DEPLOY / "prometheus" / "prometheus.yaml"
GRAFANA = DEPLOY / "grafana"
DASHBOARD = json.loads((GRAFANA / "dashboards" / "gradwire.json").read_text())

QUERIES = {
    f"{panel['title']} {target['refId']}": target["expr"]
    for panel in DASHBOARD["panels"]
    for target in panel.get("targets", [])
}
CALLS = 20
"""That may be open at a time."""

STORED = 1_000_000
"""Bytes of examples that each worker keeps, for one set of ``traffic``."""

RULES = {rule["alert"]: rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]}


@pytest.mark.parametrize(
    "arguments", [("check", "rules", ALERTS), ("check", "config", CONFIG), ("test", "rules", ALERTS_TEST)]
)
def test_promtool_finds_nothing_wrong(arguments: tuple[str | Path, ...]) -> None:
    command = [Path(sys.executable).parent / "promtool", *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_of_each_alert_it_is_shown_when_it_fires_and_when_it_does_not() -> None:
    shown = {
        (case["alertname"], bool(case["exp_alerts"]))
        for test in yaml.safe_load(ALERTS_TEST.read_text())["tests"]
        for case in test["alert_rule_test"]
    }
    assert shown == {(name, fires) for name in RULES for fires in (False, True)}


def test_each_alert_tells_a_person_what_is_wrong_and_what_to_do() -> None:
    for rule in RULES.values():
        assert rule["labels"]["severity"] in {"critical", "warning", "info"}
        assert rule["annotations"].keys() == {"summary", "description"}


def test_the_dashboard_asks_the_source_that_is_provisioned() -> None:
    [source] = yaml.safe_load((GRAFANA / "provisioning/datasources/prometheus.yaml").read_text())["datasources"]
    variables = {variable["name"]: variable for variable in DASHBOARD["templating"]["list"]}
    assert variables["datasource"]["query"] == source["type"]
    asked = [
        target["datasource"]
        for panel in DASHBOARD["panels"]
        for target in (panel, *panel.get("targets", []))
        if panel["type"] != "row"
    ]
    assert asked
    assert all(found == {"type": source["type"], "uid": "${datasource}"} for found in asked)


def test_panels_lie_side_by_side() -> None:
    places = [
        (x, y)
        for panel in DASHBOARD["panels"]
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(set(places)) == len(places)
    assert {x for x, _ in places} == set(range(24))
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])


def test_a_legend_names_all_by_which_its_query_tells_series_apart() -> None:
    for panel in DASHBOARD["panels"]:
        for target in panel.get("targets", []):
            told_apart = {
                label for labels in re.findall(r"by \(([^)]*)\)", target["expr"]) for label in labels.split(", ")
            }
            named = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
            assert named == told_apart - {"le"}, panel["title"]


@asynccontextmanager
async def monitored(folder: Path) -> AsyncIterator[tuple[ServerProcess, Prometheus]]:
    """A server that Prometheus knows, with the configuration of the deployment but for its address and the interval.

    It has workers, so that it has all metrics.
    """
    config = yaml.safe_load(CONFIG.read_text())
    config["global"] = dict.fromkeys(("scrape_interval", "scrape_timeout", "evaluation_interval"), "500ms")
    config["rule_files"] = [str(ALERTS)]
    [job] = config["scrape_configs"]
    with ServerProcess(flags=("--workers=2", f"--max-calls={CALLS}", f"--max-stored-bytes={STORED}")) as server:
        job["static_configs"] = [{"targets": [f"127.0.0.1:{server.metrics_port}"]}]
        (folder / "prometheus.yaml").write_text(yaml.safe_dump(config))
        with prometheus(folder / "prometheus.yaml") as found:
            await eventually(lambda: found.values('up{job="gradwire"}') == [1])
            yield server, found


@contextmanager
def traffic(server: ServerProcess) -> Iterator[None]:
    """A worker that ends, calls of every method, good and bad, and some that go on as long as the block does."""
    case, large = hinge(), perceptron(500_000)
    stop = Event()
    workers_of(server)[0].kill()
    with gw.connect(server.address) as client, ThreadPoolExecutor(1) as pool:
        client.info()
        client.trace(case.loss, case.arrays | {"phi": case.arrays["phi"][0], "y": case.arrays["y"][0]})
        client.check(case.loss, case.arrays)
        with client.stream(case.loss) as stream:
            stream.submit(**case.arrays).result()
        value_and_grad = client.value_and_grad(case.loss)
        value_and_grad(**case.arrays)
        client.value_and_grad(gw.log(gw.parameter("w")))(w=0.0)
        for sign in (1, -1):
            # The second set takes the place of the first.
            value_and_grad(
                w=case.arrays["w"], examples=client.examples(phi=sign * np.ones((20_000, 3)), y=np.ones(20_000))
            )
        with pytest.raises(gw.InvalidRequestError):
            value_and_grad(**case.arrays | {"w": [1.0]})
        with channel(server.address) as opened:
            send(opened, "Absent", b"")
            health: Any = health_pb2_grpc.HealthStub(opened)
            watches = [health.Watch(health_pb2.HealthCheckRequest()) for _ in range(CALLS)]
            assert all(next(watch).status == health_pb2.HealthCheckResponse.SERVING for watch in watches)
            refused = send(opened, "GetServerInfo", b"")
            assert isinstance(refused, Refused)
            assert refused.code is grpc.StatusCode.RESOURCE_EXHAUSTED

        def go_on() -> None:
            busy = client.value_and_grad(large.loss)
            while not stop.is_set():
                start = perf_counter()
                busy(**large.arrays)
                # In its midst, however busy the machine is.
                with suppress(gw.DeadlineExceededError):
                    busy(**large.arrays, timeout=(perf_counter() - start) / 2)

        going = pool.submit(go_on)
        try:
            yield
        finally:
            stop.set()
        going.result()


async def test_every_panel_shows_what_happens(tmp_path: Path) -> None:
    async with monitored(tmp_path) as (server, found):
        empty = {
            title: expr.replace("$__rate_interval", "1m").replace("$instance", ".*") for title, expr in QUERIES.items()
        }

        def nothing_is_empty() -> bool:
            for title, expr in list(empty.items()):
                if any(value > 0 for value in found.values(expr)):
                    del empty[title]
            return not empty

        with traffic(server), suppress(AssertionError):
            await eventually(nothing_is_empty)
        assert empty == {}


SELECTOR = re.compile(r"\b(?:up|(?:grpc|gradwire|process)_\w+)\{[^}]*\}")


async def test_an_idle_server_has_every_series_that_is_asked_for_and_no_other_and_alerts_nobody(tmp_path: Path) -> None:
    asked = {
        selector.replace("$instance", ".*")
        for expr in [*QUERIES.values(), *(rule["expr"] for rule in RULES.values())]
        for selector in SELECTOR.findall(expr)
    }
    assert len(asked) > 20

    def states(found: Prometheus) -> dict[str, tuple[str, str]]:
        [group] = found.get("rules")["groups"]
        return {rule["name"]: (rule["health"], rule["state"]) for rule in group["rules"]}

    async with monitored(tmp_path) as (server, found):
        drawn = {re.sub(r"_(bucket|sum|count)$", "", name) for name in re.findall(r"gradwire_\w+", str(QUERIES))}
        metrics = {family.name for family in text_string_to_metric_families(server.metrics())}
        assert {
            name for name in metrics if name.startswith("gradwire_") and not {name, f"{name}_total"} & drawn
        } == set()
        assert {selector for selector in asked if not found.get("series", **{"match[]": selector})} == set()
        await eventually(lambda: states(found) == dict.fromkeys(RULES, ("ok", "inactive")))
