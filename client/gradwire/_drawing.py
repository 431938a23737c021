"""Pictures of graphs, as one draws them on a blackboard: values in the boxes, gradients on the edges.

The layout is igraph's, the drawing matplotlib's; both come with ``pip install 'gradwire[demo]'``.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from gradwire._arrays import decode_tensor
from gradwire._errors import GradwireError
from gradwire.v1 import gradient_service_pb2, graph_pb2, tensor_pb2

if TYPE_CHECKING:
    import igraph
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAX_NODES = 200
"""Nodes beyond which a picture tells nothing any more."""

_SHOWN_ELEMENTS = 4
_SYMBOLS = {
    "add": "+",
    "mul": "×",
    "sigmoid": "σ",
    "sum": "Σ",
    "matmul": "@",
    "transpose": "( )ᵀ",
    "reduce_max": "max over axes",
}

# Inches, and the colours of chalk.
_CHARACTER, _LINE, _PADDING = 0.098, 0.235, 0.16
_ROW_GAP, _LABEL_GAP = 0.42, 0.5
_BOARD, _CHALK, _FAINT = "#22332d", "#f4f1e6", "#9fb3a8"
_EDGES = {"parameter": "#ffd166", "input": "#8ecae6", "constant": _FAINT}
_GRADIENT = "#ff9f6b"
_FONT = 10.5


@dataclass(frozen=True)
class _Box:
    lines: tuple[str, ...]
    colour: str

    @property
    def width(self) -> float:
        return max(map(len, self.lines)) * _CHARACTER + 2 * _PADDING

    @property
    def height(self) -> float:
        return len(self.lines) * _LINE + _PADDING


def draw(
    graph: graph_pb2.Graph,
    trace: gradient_service_pb2.TraceGraphResponse | None = None,
    *,
    title: str | None = None,
) -> Figure:
    """A figure of a graph, operands on the left and the loss on the right.

    Args:
        graph: At most 200 nodes.
        trace: Values for the boxes and gradients for the edges; without it the boxes show shapes of sources only.
        title: A line above.

    Raises:
        GradwireError: The graph is too large to be seen, or the libraries for pictures are missing.
    """
    count = len(graph.nodes)
    if count > MAX_NODES:
        raise GradwireError(f"the graph has {count} nodes; a picture shows at most {MAX_NODES}")
    try:
        from matplotlib.figure import Figure  # noqa: PLC0415  (pictures are optional)
    except ImportError as error:
        raise _missing(error) from error
    boxes = [_box(graph, trace, index) for index in range(count)]
    labels = _gradients(graph, trace)
    places, bends = _layout(graph, boxes, labels)
    figure = Figure(facecolor=_BOARD)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    for (node, slot), bend in bends.items():
        operands = _operands(graph.nodes[node])
        # Edges between the same two boxes run beside each other.
        twins = [other for other, operand in enumerate(operands) if operand == operands[slot]]
        aside = ((len(twins) - 1) / 2 - twins.index(slot)) * _LINE
        _draw_edge(axes, places, boxes, operands[slot], node, bend, labels.get((node, slot)), aside)
    for box, (x, y) in zip(boxes, places, strict=True):
        _draw_box(axes, box, x, y)
    _frame(figure, axes, graph, boxes, places, title, traced=trace is not None)
    return figure


def save_picture(
    graph: graph_pb2.Graph,
    path: str | Path,
    trace: gradient_service_pb2.TraceGraphResponse | None = None,
    *,
    title: str | None = None,
) -> None:
    """Write the picture of a graph to a file, as SVG or PNG by its suffix; arguments and errors as for ``draw``."""
    target = Path(path)
    if target.suffix not in (".svg", ".png"):
        raise GradwireError(f"{target.name} is neither .svg nor .png; a picture is written as one of them")
    figure = draw(graph, trace, title=title)
    figure.savefig(target, dpi=150, metadata={"Date": None} if target.suffix == ".svg" else None)


def svg_of(graph: graph_pb2.Graph, trace: gradient_service_pb2.TraceGraphResponse | None = None) -> str | None:
    """A graph as SVG, for notebooks; None if it is too large or the libraries are missing."""
    try:
        figure = draw(graph, trace)
    except GradwireError:
        return None
    target = io.StringIO()
    figure.savefig(target, format="svg", metadata={"Date": None})
    return target.getvalue()


def _missing(error: ImportError) -> GradwireError:
    return GradwireError(f"pictures need {error.name}: pip install 'gradwire[demo]'")


def _operands(node: graph_pb2.Node) -> list[int]:
    box = getattr(node, node.WhichOneof("kind") or "constant")
    return list(getattr(box, "operands", ()))


def _box(graph: graph_pb2.Graph, trace: gradient_service_pb2.TraceGraphResponse | None, index: int) -> _Box:
    node = graph.nodes[index]
    kind = node.WhichOneof("kind") or "constant"
    symbol = f"( )^{node.power.exponent:g}" if kind == "power" else _SYMBOLS.get(kind, kind)
    value = None if trace is None else _text(trace.nodes[index].value)
    if kind == "constant":
        lines = [value or _text(node.constant.value)]
    elif kind in ("parameter", "input"):
        shape = tuple(getattr(node, kind).shape)
        lines = [node.name, value or (f"shape {shape}" if shape else "scalar")]
    else:
        lines = [f"{symbol}   {node.name}" if node.name else symbol, *([value] if value else [])]
    return _Box(tuple(lines), _EDGES.get(kind, _CHALK))


def _text(tensor: tensor_pb2.Tensor) -> str:
    array = decode_tensor(tensor)
    if array.ndim == 0:
        return _number(array.item())
    few = ", ".join(map(_number, array.flat[:_SHOWN_ELEMENTS]))
    if array.ndim == 1 and array.size <= _SHOWN_ELEMENTS:
        return f"[{few}]"
    return f"[{few}{', …' if array.size > _SHOWN_ELEMENTS else ''}] {array.shape}"


def _number(value: float) -> str:
    return f"{float(value) + 0.0:.4g}".replace("-", "−")


def _gradients(
    graph: graph_pb2.Graph, trace: gradient_service_pb2.TraceGraphResponse | None
) -> dict[tuple[int, int], str]:
    """The gradient on each edge, by node and slot; none into constants, which nobody asks for."""
    if trace is None:
        return {}
    return {
        (node, slot): _text(edge.gradient)
        for node, traced in enumerate(trace.nodes)
        for slot, edge in enumerate(traced.operands)
        if edge.HasField("gradient") and graph.nodes[edge.node].WhichOneof("kind") != "constant"
    }


Point = tuple[float, float]


def _layers(graph: graph_pb2.Graph) -> list[int]:
    """Columns: an operation right of its operands, a source just left of its first consumer."""
    depth = [0] * len(graph.nodes)
    first_use: dict[int, int] = {}
    for index, node in enumerate(graph.nodes):
        operands = _operands(node)
        depth[index] = 1 + max((depth[operand] for operand in operands), default=-1)
        for operand in operands:
            first_use[operand] = min(first_use.get(operand, depth[index]), depth[index])
    sources = {index for index, node in enumerate(graph.nodes) if not _operands(node)}
    return [first_use[i] - 1 if i in sources and i in first_use else depth[i] for i in range(len(depth))]


def _layout(
    graph: graph_pb2.Graph, boxes: list[_Box], labels: dict[tuple[int, int], str]
) -> tuple[list[Point], dict[tuple[int, int], list[Point]]]:
    """The centre of each box, and the points that each edge bends at, in inches."""
    try:
        import igraph  # noqa: PLC0415  (pictures are optional)
    except ImportError as error:
        raise _missing(error) from error
    layers = _layers(graph)
    edges = {(n, s): o for n, node in enumerate(graph.nodes) for s, o in enumerate(_operands(node))}
    network: igraph.Graph = igraph.Graph(n=len(boxes), edges=[(o, n) for (n, _), o in edges.items()], directed=True)
    layout = network.layout_sugiyama(layers=layers, hgap=1, vgap=1, maxiter=500)
    columns = _columns(layers, boxes, labels)
    rows = _apart([at[0] for at in layout.coords], layers)
    pitch = max(box.height for box in boxes) + _ROW_GAP

    # igraph's layers lie below each other, ours beside each other.
    places = [(columns[layer], -row * pitch) for layer, row in zip(layers, rows, strict=True)]
    bends = {
        key: [(columns[round(layer)], -row * pitch) for row, layer in bend]
        for key, bend in zip(edges, layout.edge_routing, strict=True)
    }
    return places, bends


def _apart(rows: list[float], layers: list[int]) -> list[float]:
    """Rows with at least 1 between boxes of a column, which igraph does not always keep."""
    moved = list(rows)
    for layer in set(layers):
        column = sorted((index for index, at in enumerate(layers) if at == layer), key=lambda index: rows[index])
        for above, below in pairwise(column):
            moved[below] = max(moved[below], moved[above] + 1)
        shift = sum(moved[index] - rows[index] for index in column) / len(column)
        for index in column:
            moved[index] -= shift
    return moved


def _columns(layers: list[int], boxes: list[_Box], labels: dict[tuple[int, int], str]) -> list[float]:
    """The middle of each column: as wide as its widest box, with room for the widest gradient between."""
    widths = [0.0] * (max(layers) + 1)
    for layer, box in zip(layers, boxes, strict=True):
        widths[layer] = max(widths[layer], box.width)
    gaps = [_LABEL_GAP] * len(widths)
    for (node, _), label in labels.items():
        before = layers[node] - 1
        gaps[before] = max(gaps[before], _LABEL_GAP + 0.35 + len(label) * _CHARACTER)
    middles, edge = [], 0.0
    for width, gap in zip(widths, gaps, strict=True):
        middles.append(edge + width / 2)
        edge += width + gap
    return middles


def _draw_box(axes: Axes, box: _Box, x: float, y: float) -> None:
    from matplotlib.patches import FancyBboxPatch  # noqa: PLC0415  (pictures are optional)

    corner = (x - box.width / 2, y - box.height / 2)
    style = "round,pad=0,rounding_size=0.1"
    axes.add_patch(
        FancyBboxPatch(
            corner,
            box.width,
            box.height,
            boxstyle=style,
            facecolor=_BOARD,
            edgecolor=box.colour,
            linewidth=1.4,
            zorder=3,
        )
    )
    for number, line in enumerate(box.lines):
        height = y + (len(box.lines) / 2 - number - 0.5) * _LINE
        colour = _CHALK if number or len(box.lines) == 1 else box.colour
        axes.text(x, height, line, color=colour, fontsize=_FONT, ha="center", va="center", zorder=4)


def _draw_edge(
    axes: Axes,
    places: list[Point],
    boxes: list[_Box],
    operand: int,
    node: int,
    bend: list[Point],
    label: str | None,
    aside: float,
) -> None:
    from matplotlib.patches import FancyArrowPatch  # noqa: PLC0415  (pictures are optional)
    from matplotlib.path import Path as Curve  # noqa: PLC0415

    (x0, y0), (x1, y1) = places[operand], places[node]
    points = [(x0 + boxes[operand].width / 2, y0 + aside), *bend, (x1 - boxes[node].width / 2 - 0.03, y1 + aside)]
    vertices, codes = [points[0]], [Curve.MOVETO]
    for (left, low), (right, high) in pairwise(points):
        reach = (right - left) / 2
        vertices += [(left + reach, low), (right - reach, high), (right, high)]
        codes += [Curve.CURVE4] * 3
    axes.add_patch(
        FancyArrowPatch(path=Curve(vertices, codes), arrowstyle="-|>", mutation_scale=11, color=_FAINT, linewidth=1.2)
    )
    if label is not None:
        # Near the consumer, where edges of one operand have parted.
        (left, low), (right, high) = points[-2:]
        axes.text(
            (left + right) / 2,
            (low + high) / 2,
            label,
            color=_GRADIENT,
            fontsize=_FONT,
            ha="center",
            va="center",
            zorder=2,
            bbox={"facecolor": _BOARD, "edgecolor": "none", "pad": 1.5},
        )


def _frame(
    figure: Figure,
    axes: Axes,
    graph: graph_pb2.Graph,
    boxes: list[_Box],
    places: list[Point],
    title: str | None,
    *,
    traced: bool,
) -> None:
    """The size of the figure, its title, and the key to its colours."""
    left = min(x - box.width / 2 for box, (x, _) in zip(boxes, places, strict=True)) - 0.35
    right = max(x + box.width / 2 for box, (x, _) in zip(boxes, places, strict=True)) + 0.35
    low = min(y - box.height / 2 for box, (_, y) in zip(boxes, places, strict=True)) - 0.75
    high = max(y + box.height / 2 for box, (_, y) in zip(boxes, places, strict=True)) + (0.75 if title else 0.35)
    right = max(right, left + 6.2)
    if traced and graph.loss < len(places):
        x, y = places[graph.loss]
        start = x + boxes[graph.loss].width / 2
        axes.annotate("", (start, y), (start + 0.45, y), arrowprops={"arrowstyle": "-", "color": _FAINT})
        axes.text(start + 0.55, y, "1", color=_GRADIENT, fontsize=_FONT, ha="left", va="center")
        right = max(right, start + 1.0)
    axes.set_xlim(left, right)
    axes.set_ylim(low, high)
    figure.set_size_inches(right - left, high - low)
    if title:
        axes.text(left + 0.35, high - 0.32, title, color=_CHALK, fontsize=13, ha="left", va="center")
    key = [("parameter", _EDGES["parameter"]), ("input", _EDGES["input"]), ("constant", _FAINT), ("operation", _CHALK)]
    if traced:
        key.append(("gradient of the loss, on the edges", _GRADIENT))
    x = left + 0.35
    for text, colour in key:
        axes.text(x, low + 0.3, text, color=colour, fontsize=9, ha="left", va="center")
        x += len(text) * 0.082 + 0.3
