"""The manifests, as kubectl builds them: against the schemas of Kubernetes, each other, and a real server."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import grpc
import pytest
import trustme
from grpc_health.v1 import health_pb2, health_pb2_grpc

import gradwire as gw
from gradwire_server.service.process.supervisor import MARGIN
from tests.deploy import manifests
from tests.deploy.manifests import Resource
from tests.integration.raw import channel
from tests.integration.server_process import DEADLINE, ServerProcess
from tests.losses import hinge
from tests.pem import authority_file, pair

Resources = dict[str, Resource]


def by_kind(found: list[Resource]) -> Resources:
    """Resources by their kinds; there is one of each."""
    kinds = {resource["kind"]: resource for resource in found}
    assert len(kinds) == len(found)
    return kinds


@pytest.fixture
def base() -> Resources:
    return by_kind(manifests.base())


@pytest.fixture
def production() -> Resources:
    return by_kind(manifests.production())


@pytest.fixture(params=["base", "production"])
def resources(request: pytest.FixtureRequest) -> Resources:
    found: Resources = request.getfixturevalue(request.param)
    return found


def pod(resources: Resources) -> Resource:
    spec: Resource = resources["Deployment"]["spec"]["template"]["spec"]
    return spec


def container(resources: Resources) -> Resource:
    [found] = pod(resources)["containers"]
    return dict(found)


def environment(resources: Resources) -> dict[str, str]:
    return {variable["name"]: variable["value"] for variable in container(resources)["env"] if "value" in variable}


def labels(resources: Resources) -> dict[str, str]:
    return dict(resources["Deployment"]["spec"]["template"]["metadata"]["labels"])


def selectors(resources: Resources) -> Iterator[Mapping[str, str]]:
    """Those that should find the pods of the server."""
    yield resources["Deployment"]["spec"]["selector"]["matchLabels"]
    yield resources["Service"]["spec"]["selector"]
    yield resources["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"]
    yield resources["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"]
    for constraint in pod(resources)["topologySpreadConstraints"]:
        yield constraint["labelSelector"]["matchLabels"]
    if "PodMonitor" in resources:
        yield resources["PodMonitor"]["spec"]["selector"]["matchLabels"]


def test_selectors_find_the_pods(resources: Resources) -> None:
    found = list(selectors(resources))
    assert all(found)
    assert [selector for selector in found if not selector.items() <= labels(resources).items()] == []


def test_who_gets_in(resources: Resources) -> None:
    policy = resources["NetworkPolicy"]["spec"]
    callers, scraper = policy["ingress"]
    assert callers == {"from": [{"podSelector": {}}], "ports": [{"port": "grpc"}]}
    assert scraper["ports"] == [{"port": "metrics"}]
    assert scraper["from"][0]["podSelector"] == {"matchLabels": {"app.kubernetes.io/name": "prometheus"}}
    assert (policy["policyTypes"], policy.get("egress")) == (["Ingress", "Egress"], None)


def test_ports_have_names_that_the_others_use(resources: Resources) -> None:
    ports = {port["name"]: port["containerPort"] for port in container(resources)["ports"]}
    assert ports == {"grpc": 50051, "metrics": 9464}
    [port] = resources["Service"]["spec"]["ports"]
    assert (port["targetPort"], port["port"]) == ("grpc", ports["grpc"])
    assert resources["Service"]["spec"]["clusterIP"] == "None"
    if "PodMonitor" in resources:
        [endpoint] = resources["PodMonitor"]["spec"]["podMetricsEndpoints"]
        assert endpoint["port"] in ports


def test_a_pod_that_is_told_to_stop_has_time_to(resources: Resources) -> None:
    variables = environment(resources)
    needed = float(variables["GRADWIRE_ANNOUNCE"]) + float(variables["GRADWIRE_GRACE"])
    assert needed + MARGIN < pod(resources)["terminationGracePeriodSeconds"]
    # Until clients have turned away it takes their calls.
    readiness = container(resources)["readinessProbe"]
    assert float(variables["GRADWIRE_ANNOUNCE"]) >= readiness["periodSeconds"] * readiness["failureThreshold"]


def test_the_limit_of_memory_holds_what_the_server_may_take(resources: Resources) -> None:
    variables, sizes = environment(resources), container(resources)["resources"]
    bounds = ("MEMORY_IN_FLIGHT", "BYTES_IN_FLIGHT", "CACHE_BYTES", "STORED_BYTES")
    needed = sum(int(variables[f"GRADWIRE_MAX_{bound}"]) for bound in bounds)
    assert needed + 2**30 <= int(sizes["limits"]["memory"].removesuffix("Gi")) * 2**30
    if "PodMonitor" in resources:
        assert sizes["requests"]["memory"] == sizes["limits"]["memory"]
    # And each thread may take what one request may.
    threads = int(sizes["requests"]["cpu"])
    largest = int(variables["GRADWIRE_MAX_MEMORY_BYTES"])
    assert threads * largest <= int(variables["GRADWIRE_MAX_MEMORY_IN_FLIGHT"])


def test_a_rollout_waits_until_clients_can_know_the_pod_that_came(resources: Resources) -> None:
    # grpc.dns_min_time_between_resolutions_ms
    assert resources["Deployment"]["spec"]["minReadySeconds"] >= 30
    assert resources["Deployment"]["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}


def test_probes_are_patient_where_a_restart_would_only_harm(resources: Resources) -> None:
    probes = container(resources)
    startup, liveness = probes["startupProbe"], probes["livenessProbe"]
    assert startup["periodSeconds"] * startup["failureThreshold"] >= 180
    assert liveness["periodSeconds"] * liveness["failureThreshold"] >= 60
    assert all(probes[f"{kind}Probe"]["timeoutSeconds"] >= 5 for kind in ("startup", "readiness", "liveness"))


def test_a_pod_may_do_nothing_but_serve(resources: Resources) -> None:
    security = pod(resources)["securityContext"]
    assert security["runAsNonRoot"]
    assert security["runAsUser"] > 0
    assert security["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container(resources)["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert pod(resources)["automountServiceAccountToken"] is False
    assert resources["ServiceAccount"]["automountServiceAccountToken"] is False
    assert pod(resources)["serviceAccountName"] == resources["ServiceAccount"]["metadata"]["name"]


def test_the_autoscaler_scales_the_deployment_by_what_it_requests(resources: Resources) -> None:
    spec = resources["HorizontalPodAutoscaler"]["spec"]
    deployment = resources["Deployment"]
    assert spec["scaleTargetRef"] == {
        "apiVersion": deployment["apiVersion"],
        "kind": "Deployment",
        "name": deployment["metadata"]["name"],
    }
    # It would be set back each time that the manifests are applied.
    assert "replicas" not in deployment["spec"]
    assert "cpu" in container(resources)["resources"]["requests"]
    # Clients come to the pods that it adds.
    assert float(environment(resources)["GRADWIRE_MAX_CONNECTION_AGE"]) <= 600
    assert resources["PodDisruptionBudget"]["spec"]["maxUnavailable"] < spec["minReplicas"]


def test_all_is_in_the_namespace_of_the_overlay(production: Resources) -> None:
    name = production["Namespace"]["metadata"]["name"]
    assert {kind for kind, found in production.items() if found["metadata"].get("namespace") != name} == {"Namespace"}


def test_the_job_that_prometheus_sees_is_that_of_the_alerts(production: Resources) -> None:
    assert labels(production)[production["PodMonitor"]["spec"]["jobLabel"]] == "gradwire"


def status(server: ServerProcess, path: str) -> int:
    connection = HTTPConnection("127.0.0.1", server.metrics_port, timeout=DEADLINE)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    finally:
        connection.close()


def test_a_server_with_the_environment_of_the_base_passes_its_probes(base: Resources) -> None:
    with ServerProcess(
        environment=environment(base) | {"GRADWIRE_HOST": "127.0.0.1", "GRADWIRE_ANNOUNCE": "0"}
    ) as server:
        for kind in ("startup", "readiness"):
            assert container(base)[f"{kind}Probe"]["grpc"] == {"port": 50051}
        with channel(server.address) as opened:
            health: Any = health_pb2_grpc.HealthStub(opened)
            assert health.Check(health_pb2.HealthCheckRequest()).status == health_pb2.HealthCheckResponse.SERVING
        server.stop()
        assert "is no setting" not in server.log


def test_a_crowd_of_callers_does_not_have_a_pod_restarted(base: Resources) -> None:
    with ServerProcess(flags=("--max-calls=1",)) as server, channel(server.address) as opened:
        health: Any = health_pb2_grpc.HealthStub(opened)
        watch = health.Watch(health_pb2.HealthCheckRequest())
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
        with pytest.raises(grpc.RpcError, match="max_calls"):
            health.Check(health_pb2.HealthCheckRequest())
        probe = container(base)["livenessProbe"]["httpGet"]
        assert (probe["port"], status(server, probe["path"])) == ("metrics", 200)


def test_a_server_with_the_secrets_of_production_passes_its_probes_and_asks_for_tokens(
    tmp_path: Path, production: Resources
) -> None:
    authority, case = trustme.CA(), hinge()
    ca = authority_file(tmp_path / "ca.pem", authority)
    pair(tmp_path / "tls", authority)
    (tmp_path / "tokens").mkdir()
    (tmp_path / "tokens" / "tokens").write_text("a-token-of-the-tests-alone\n")
    mounts = {mount["name"]: mount["mountPath"] for mount in container(production)["volumeMounts"]}
    assert mounts.keys() == {volume["name"] for volume in pod(production)["volumes"]}
    variables = environment(production) | {"GRADWIRE_HOST": "127.0.0.1", "GRADWIRE_ANNOUNCE": "0"}
    for name, mounted in mounts.items():
        variables = {key: value.replace(mounted, str(tmp_path / name)) for key, value in variables.items()}
    with ServerProcess(environment=variables) as server:
        for kind in ("startup", "readiness", "liveness"):
            probe = container(production)[f"{kind}Probe"]
            assert (probe["httpGet"]["port"], "grpc" in probe) == ("metrics", False)
            assert status(server, probe["httpGet"]["path"]) == 200
        options: Any = {"tls": True, "ca": ca, "max_attempts": 1}
        with gw.connect(server.address, token="a-token-of-the-tests-alone", **options) as client:  # noqa: S106
            assert client.value_and_grad(case.loss)(**case.arrays)[1]["w"].shape == (3,)
        with gw.connect(server.address, **options) as client, pytest.raises(gw.GradwireError, match="token"):
            client.info()
        server.stop()
        assert "is no setting" not in server.log
