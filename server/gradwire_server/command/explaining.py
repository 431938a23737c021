"""Pictures of graphs from files: ``gradwire explain``."""

from __future__ import annotations

from pathlib import Path

from gradwire._pictures.saving import Format, picture
from gradwire.v1 import gradient_service_pb2 as pb
from gradwire.v1 import graph_pb2
from gradwire_server import codec, engine
from gradwire_server.command import files
from gradwire_server.service.requests.logic import GradientLogic


def explain(request: Path, form: Format, title: str | None = None, *, dark: bool = False) -> bytes:
    """The picture of what a file holds: a TraceGraphRequest, with values and gradients, or a Graph, without.

    Raises:
        OSError: The file cannot be read.
        Refusal: The graph or a tensor is wrong.
        GradwireError: The file holds neither of the two, or the picture cannot be made.
    """
    found = files.read(request, pb.TraceGraphRequest)
    graph = files.graph_of(found, request)
    if isinstance(found, graph_pb2.Graph):
        engine.compile_graph(codec.decode_graph(found, engine.Limits()), engine.Limits())
        return picture(found, None, form, title=title, dark=dark)
    return picture(graph, GradientLogic().trace(found, lambda: None), form, title=title, dark=dark)
