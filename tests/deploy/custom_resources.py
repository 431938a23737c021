"""Custom resources that the manifests use: the fields of theirs that occur there, as their projects define them."""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]

TEXT: Schema = {"type": "string", "minLength": 1}
NATURAL: Schema = {"type": "integer", "minimum": 0}
LABELS: Schema = {"type": "object", "additionalProperties": {"type": "string"}}


def closed(*optional: str, **fields: Schema) -> Schema:
    """An object with these fields and no others, of which it may lack the optional ones."""
    required = sorted(fields.keys() - set(optional))
    return {"type": "object", "properties": fields, "required": required, "additionalProperties": False}


def some(items: Schema) -> Schema:
    """A list that is not empty."""
    return {"type": "array", "items": items, "minItems": 1}


def resource(spec: Schema) -> Schema:
    """A resource in a namespace, with this specification."""
    metadata = closed("labels", "annotations", name=TEXT, namespace=TEXT, labels=LABELS, annotations=LABELS)
    return closed(apiVersion=TEXT, kind=TEXT, metadata=metadata, spec=spec)


SCHEMAS: dict[tuple[str, str], Schema] = {
    # Prometheus Operator
    ("monitoring.coreos.com/v1", "PodMonitor"): resource(
        closed(
            jobLabel=TEXT,
            podTargetLabels=some(TEXT),
            selector=closed(matchLabels=LABELS),
            podMetricsEndpoints=some(closed(port=TEXT, interval={"type": "string", "pattern": "^[0-9]+(ms|s|m|h)$"})),
        )
    ),
    # KEDA; what is in a trigger's metadata is always text
    ("keda.sh/v1alpha1", "ScaledObject"): resource(
        closed(
            scaleTargetRef=closed(name=TEXT),
            minReplicaCount=NATURAL,
            maxReplicaCount=NATURAL,
            fallback=closed(
                failureThreshold=NATURAL,
                replicas=NATURAL,
                behavior={"enum": ["static", "currentReplicas", "currentReplicasIfHigher", "currentReplicasIfLower"]},
            ),
            advanced=closed(
                horizontalPodAutoscalerConfig=closed(
                    name=TEXT,
                    behavior=closed(scaleDown=closed(stabilizationWindowSeconds=NATURAL | {"maximum": 3600})),
                )
            ),
            triggers=some(
                closed(
                    type={"const": "prometheus"},
                    metadata=closed(
                        serverAddress={"type": "string", "pattern": "^http://"},
                        query=TEXT,
                        threshold={"type": "string", "pattern": "^[0-9.]+$"},
                        ignoreNullValues={"enum": ["true", "false"]},
                    ),
                )
            ),
        )
    ),
    # Gateway API, from 1.4 on
    ("gateway.networking.k8s.io/v1", "GRPCRoute"): resource(
        closed(
            parentRefs=some(closed(name=TEXT)),
            rules=some(
                closed(backendRefs=some(closed(name=TEXT, port=NATURAL, weight=NATURAL | {"maximum": 1_000_000})))
            ),
        )
    ),
    ("gateway.networking.k8s.io/v1", "BackendTLSPolicy"): resource(
        closed(
            targetRefs=some(closed(group={"const": ""}, kind={"const": "Service"}, name=TEXT)),
            validation=closed(
                hostname=TEXT,
                caCertificateRefs=some(closed(group={"const": ""}, kind={"const": "ConfigMap"}, name=TEXT)),
            ),
        )
    ),
}
