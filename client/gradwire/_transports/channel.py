"""Channels of gRPC to a server: methods, credentials and options."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import grpc

from gradwire._calls.examples import Upload
from gradwire._calls.steps import Unary
from gradwire._errors import UsageError
from gradwire._transports.address import Address, is_loopback
from gradwire._transports.uploads import upload_frames
from gradwire.v1 import gradient_service_pb2 as pb
from gradwire.v1.gradient_service_pb2_grpc import GradientServiceStub

SERVICE = pb.DESCRIPTOR.services_by_name["GradientService"]

MAX_MESSAGE_BYTES = 132 << 20
"""Largest message that a client sends or takes; what is larger travels in frames."""


class Methods:
    """Methods of the service on a channel of gRPC, blocking or asyncio's."""

    def __init__(self, channel: Any) -> None:  # noqa: ANN401  (of either kind)
        self._stub: Any = GradientServiceStub(channel)
        # As stubs do: the path of such a method is made ready once, and not at each call.
        self.compute = channel.unary_unary(f"/{SERVICE.full_name}/ComputeGradients", _registered_method=True)
        """Called with a request as bytes, and gives such a response."""
        self.stream = channel.stream_stream(f"/{SERVICE.full_name}/StreamGradients")
        """Called with frames as bytes, see ``gradwire.v1.frames``, and gives such."""
        self._upload = channel.stream_unary(f"/{SERVICE.full_name}/UploadExamples", response_deserializer=_held)

    def call(self, step: Unary | Upload, **options: Any) -> Any:  # noqa: ANN401  (an answer, or what awaits it)
        """The answer to a step that is no computation."""
        if isinstance(step, Upload):
            return self._upload(upload_frames(step.form), **options)
        return getattr(self._stub, step.method)(step.request, **options)


def _held(response: bytes) -> bool:
    return pb.UploadExamplesResponse.FromString(response).held


ROUND_ROBIN: dict[str, Any] = {"round_robin": {}}
"""The servers of a target take turns."""

PINNED: dict[str, Any] = {"pick_first": {"shuffleAddressList": True}}
"""One server of a target has all calls until it does not answer any more; clients do not all choose the same."""


def credentials(to: Address) -> grpc.ChannelCredentials:
    """TLS credentials from the files of an address.

    Raises:
        UsageError: A file cannot be read.
    """
    return grpc.ssl_channel_credentials(
        _content("ca", to.ca), _content("key", to.key), _content("certificate", to.certificate)
    )


def _content(option: str, path: Path | None) -> bytes | None:
    try:
        return None if path is None else path.read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read {path} ({option}=): {error.strerror}") from error


def opened(to: Address, *, pinned: bool = False) -> grpc.Channel:
    """A channel to an address; ``pinned`` to one of its servers as long as that answers.

    Raises:
        UsageError: A file cannot be read.
    """
    if to.tls:
        return grpc.secure_channel(to.target, credentials(to), options(to, pinned=pinned))
    return grpc.insecure_channel(to.target, options(to, pinned=pinned))


def options(to: Address, *, pinned: bool = False) -> Sequence[tuple[str, int | str]]:
    """Options of the channel."""
    # No retry policy: gRPC's own tries no call again whose answer broke off or that says when to try again, and sends a
    # stream that broke off in the middle again without its end. See Attempts.
    config: dict[str, Any] = {"loadBalancingConfig": [PINNED if pinned else ROUND_ROBIN]}
    if to.health_checks:
        config["healthCheckConfig"] = {"serviceName": SERVICE.full_name}
    name = () if to.server_name is None else (("grpc.ssl_target_name_override", to.server_name),)
    # Calls to this machine never leave it: a proxy of the environment is for others.
    direct = (("grpc.enable_http_proxy", 0),) if is_loopback(to.target) else ()
    return (
        *name,
        *direct,
        ("grpc.service_config", json.dumps(config)),
        ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
        ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
        # Large messages: six times the throughput of the defaults.
        ("grpc.http2.max_frame_size", 1 << 20),
        ("grpc.http2.lookahead_bytes", 16 << 20),
        ("grpc.http2.write_buffer_size", 8 << 20),
        ("grpc.http2.bdp_probe", 0),
        # A connection that is gone without a word is found within half a minute.
        ("grpc.keepalive_time_ms", 20_000),
        ("grpc.keepalive_timeout_ms", 10_000),
        ("grpc.http2.max_pings_without_data", 0),
        # Where a server was replaced by one with another address, the name is asked for it again before the attempts at
        # a call are over. gRPC's default is half a minute.
        ("grpc.dns_min_time_between_resolutions_ms", 2_000),
        ("grpc.initial_reconnect_backoff_ms", 200),
        ("grpc.max_reconnect_backoff_ms", 1_000),
    )


_RANDOM = Random()  # noqa: S311  (ids are no secrets)
"""Where ids come from; to ask the system for each takes three times as long. What ``random`` has for all belongs to
those who seed it."""

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_RANDOM.seed)


def new_request_id() -> str:
    """An id for a call: the server's log has it, and so have the call's result or error."""
    return _RANDOM.getrandbits(128).to_bytes(16, "little").hex()
