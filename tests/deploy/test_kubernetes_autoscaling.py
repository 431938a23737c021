"""What scales the pods: the adapter's rules and KEDA's triggers, asked of the real Prometheus about real servers."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from threading import Event
from time import time

import pytest
import yaml

import gradwire as gw
from gradwire_server.configuration.settings import Settings
from tests.deploy import manifests
from tests.deploy.manifests import KUBERNETES, Resource, the
from tests.deploy.prometheus_process import Prometheus, prometheus
from tests.integration.server_process import ServerProcess
from tests.integration.waiting import eventually
from tests.losses import Case, hinge, perceptron

IN_FLIGHT, LOOP = "gradwire_requests_in_flight", "gradwire_event_loop_cpu"
PODS = ("gradwire-0", "gradwire-1")
NAMESPACE = "gradwire"
CALLERS = 3
SCRAPES = 10
"""After which a rate is known well enough."""


def targets() -> dict[str, float]:
    """What a pod is to have of each metric, as the autoscaler says."""
    found = {}
    for metric in the(manifests.production("autoscaling"), "HorizontalPodAutoscaler")["spec"]["metrics"]:
        assert (metric["type"], metric["pods"]["target"]["type"]) == ("Pods", "AverageValue")
        value = metric["pods"]["target"]["averageValue"]
        found[metric["pods"]["metric"]["name"]] = int(value[:-1]) / 1000 if value.endswith("m") else int(value)
    return found


@dataclass(frozen=True)
class Rule:
    """A rule of the prometheus-adapter, which this reads as its documentation says."""

    rule: Resource

    @property
    def series(self) -> str:
        """The name of the series."""
        name, _, _ = self.rule["seriesQuery"].partition("{")
        return str(name)

    def is_discovered(self, found: Prometheus) -> bool:
        """Whether Prometheus has the series, with the labels of its resources."""
        series = found.get("series", **{"match[]": self.rule["seriesQuery"]})
        return bool(series) and all(each.keys() >= self.rule["resources"]["overrides"].keys() for each in series)

    @property
    def metric(self) -> str:
        """The name that the autoscaler knows it by: what the only group matches, or all."""
        match = re.match(self.rule.get("name", {}).get("matches", ".*"), self.series)
        assert match is not None
        return match[match.re.groups]

    @property
    def query(self) -> str:
        """What the adapter asks for the pods of the Deployment."""
        [pod] = [label for label, to in self.rule["resources"]["overrides"].items() if to == {"resource": "pod"}]
        matchers = f'namespace="{NAMESPACE}",{pod}=~"{"|".join(PODS)}"'
        text: str = self.rule["metricsQuery"]
        return (
            text.replace("<<.Series>>", self.series)
            .replace("<<.LabelMatchers>>", matchers)
            .replace("<<.GroupBy>>", pod)
        )


ADAPTER = yaml.safe_load((KUBERNETES / "components" / "autoscaling" / "adapter.yaml").read_text())
RULES = [Rule(each) for each in ADAPTER["rules"]["custom"]]


def triggers() -> list[Resource]:
    found: list[Resource] = the(manifests.production("keda"), "ScaledObject")["spec"]["triggers"]
    return found


def configuration(servers: Sequence[ServerProcess]) -> str:
    """The configuration of a Prometheus that scrapes them, with the labels that the PodMonitor gives pods."""
    [label] = the(manifests.production(), "PodMonitor")["spec"]["podTargetLabels"]
    instance = the(manifests.production(), "Deployment")["spec"]["template"]["metadata"]["labels"][label]
    targets = [
        {
            "targets": [f"127.0.0.1:{server.metrics_port}"],
            "labels": {"namespace": NAMESPACE, "pod": pod, re.sub(r"[^a-z]", "_", label): instance},
        }
        for pod, server in zip(PODS, servers, strict=True)
    ]
    return yaml.safe_dump(
        {
            "global": {"scrape_interval": "200ms", "scrape_timeout": "200ms"},
            "scrape_configs": [{"job_name": "gradwire", "static_configs": targets}],
        }
    )


@contextmanager
def callers(server: ServerProcess, case: Case) -> Iterator[None]:
    """Callers, each of which calls again as soon as it has its answer."""
    stop = Event()

    def call() -> None:
        while not stop.is_set():
            value_and_grad(**case.arrays)

    with gw.connect(server.address) as client, ThreadPoolExecutor(CALLERS) as pool:
        value_and_grad = client.value_and_grad(case.loss)
        calling = [pool.submit(call) for _ in range(CALLERS)]
        try:
            yield
        finally:
            stop.set()
        for each in calling:
            each.result()


def by_pod(found: Prometheus, query: str, at: float) -> dict[str, float]:
    """What a query gives for each pod at this time."""
    result = found.get("query", query=query, time=str(at))["result"]
    return {each["metric"]["pod"]: float(each["value"][1]) for each in result}


def raw(found: Prometheus, rule: Rule, at: float) -> dict[str, list[float]]:
    """What was scraped of each pod in the minute before."""
    result = found.get("query", query=f"{rule.series}[1m]", time=str(at))["result"]
    return {each["metric"]["pod"]: [float(value) for _, value in each["values"]] for each in result}


def test_adapter_and_keda_are_asked_for_the_same_by_the_same_measure() -> None:
    assert targets() == {IN_FLIGHT: 3, LOOP: 0.7}
    assert [float(each["metadata"]["threshold"]) for each in triggers()] == list(targets().values())
    base = the(manifests.base(), "HorizontalPodAutoscaler")["spec"]
    scaled = the(manifests.production("keda"), "ScaledObject")["spec"]
    assert (scaled["minReplicaCount"], scaled["maxReplicaCount"]) == (base["minReplicas"], base["maxReplicas"])
    assert scaled["advanced"]["horizontalPodAutoscalerConfig"]["behavior"] == base["behavior"]
    assert [each["kind"] for each in manifests.production("keda")].count("HorizontalPodAutoscaler") == 0


def test_targets_are_of_pods_as_they_are() -> None:
    [container] = the(manifests.production("autoscaling"), "Deployment")["spec"]["template"]["spec"]["containers"]
    threads = int(container["resources"]["requests"]["cpu"])
    # One runs on each thread, and every other one has one that waits.
    assert targets()[IN_FLIGHT] == 1.5 * threads
    # One process, so that there is one event loop.
    assert "GRADWIRE_WORKERS" not in {each["name"] for each in container["env"]}
    assert Settings().workers == 1


async def test_each_measure_sees_the_pod_that_the_other_does_not(tmp_path: Path) -> None:
    large, small = PODS
    rules = {rule.metric: rule for rule in RULES}
    file = tmp_path / "prometheus.yaml"
    with (
        ServerProcess(flags=("--threads=1",)) as first,
        ServerProcess(flags=("--threads=1",)) as second,
        callers(first, perceptron(30_000)),
        callers(second, hinge()),
    ):
        file.write_text(configuration([first, second]))
        with prometheus(file) as found:

            def seen(metric: str, at: float) -> dict[str, float]:
                return by_pod(found, rules[metric].query, at)

            def are_seen() -> bool:
                at = time()
                scraped = raw(found, rules[LOOP], at)
                if scraped.keys() != set(PODS) or min(map(len, scraped.values())) < SCRAPES:
                    return False
                waiting, looping = seen(IN_FLIGHT, at), seen(LOOP, at)
                return waiting[large] > 1 > 10 * waiting[small] and looping[small] > looping[large] > 0

            await eventually(are_seen)
            at = time()
            assert all(rule.is_discovered(found) for rule in RULES)
            waiting, scraped = seen(IN_FLIGHT, at), raw(found, rules[IN_FLIGHT], at)
            assert waiting == pytest.approx({pod: fmean(values) for pod, values in scraped.items()})
            looping, scraped = seen(LOOP, at), raw(found, rules[LOOP], at)
            # What the loops took of a minute; Prometheus goes on to before the first scrape and after the last.
            took = {pod: (values[-1] - values[0]) / 60 for pod, values in scraped.items()}
            assert looping == pytest.approx(took, rel=0.3)
            totals = [
                found.get("query", query=trigger["metadata"]["query"], time=str(at))["result"] for trigger in triggers()
            ]
            assert [float(total["value"][1]) for [total] in totals] == pytest.approx(
                [sum(waiting.values()), sum(looping.values())]
            )
