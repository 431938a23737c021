"""The courses of calls that compute nothing: a graph is registered, a server says what it is."""

from __future__ import annotations

from gradwire._calls.problem import problem_of
from gradwire._calls.results import ServerInfo, decode_info
from gradwire._calls.steps import Steps, Unary
from gradwire._errors import InvalidRequestError
from gradwire._expressions.expression import Expression
from gradwire.v1 import gradient_service_pb2 as pb
from gradwire.v1 import graph_pb2


def register(loss: Expression | graph_pb2.Graph, ties: str) -> Steps[str]:
    """The course of ``Client.register``."""
    if not isinstance(loss, Expression | graph_pb2.Graph):
        raise InvalidRequestError(f"register takes an expression or a graph; found {type(loss).__name__}")
    response = yield Unary("RegisterGraph", pb.RegisterGraphRequest(graph=problem_of(loss, ties, None).graph))
    graph_id: str = response.graph_id
    return graph_id


def info() -> Steps[ServerInfo]:
    """The course of ``Client.info``."""
    response = yield Unary("GetServerInfo", pb.GetServerInfoRequest())
    return decode_info(response)
