"""Graphs from one form to another: ``gradwire convert``."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import gradwire as gw
from gradwire.v1 import gradient_service_pb2 as pb
from gradwire.v1 import graph_pb2
from gradwire_server.command import files
from gradwire_server.command.arguments import Convert

ONNX = ".onnx"
REQUESTS: tuple[type[files.GraphRequest], ...] = (
    pb.RegisterGraphRequest,
    pb.CheckGradientsRequest,
    pb.ComputeGradientsRequest,
    pb.TraceGraphRequest,
)
"""Requests that a graph is in."""


def convert(command: Convert) -> bytes:
    """The graph of a file in the form that is asked for; writes the parameters of a model if that is asked for too.

    Raises:
        OSError: A file cannot be read or written.
        GradwireError: It holds no graph, or what cannot be one.
    """
    form = command.to or _form_of(command.output)
    if command.graph.suffix == ONNX:
        return files.written(_from_onnx(command), form)
    for option, value in (("--loss", command.loss), ("--arrays", command.arrays)):
        if value is not None:
            raise gw.UsageError(f"{option} is for models of ONNX ({ONNX}); {command.graph} is none")
    return files.written(files.graph_of(files.read(command.graph, *REQUESTS), command.graph), form)


def _form_of(output: Path | None) -> files.Form:
    if output is None:
        return "text"
    if output.suffix not in files.SUFFIXES:
        raise gw.UsageError(f"{output.name} is none of {', '.join(files.SUFFIXES)}; say what to write with --to")
    return files.SUFFIXES[output.suffix]


def _from_onnx(command: Convert) -> graph_pb2.Graph:
    command.graph.open("rb").close()
    try:
        outputs, params = gw.from_onnx(command.graph, outputs=command.loss)
    except ModuleNotFoundError as error:
        raise gw.GradwireError(str(error)) from None
    if len(outputs) > 1:
        raise gw.UsageError(f"the model has the outputs {', '.join(outputs)}; choose the loss with --loss")
    [(name, output)] = outputs.items()
    if command.arrays:
        with command.arrays.open("wb") as file:
            np.savez(file, allow_pickle=False, **params)
    return gw.graph(output if output.shape == () else gw.sum(output), outputs={name: output})
