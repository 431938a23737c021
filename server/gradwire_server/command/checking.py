"""Gradients of a graph against finite differences: ``gradwire check``."""

from __future__ import annotations

from typing import TypeVar

from rich.table import Table
from rich.text import Text

import gradwire as gw
from gradwire._arrays import Array
from gradwire.v1 import gradient_service_pb2 as pb
from gradwire.v1 import graph_pb2
from gradwire_server import codec, engine
from gradwire_server.command import arrays, files
from gradwire_server.command.arguments import Check
from gradwire_server.command.terminal import console

N = TypeVar("N", int, float)


def check(command: Check) -> bool:
    """Print a table by parameter, and say whether all gradients agree.

    Raises:
        OSError: A file cannot be read.
        Refusal: The graph breaks a rule.
        GradwireError: A file holds something else, or the arrays do not fit the graph.
    """
    found = files.read(command.graph, pb.CheckGradientsRequest)
    graph = files.graph_of(found, command.graph)
    request = pb.CheckGradientsRequest() if isinstance(found, graph_pb2.Graph) else found
    dtype, limits = codec.decode_dtype(request.dtype), engine.Limits()
    known: dict[str, Array] = dict(codec.decode_arrays(request, dtype, limits, engine.unhurried))
    if command.arrays:
        known |= arrays.read(command.arrays)
    values, drawn = arrays.filled(graph, known, command.examples, command.seed)
    options: gw.Options = {
        "reduction": command.reduction or codec.decode_reduction(request),
        "dtype": command.dtype or dtype,
        "wrt": codec.decode_wrt(request.wrt if request.HasField("wrt") else None, limits),
    }
    with gw.connect("local") as client:
        report = client.check(
            graph,
            values,
            options=options,
            step=_either(command.step, request, "step"),
            tolerance=_either(command.tolerance, request, "tolerance"),
            max_probes=_either(command.max_probes, request, "max_probes"),
        )
    if not report.sources:
        raise gw.InvalidRequestError(f"there is nothing to check: {command.graph} has no parameter to differentiate in")
    out = console()
    if drawn:
        out.print(f"drawn with the seed {command.seed}: {', '.join(drawn)}\n")
    out.print(_table(report, values))
    large = [source.name for source in report.sources if source.step_too_large]
    wrong = [source.name for source in report.sources if not source.passed and not source.step_too_large]
    if large:
        out.print(f"\nthe step is too large to tell, give a smaller one: {', '.join(large)}")
    if wrong or not large:
        out.print(f"\noff: {', '.join(wrong)}" if wrong else "\nall agree")
    return report.passed


def _either(option: N | None, request: pb.CheckGradientsRequest, field: str) -> N | None:
    """What an option says, or else the request."""
    return option if option is not None else getattr(request, field) if request.HasField(field) else None


def _table(report: gw.CheckReport, values: dict[str, Array]) -> Table:
    table = Table("parameter", "shape", box=None, pad_edge=False, header_style="bold")
    for column in ("probed", "off", "worst at", "gradient", "difference", "relative error"):
        table.add_column(column, justify="right")
    for source in report.sources:
        table.add_row(
            Text(source.name),
            str(values[source.name].shape),
            f"{source.probed:,}",
            f"{source.failed:,}",
            str(list(source.worst_position)) if source.worst_position else "",
            f"{source.analytic:.9g}",
            f"{source.numeric:.9g}",
            f"{source.relative_error:.1e}",
            style="" if source.passed else "bold red",
        )
    return table
