"""Base and production with each of the components: against the schemas of all kinds, kubectl, and each other."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from tests.deploy import manifests
from tests.deploy.custom_resources import SCHEMAS
from tests.deploy.manifests import KUBECTL, Resource, the

COMPONENTS = ("autoscaling", "keda", "canary")

KINDS = {
    "v1": ("Namespace", "Service", "ServiceAccount"),
    "apps/v1": ("Deployment",),
    "autoscaling/v2": ("HorizontalPodAutoscaler",),
    "networking.k8s.io/v1": ("NetworkPolicy",),
    "policy/v1": ("PodDisruptionBudget",),
}
"""What a cluster has without custom resources."""


@pytest.fixture(params=[None, *COMPONENTS])
def resources(request: pytest.FixtureRequest) -> list[Resource]:
    return manifests.base() if request.param is None else manifests.production(request.param)


@pytest.mark.parametrize("version", ["1.31", "1.37"])
def test_schemas_find_nothing_wrong(resources: list[Resource], version: str) -> None:
    assert len(resources) >= 6
    for resource in resources:
        schema = SCHEMAS.get((resource["apiVersion"], resource["kind"]))
        if schema is None:
            kubernetes_validate.validate(resource, version, strict=True)
        else:
            jsonschema.validate(resource, schema)


def test_the_base_takes_no_custom_resources() -> None:
    assert [each["kind"] for each in manifests.base() if (each["apiVersion"], each["kind"]) in SCHEMAS] == []


def kinds_of_a_cluster(*, core: bool) -> dict[str, Any]:
    """The kinds of a cluster with all custom resources: those of the core group, or all others."""
    versions: dict[str, list[str]] = {version: list(kinds) for version, kinds in KINDS.items()}
    for version, kind in SCHEMAS:
        versions.setdefault(version, []).append(kind)
    return {
        "kind": "APIGroupDiscoveryList",
        "apiVersion": "apidiscovery.k8s.io/v2",
        "items": [
            {
                "metadata": {"name": full.rpartition("/")[0]},
                "versions": [
                    {
                        "version": full.rpartition("/")[2],
                        "resources": [
                            {
                                "resource": kind.lower(),
                                "responseKind": {"kind": kind},
                                "scope": "Cluster" if kind == "Namespace" else "Namespaced",
                                "verbs": ["create"],
                            }
                            for kind in kinds
                        ],
                    }
                ],
            }
            for full, kinds in versions.items()
            if ("/" not in full) == core
        ],
    }


class Discovery(BaseHTTPRequestHandler):
    """What a control plane tells kubectl of its kinds, and nothing else."""

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path not in {"/api", "/apis"}:
            self.send_error(404)
            return
        body = json.dumps(kinds_of_a_cluster(core=path == "/api")).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  (its name there)
        """Nothing is logged."""


@pytest.fixture(scope="module")
def control_plane() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Discovery) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_kubectl_would_create_them(resources: list[Resource], control_plane: str, tmp_path: Path) -> None:
    command = [KUBECTL, f"--server={control_plane}", f"--cache-dir={tmp_path}", "create", "-f", "-"]
    done = subprocess.run(
        [*command, "--dry-run=client", "--validate=false", "--output=name"],
        input=yaml.safe_dump_all(resources),
        capture_output=True,
        text=True,
        check=False,
        env={"NO_PROXY": "127.0.0.1"},
    )
    assert (done.returncode, done.stderr) == (0, "")
    found = [(line.partition("/")[0].partition(".")[0], line.rpartition("/")[2]) for line in done.stdout.split()]
    assert sorted(found) == sorted((each["kind"].lower(), each["metadata"]["name"]) for each in resources)


def labels(deployment: Resource) -> dict[str, str]:
    return dict(deployment["spec"]["template"]["metadata"]["labels"])


def test_a_canary_is_production_with_another_image() -> None:
    resources = manifests.production("canary")
    stable, canary = the(resources, "Deployment"), the(resources, "Deployment", "gradwire-canary")
    containers = [each["spec"]["template"]["spec"]["containers"][0] for each in (stable, canary)]
    assert [each["image"].rpartition(":")[2] for each in containers] == ["0.1.0", "0.2.0"]
    assert containers[0] | {"image": ""} == containers[1] | {"image": ""}
    assert the(resources, "Deployment")["spec"].keys() | {"replicas"} == canary["spec"].keys()


def test_whose_pods_are_the_canary_s() -> None:
    resources = manifests.production("canary")
    stable, canary = (labels(the(resources, "Deployment", name)) for name in ("gradwire", "gradwire-canary"))

    def found(selector: dict[str, str]) -> tuple[bool, bool]:
        return selector.items() <= stable.items(), selector.items() <= canary.items()

    # Two deployments, and the autoscaler of one of them, know each other's pods from their own.
    assert found(the(resources, "Deployment")["spec"]["selector"]["matchLabels"]) == (True, False)
    assert found(the(resources, "Deployment", "gradwire-canary")["spec"]["selector"]["matchLabels"]) == (False, True)
    # The share of the calls is the route's alone to say.
    assert found(the(resources, "Service")["spec"]["selector"]) == (True, False)
    assert found(the(resources, "Service", "gradwire-stable")["spec"]["selector"]) == (True, False)
    assert found(the(resources, "Service", "gradwire-canary")["spec"]["selector"]) == (False, True)
    for kind in ("PodDisruptionBudget", "PodMonitor"):
        assert found(the(resources, kind)["spec"]["selector"]["matchLabels"]) == (True, True)
    assert found(the(resources, "NetworkPolicy")["spec"]["podSelector"]["matchLabels"]) == (True, True)


def test_a_twentieth_of_the_calls_goes_to_the_canary() -> None:
    resources = manifests.production("canary")
    [rule] = the(resources, "GRPCRoute")["spec"]["rules"]
    weights = {backend["name"]: backend["weight"] for backend in rule["backendRefs"]}
    assert weights["gradwire-canary"] / sum(weights.values()) == 0.05
    for backend in rule["backendRefs"]:
        [port] = the(resources, "Service", backend["name"])["spec"]["ports"]
        assert (port["port"], port["targetPort"], port["appProtocol"]) == (backend["port"], "grpc", "grpc")
    # The pods speak TLS.
    policy = the(resources, "BackendTLSPolicy")["spec"]
    assert {target["name"] for target in policy["targetRefs"]} == set(weights)
