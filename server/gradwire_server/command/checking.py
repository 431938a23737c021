"""Gradients of a graph against finite differences: ``gradwire check``."""

from __future__ import annotations

from rich.table import Table
from rich.text import Text

import gradwire as gw
from gradwire._arrays import Array, decode_tensor
from gradwire.v1 import gradient_service_pb2 as pb
from gradwire.v1 import graph_pb2
from gradwire_server.command import arrays, files
from gradwire_server.command.arguments import Check
from gradwire_server.command.terminal import console


def check(command: Check) -> bool:
    """Print a table by parameter, and say whether all gradients agree.

    Raises:
        OSError: A file cannot be read.
        Refusal: The graph breaks a rule.
        GradwireError: A file holds something else, or the arrays do not fit the graph.
    """
    found = files.read(command.graph, pb.CheckGradientsRequest)
    graph = found if isinstance(found, graph_pb2.Graph) else found.graph
    known: dict[str, Array] = {}
    if not isinstance(found, graph_pb2.Graph):
        known |= {name: decode_tensor(tensor) for name, tensor in found.tensors.items()}
    if command.arrays:
        known |= arrays.read(command.arrays)
    values, drawn = arrays.filled(graph, known, command.examples, command.seed)
    with gw.connect("local") as client:
        report = client.check(
            graph,
            values,
            options={"reduction": command.reduction, "dtype": command.dtype},
            step=command.step,
            tolerance=command.tolerance,
            max_probes=command.max_probes,
        )
    out = console()
    if drawn:
        out.print(f"drawn with the seed {command.seed}: {', '.join(drawn)}\n")
    out.print(_table(report, values))
    wrong = [source.name for source in report.sources if not source.passed]
    out.print(f"\noff: {', '.join(wrong)}" if wrong else "\nall agree")
    return report.passed


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
