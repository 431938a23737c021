"""Graphs and requests in files: protobuf's JSON, its text format, and binary."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal, TypeAlias, TypeVar

from google.protobuf import json_format, text_format
from google.protobuf.message import DecodeError, Message

import gradwire as gw
from gradwire.v1 import gradient_service_pb2 as pb
from gradwire.v1 import graph_pb2

GraphRequest: TypeAlias = (
    pb.ComputeGradientsRequest | pb.TraceGraphRequest | pb.CheckGradientsRequest | pb.RegisterGraphRequest
)

Form: TypeAlias = Literal["json", "text", "binary"]

SUFFIXES: Mapping[str, Form] = {
    ".json": "json",
    ".txtpb": "text",
    ".textproto": "text",
    ".pbtxt": "text",
    ".binpb": "binary",
    ".pb": "binary",
}

_TEXT = re.compile(rb"(\s|#[^\n]*\n)*(\w+)\s*[:{<]")
"""The beginning of a message in the text format, with the name of its first field."""
_CONTROL = re.compile(rb"[\x00-\x08\x0e-\x1f]")

R = TypeVar("R", bound=Message)


def read(path: Path, *requests: type[R]) -> graph_pb2.Graph | R:
    """What a file holds: a Graph, or the first of these kinds of request that it can be.

    The suffix says the form; where it does not, the content does.

    Raises:
        OSError: The file cannot be read.
        GradwireError: It holds neither.
    """
    data = path.read_bytes()
    try:
        match SUFFIXES.get(path.suffix) or _form_of(data):
            case "json":
                return _from_json(data, requests)
            case "text":
                return _from_text(data, requests)
            case _:
                return _from_binary(data, requests)
    except (ValueError, RecursionError, json_format.ParseError, text_format.ParseError, DecodeError) as error:
        expected = f"a {', '.join(request.DESCRIPTOR.name for request in requests)} or a Graph"
        raise gw.InvalidRequestError(f"{path} does not hold {expected}: {error}") from None


def graph_of(found: graph_pb2.Graph | GraphRequest, path: Path) -> graph_pb2.Graph:
    """The graph in what a file holds.

    Raises:
        GradwireError: It has none.
    """
    graph = found if isinstance(found, graph_pb2.Graph) else found.graph
    if graph.nodes:
        return graph
    if not isinstance(found, pb.RegisterGraphRequest | graph_pb2.Graph) and found.graph_id:
        raise gw.InvalidRequestError(
            f"{path} has the id of a graph, which a server knows and this command does not; set the graph itself"
        )
    raise gw.InvalidRequestError(f"{path} has no graph, or one without nodes")


def written(message: Message, form: Form) -> bytes:
    """The content of a file that holds a message."""
    if form == "binary":
        return message.SerializeToString(deterministic=True)
    if form == "json":
        return json_format.MessageToJson(message).encode() + b"\n"
    head = f"# proto-file: gradwire/v1/graph.proto\n# proto-message: {message.DESCRIPTOR.full_name}\n\n"
    return (head + text_format.MessageToString(message, as_utf8=True)).encode()


def _form_of(data: bytes) -> Form:
    if data.lstrip().startswith(b"{"):
        return "json"
    return "text" if _TEXT.match(data) and not _CONTROL.search(data) else "binary"


def _from_json(data: bytes, requests: Sequence[type[R]]) -> graph_pb2.Graph | R:
    try:
        found = json.loads(data.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"it is no JSON in UTF-8: {error}") from None
    if not isinstance(found, dict):
        raise ValueError(f"it is no object but {type(found).__name__}")  # noqa: TRY004  (of the file)
    # Only a graph has nodes at the top. Deciding by that, a misspelt field is looked for in the right message.
    if "nodes" in found:
        return json_format.ParseDict(found, graph_pb2.Graph())
    return _first(requests, lambda message: json_format.ParseDict(found, message))


def _from_text(data: bytes, requests: Sequence[type[R]]) -> graph_pb2.Graph | R:
    first = _TEXT.match(data)
    of_graph = first is None or first[2].decode() in graph_pb2.Graph.DESCRIPTOR.fields_by_name
    if of_graph:
        return text_format.Parse(data.decode(), graph_pb2.Graph())
    return _first(requests, lambda message: text_format.Parse(data.decode(), message))


def _first(requests: Sequence[type[R]], parse: Callable[[R], R]) -> R:
    """The first kind of request that can be parsed; the error is that of the last."""
    for request in requests[:-1]:
        with suppress(json_format.ParseError, text_format.ParseError):
            return parse(request())
    return parse(requests[-1]())


def _from_binary(data: bytes, requests: Sequence[type[R]]) -> graph_pb2.Graph | R:
    # Each would parse as the other now and then, but not without fields that it does not know.
    kinds: tuple[type[graph_pb2.Graph | R], ...] = (graph_pb2.Graph, *requests)
    for kind in kinds:
        try:
            found = kind.FromString(data)
        except DecodeError:
            continue
        size = found.ByteSize()
        found.DiscardUnknownFields()
        if found.ByteSize() == size:
            return found
    raise ValueError("it is none of them in binary, and neither JSON nor the text format")
