"""What calls return."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

from google.protobuf.message import DecodeError

from gradwire._arrays import Array, decode_tensor
from gradwire._errors import ServerError
from gradwire.v1 import gradient_service_pb2 as pb
from gradwire.v1 import graph_pb2

_LISTED = 20
"""Names that an error lists."""

Phase = Literal["value", "gradient", "reduction"]

_PHASES: Mapping[int, Phase] = {
    pb.NonFinite.PHASE_VALUE: "value",
    pb.NonFinite.PHASE_GRADIENT: "gradient",
    pb.NonFinite.PHASE_REDUCTION: "reduction",
}


@dataclass(frozen=True, slots=True)
class NonFinite:
    """The first value or gradient that is infinite or not a number."""

    phase: Phase
    """Where it arose: as the node's value, in its backward step, or in the sum over examples."""
    node: str
    """Name of the node that made it, or its label, such as ``log_3``, if it has none."""
    example: int | None
    """Which example, counted from 0; None if the node does not depend on examples."""
    position: tuple[int, ...]
    """Where in the tensor of one example."""
    value: float
    operands: tuple[tuple[str, float], ...]
    """Name and value of each operand of the node, at that element."""

    def __str__(self) -> str:
        where = f" at {list(self.position)}" if self.position else ""
        example = "" if self.example is None else f" of example {self.example}"
        operands = ", ".join(f"{name} = {value:g}" for name, value in self.operands)
        return f"{self.phase} {self.value:g} at node {self.node}{where}{example}" + (
            f", from {operands}" * bool(operands)
        )


class Told(NamedTuple):
    """What an answer says beside its tensors."""

    non_finite: NonFinite | None
    compute_seconds: float
    examples: int
    blocks: int


@dataclass(slots=True)
class Result:
    """The whole answer to a call."""

    loss: Any
    """A scalar of NumPy, or ``[N]`` if nothing is reduced."""
    gradients: Any
    """Arrays by source; or nested like the arguments of a function. ``[*shape]``, or ``[N, *shape]`` of per-example
    inputs and if nothing is reduced."""
    outputs: Any
    """What ``outputs=`` asked for, by name; or what a function with ``has_aux`` returned beside the loss. ``[*shape]``,
    or ``[N, *shape]`` if it depends on examples."""
    _told: Told | bytes = field(repr=False)
    """What it says beside these; serialized until somebody asks for it, which few calls do."""
    request_id: str | None
    """Id of the call, by which the server's log has it; a stream is one call. None if there is no server."""
    flat: dict[str, Array] | None = field(default=None, repr=False)
    """Gradients before they were nested; None if nothing is. Read ``by_name``."""

    @property
    def by_name(self) -> dict[str, Array]:
        """Gradients by source, or by leaf of an argument, such as ``params.layers.0.w``, however they are nested."""
        found: dict[str, Array] = self.gradients if self.flat is None else self.flat
        return found

    @property
    def non_finite(self) -> NonFinite | None:
        """The first number that is not finite; None if every value and gradient is finite."""
        return self._read().non_finite

    @property
    def compute_seconds(self) -> float:
        """Time inside the engine."""
        return self._read().compute_seconds

    @property
    def examples(self) -> int:
        """N; 1 if there are no per-example inputs."""
        return self._read().examples

    @property
    def blocks(self) -> int:
        """Blocks of examples that were run one after another."""
        return self._read().blocks

    def _read(self) -> Told:
        if isinstance(self._told, bytes):
            try:
                self._told = decode_told(pb.ComputeGradientsResponse.FromString(self._told))
            except DecodeError as error:
                raise ServerError(f"the server sent a response that makes no sense: {error}") from None
        return self._told


def decode_told(response: pb.ComputeGradientsResponse) -> Told:
    """What a response says beside its tensors."""
    stats = response.stats
    seconds = stats.compute_time.seconds + stats.compute_time.nanos / 1e9
    return Told(_non_finite(response), seconds, stats.examples, stats.blocks)


def _non_finite(response: pb.ComputeGradientsResponse | pb.TraceGraphResponse) -> NonFinite | None:
    if not response.HasField("non_finite"):
        return None
    report = response.non_finite
    phase = _PHASES.get(report.phase)
    if phase is None:
        raise ServerError(
            f"the server sent a report of no known phase, {report.phase}; it may be newer than this client"
        )
    return NonFinite(
        phase=phase,
        node=report.name,
        example=report.example if report.HasField("example") else None,
        position=tuple(report.position),
        value=report.value,
        operands=tuple((operand.name, operand.value) for operand in report.operands),
    )


@dataclass(frozen=True, slots=True)
class EdgeTrace:
    """What came back along one edge."""

    operand: str
    """Name or label of the operand's node."""
    gradient: Array | None
    """What this consumer adds to the operand's gradient; None for row indices."""


@dataclass(frozen=True, slots=True)
class NodeTrace:
    """What happened at one node."""

    name: str
    """Name, or label if it has none."""
    op: str
    """An op's name, ``parameter``, ``input`` or ``constant``."""
    value: Array
    gradient: Array | None
    """Gradient of the loss in the node's value; None for row indices."""
    operands: tuple[EdgeTrace, ...]


class Trace:
    """Every node's value and every edge's gradient, of one example. A notebook shows it as a picture."""

    def __init__(self, graph: graph_pb2.Graph, response: pb.TraceGraphResponse) -> None:
        self._graph = graph
        self._response = response
        try:
            self._read(graph, response)
        except (ValueError, IndexError) as error:
            raise ServerError(f"the server sent a trace that makes no sense: {error}") from None

    def _read(self, graph: graph_pb2.Graph, response: pb.TraceGraphResponse) -> None:
        names = [node.name for node in response.nodes]
        self.nodes = tuple(
            NodeTrace(
                name=node.name,
                op=node.op,
                value=decode_tensor(node.value),
                gradient=decode_tensor(node.gradient) if node.HasField("gradient") else None,
                operands=tuple(
                    EdgeTrace(names[edge.node], decode_tensor(edge.gradient) if edge.HasField("gradient") else None)
                    for edge in node.operands
                ),
            )
            for node in response.nodes
        )
        """In the order of the graph."""
        self.loss = self.nodes[graph.loss].value[()]
        self.non_finite = _non_finite(response)
        """None if every value and gradient is finite."""

    def __getitem__(self, name: str) -> NodeTrace:
        """The node of this name or label.

        Raises:
            KeyError: There is none.
        """
        for node in self.nodes:
            if node.name == name:
                return node
        from difflib import get_close_matches  # noqa: PLC0415  (only mistakes need it)

        names = [node.name for node in self.nodes]
        close = get_close_matches(str(name), names, n=1)
        hint = f'did you mean "{close[0]}"?' if close else f"there are {', '.join(names[:_LISTED])}"
        more = ", ..." if not close and len(names) > _LISTED else ""
        raise KeyError(f'no node has the name or label "{name}"; {hint}{more}')

    def save(self, path: str | Path, *, title: str | None = None, dark: bool = False) -> None:
        """Write the picture: values in the boxes, gradients on the edges.

        By the suffix it is a page for a browser (``.html``), an image (``.svg`` or ``.png``) or a table (``.txt``).
        Images are for a light page, with ``dark`` for a dark one; a page takes the colours of its browser.

        Raises:
            GradwireError: The graph is too large (over 20,000 nodes for a page, over 200 for an image), the suffix is
                another one or has no dark image, or the libraries for images are missing.
            OSError: The file cannot be written.
        """
        from gradwire._pictures.saving import save_picture  # noqa: PLC0415  (only pictures need it)

        save_picture(self._graph, path, self._response, title=title, dark=dark)

    def show(self, *, title: str | None = None) -> Path:
        """Open the page of the trace in a browser: step through the pass, and see rules and paths with their numbers.

        Returns:
            The page's file, a temporary one, for where there is no browser.

        Raises:
            GradwireError: The graph has over 20,000 nodes.
        """
        from gradwire._pictures.saving import show  # noqa: PLC0415  (as above)

        return show(self._graph, self._response, title=title)

    def _repr_svg_(self) -> str | None:
        from gradwire._pictures.saving import svg_of  # noqa: PLC0415  (as above)

        return svg_of(self._graph, self._response)

    def __repr__(self) -> str:
        return f"<trace of {len(self.nodes)} nodes, loss {self.loss:g}>"


@dataclass(frozen=True, slots=True)
class SourceCheck:
    """How well the gradient in one source agrees with finite differences."""

    name: str
    passed: bool
    probed: int
    """Elements probed."""
    failed: int
    """Elements that do not agree."""
    worst_position: tuple[int, ...]
    analytic: float
    """The gradient at the element that agrees least."""
    numeric: float
    """The central difference there."""
    relative_error: float
    step_too_large: bool = False
    """Whether the difference is another one at a smaller step, so that this one says nothing of the gradient."""


@dataclass(frozen=True, slots=True)
class CheckReport:
    """The gradient against central finite differences."""

    passed: bool
    sources: tuple[SourceCheck, ...]

    def __bool__(self) -> bool:
        return self.passed

    def __str__(self) -> str:
        lines = [
            f"{s.name}: {'passed' if s.passed else 'FAILED'}, {s.failed} of {s.probed} probed elements disagree; "
            f"worst at {list(s.worst_position)}: analytic {s.analytic:.9g}, numeric {s.numeric:.9g}"
            + ("; the step is too large to tell, give a smaller one" if s.step_too_large else "")
            for s in self.sources
        ]
        return "\n".join(lines) or "nothing to check"


def decode_check(response: pb.CheckGradientsResponse) -> CheckReport:
    """The report of a response."""
    return CheckReport(
        passed=response.passed,
        sources=tuple(
            SourceCheck(
                name=source.name,
                passed=source.passed,
                probed=source.probed,
                failed=source.failed,
                worst_position=tuple(source.worst_position),
                analytic=source.analytic,
                numeric=source.numeric,
                relative_error=source.relative_error,
                step_too_large=source.step_too_large,
            )
            for source in response.sources
        ),
    )


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """What a server says of itself."""

    version: str
    ops: Mapping[str, str]
    """What each op computes, by its name."""
    limits: Mapping[str, int]
    """By setting; each worker process has them for itself."""
    workers: int
    """Processes that share the server's port."""


def decode_info(response: pb.GetServerInfoResponse) -> ServerInfo:
    """The info of a response."""
    return ServerInfo(
        version=response.version,
        ops={op.name: op.summary for op in response.ops},
        limits={limit.setting: limit.value for limit in response.limits},
        workers=max(1, response.workers),
    )
