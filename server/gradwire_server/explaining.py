"""Pictures of graphs from files: ``gradwire explain``."""

from __future__ import annotations

import json
from pathlib import Path

from google.protobuf import json_format

import gradwire as gw
from gradwire._pictures.saving import Format, picture
from gradwire.v1 import gradient_service_pb2 as pb
from gradwire.v1 import graph_pb2
from gradwire_server import codec, engine
from gradwire_server.service.requests.logic import GradientLogic

_EXPECTED = "expected an object of JSON, in UTF-8: a TraceGraphRequest or a Graph"


def explain(request: Path, form: Format, title: str | None = None) -> bytes:
    """The picture of what a file holds: a TraceGraphRequest, with values and gradients, or a Graph, without.

    Raises:
        OSError: The file cannot be read.
        json_format.ParseError: The file holds neither of the two.
        Refusal: The graph or a tensor is wrong.
        GradwireError: The file holds no object of JSON, or the picture cannot be made.
    """
    try:
        data = json.loads(request.read_text("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise gw.InvalidRequestError(f"{request} is no JSON: {error}; {_EXPECTED}") from None
    if not isinstance(data, dict):
        raise gw.InvalidRequestError(f"{request} holds no object but {type(data).__name__}; {_EXPECTED}")
    # Only a graph has nodes at the top. Deciding by that, a misspelt field is looked for in the right message.
    if "nodes" in data:
        graph = json_format.ParseDict(data, graph_pb2.Graph())
        engine.compile_graph(codec.decode_graph(graph, engine.Limits()), engine.Limits())
        return picture(graph, None, form, title=title)
    traced = json_format.ParseDict(data, pb.TraceGraphRequest())
    return picture(traced.graph, GradientLogic().trace(traced, lambda: None), form, title=title)
