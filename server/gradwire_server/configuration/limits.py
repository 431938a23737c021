"""What the service refuses to take on: the limits of the engine, of messages, and of what is kept."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import Annotated

from pydantic import Field

from gradwire_server.configuration.sections import Section
from gradwire_server.limits import Limits

_ENGINE = Limits()

Limit = Annotated[int, Field(gt=0, le=2**63 - 1)]
"""A limit that has no smaller bound of its own; GetServerInfo tells it in 64 bits."""


class Resource(StrEnum):
    """What the requests in flight share; a limit bounds the sum."""

    CALLS = "calls"
    REQUESTS = "requests"
    BYTES = "bytes"
    MEMORY = "memory"


class ServiceLimits(Section):
    """What it refuses to take on. None of the limits is ever unlimited."""

    max_message_bytes: int = Field(default=128 << 20, ge=1 << 20, lt=2**31 - (8 << 20))
    """Largest request and response of a unary call, and largest frame of a stream, in bytes, decompressed; from 1 MiB
    on, which is what clients put into a frame. A message that is more than 4 MiB over it gRPC refuses before this
    server sees it, and names that as the limit."""
    max_request_bytes: Limit = 1 << 30
    """Bytes of the framed tensors of one request on a stream, together."""
    max_nodes: Limit = _ENGINE.max_nodes
    """Nodes of a graph, and operations packed in them."""
    max_edges: Limit = _ENGINE.max_edges
    """Operands of all nodes of a graph together, and arguments of packed operations."""
    max_rank: int = Field(default=_ENGINE.max_rank, gt=0, le=_ENGINE.max_rank)
    """Axes of a tensor."""
    max_name_length: Limit = _ENGINE.max_name_length
    """Characters of a node's name."""
    max_examples: Limit = 1 << 24
    """Examples of one request; empty ones take no memory, but time, some 15 ns each, for a request of a few bytes."""
    max_tensor_bytes: Limit = _ENGINE.max_tensor_bytes
    """Bytes of one node's value for one example, in float64."""
    max_memory_bytes: Limit = _ENGINE.max_memory_bytes
    """Bytes that one computation may take: values, gradients and results together."""
    max_cache_bytes: Limit = 3 << 30
    """Bytes of prepared graphs that are kept; those used longest ago go first. One that alone takes more is not
    registered, but computed where it comes with a request."""
    max_stored_bytes: int = Field(default=4 << 30, ge=0, le=2**63 - 1)
    """Bytes of uploaded examples that are kept, arrive, or are forgotten but still computed with; of those kept the
    ones used longest ago go first. 0 takes none."""
    # With 2**31 - 1, which to gRPC is none at all, it ends the process.
    max_connections: int = Field(default=10_000, gt=0, lt=2**31 - 1)
    """Connections at the same time; those beyond are closed as they come."""
    max_calls: Limit = 10_000
    """Calls that are open at the same time, of any method: also those whose message is still arriving, and streams
    between two requests."""
    max_requests: Limit = 1000
    """Requests that are worked on or wait at the same time; more are turned away at once."""
    max_bytes_in_flight: Limit = 4 << 30
    """Bytes of all requests that arrive, are worked on or wait, and of responses until they are sent; those that are
    not sent in frames count twice, as gRPC copies them."""
    max_memory_in_flight: Limit = 8 << 30
    """Bytes that all computations together may take, preparing graphs too, and those that wait for a thread."""
    max_seconds: Limit = 3600
    """Seconds that one request may compute, whatever time its caller gives it."""

    def of_engine(self) -> Limits:
        """The limits that the engine checks."""
        return Limits(
            max_nodes=self.max_nodes,
            max_edges=self.max_edges,
            max_rank=self.max_rank,
            max_name_length=self.max_name_length,
            max_examples=self.max_examples,
            max_tensor_bytes=self.max_tensor_bytes,
            max_memory_bytes=self.max_memory_bytes,
        )

    def listed(self) -> Iterator[tuple[str, int, str]]:
        """Name, value and description of each."""
        for name, field in ServiceLimits.model_fields.items():
            yield name, getattr(self, name), field.description or ""
