"""Pictures of graphs from files: ``gradwire explain``."""

from __future__ import annotations

from pathlib import Path

from google.protobuf import json_format

import gradwire as gw
from gradwire.v1 import gradient_service_pb2 as pb
from gradwire.v1 import graph_pb2
from gradwire_server.service.logic import GradientLogic


def explain(request: Path, picture: Path, title: str | None = None) -> None:
    """Draw what a file holds: a TraceGraphRequest, with values and gradients, or a Graph, without.

    Raises:
        OSError: A file cannot be read or written.
        json_format.ParseError: The file holds neither of the two.
        Refusal: The graph or a tensor is wrong.
        GradwireError: The picture cannot be made.
    """
    text = request.read_text()
    try:
        traced = json_format.Parse(text, pb.TraceGraphRequest())
    except json_format.ParseError:
        gw.save_picture(json_format.Parse(text, graph_pb2.Graph()), picture, title=title)
        return
    gw.Trace(traced.graph, GradientLogic().trace(traced, lambda: None)).save(picture, title=title)
