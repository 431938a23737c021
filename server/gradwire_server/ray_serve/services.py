"""The services whose calls Serve takes: its configuration names them by a function that adds them to a server."""

from __future__ import annotations

from typing import Any

import grpc
from google.protobuf.descriptor import MethodDescriptor

from gradwire_server.service.process.service import HEALTH, SERVICE

SERVICES = (SERVICE, HEALTH)
"""Reflection is not among them: Serve has its own."""

_KINDS = {
    (False, False): grpc.unary_unary_rpc_method_handler,
    (False, True): grpc.unary_stream_rpc_method_handler,
    (True, False): grpc.stream_unary_rpc_method_handler,
    (True, True): grpc.stream_stream_rpc_method_handler,
}


def add_services(servicer: object, server: Any) -> None:  # noqa: ANN401  (a class of Serve that is not public)
    """Add the services to a server of Serve, which has the deployment's method answer in the place of each handler.

    Generated code would do so too, but with what parses messages, so that gRPC answers those that do not parse with
    INTERNAL, before anybody sees them. Here they stay bytes.
    """
    for service in SERVICES:
        handlers = {method.name: _handler(method, getattr(servicer, method.name)) for method in service.methods}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service.full_name, handlers),))


def _handler(method: MethodDescriptor, behaviour: Any) -> grpc.RpcMethodHandler[Any, Any]:  # noqa: ANN401  (of any kind)
    return _KINDS[method.client_streaming, method.server_streaming](behaviour)
