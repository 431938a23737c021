"""What the model takes for granted because no machine here can tell it; change it and run the page again."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict

from gradwire_server.configuration.limits import ServiceLimits


class Assumptions(BaseModel):
    """Numbers of a cluster; each is an option of ``python -m tests.benchmarks.scaling ask``."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    bandwidth: float = 1.25e9
    """Bytes a second that a machine sends, and as many that it receives: 10 Gbit/s."""
    hop: float = 100e-6
    """Seconds from one machine to another, for a message of no length."""
    worker_cores: int = 1
    """Cores of a worker, on which it computes where the engine is in its own process."""
    worker_memory: float = 8e9
    """Bytes that a worker has for its examples; so has an actor."""
    server_cores: int = 16
    """Cores of each server."""
    server_memory: float = 64e9
    """Bytes that a server has for stored examples, with --max-stored-bytes as high."""
    actors_on_a_machine: int = 16
    """Actors that share a machine, its network and its copy of the parameters."""
    share: int = 100
    """Batches that a worker's share of the examples has; a step takes one of them."""
    slowdown: float = 2.0
    """How many times as long as for one worker a step may take before a layout counts as full."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """Limits of a server's process, which operators may raise."""

    connections: int = ServiceLimits.model_fields["max_connections"].default
    requests: int = ServiceLimits.model_fields["max_requests"].default
    bytes_in_flight: int = ServiceLimits.model_fields["max_bytes_in_flight"].default
    request_bytes: int = ServiceLimits.model_fields["max_request_bytes"].default
