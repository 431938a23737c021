"""Pictures of graphs: values in the boxes, gradients on the edges.

The layout is igraph's, the drawing matplotlib's; both come with ``pip install 'gradwire[pictures]'``.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import TYPE_CHECKING, Literal

from gradwire._arrays import decode_tensor
from gradwire._errors import InvalidGraphError
from gradwire._expressions.expression import Expression
from gradwire._graphs.graph import graph as graph_of
from gradwire._pictures.checking import check, missing, operands_of
from gradwire.v1 import gradient_service_pb2, graph_pb2, tensor_pb2
from gradwire_pictures.layout import FONT, LINE, Box, Point, Rectangle, layout, width_of
from gradwire_pictures.palette import BOARD, PAPER, Palette

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.text import Text

MAX_NODES, MAX_OPERANDS = 200, 600
"""Nodes, and operands of all of them, beyond which a picture tells nothing any more."""

_ALL_ELEMENTS, _FEW_ELEMENTS = 4, 2
"""Elements up to which an array is shown as it is, and how many of a larger one."""
_NAME = 40
"""Characters of a name."""
_SYMBOLS = {
    "add": "+",
    "mul": "×",
    "sigmoid": "σ",
    "sum": "Σ",
    "matmul": "@",
    "transpose": "( )ᵀ",
    "reduce_max": "max over axes",
    "logsumexp": "log sum exp over axes",
}

# Inches, points of fonts, and dots of a PNG.
_MARGIN, _KEY_GAP = 0.35, 0.35
_TITLE_FONT, _KEY_FONT = 13, 9
_DPI, _MOST_PIXELS = 150, 60_000  # matplotlib writes no larger PNG than 65,535 pixels each way


def draw(
    graph: Expression | graph_pb2.Graph,
    trace: gradient_service_pb2.TraceGraphResponse | None = None,
    *,
    title: str | None = None,
    dark: bool = False,
) -> Figure:
    """A figure of a graph, operands on the left and the loss on the right.

    Args:
        graph: At most 200 nodes, with 600 operands together; or the scalar expression that it is made of.
        trace: Values for the boxes and gradients for the edges; without it the boxes show shapes of sources only.
        title: A line above.
        dark: Whether it is for a dark page.

    Raises:
        GradwireError: The graph is too large to be seen or breaks a rule, or the libraries for pictures are missing.
    """
    if isinstance(graph, Expression):
        graph = graph_of(graph)
    check(graph, MAX_NODES, MAX_OPERANDS, "a picture")
    try:
        from matplotlib.figure import Figure  # noqa: PLC0415  (pictures are optional)
    except ImportError as error:
        raise missing(error) from error
    palette = BOARD if dark else PAPER
    with _any_script():
        boxes, loss = _boxes(graph, trace, palette)
        places, bends = layout(boxes)
        figure = Figure(facecolor=palette.ground)
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set_axis_off()
        labels = _Labels(axes, palette)
        for (number, slot), bend in bends.items():
            _draw_edge(axes, palette, places, boxes, number, slot, bend, labels)
        for box, (x, y) in zip(boxes, places, strict=True):
            _draw_box(axes, palette, box, x, y)
        if trace is not None:
            _draw_loss(axes, palette, labels, boxes[loss], places[loss])
        extent = _extent(boxes, places, [point for bend in bends.values() for point in bend], labels)
        _frame(figure, axes, palette, extent, title, traced=trace is not None)
    return figure


def image_of(
    graph: graph_pb2.Graph,
    trace: gradient_service_pb2.TraceGraphResponse | None,
    form: Literal["svg", "png"],
    *,
    title: str | None = None,
    dark: bool = False,
) -> bytes:
    """The figure as an image; arguments and errors as for ``draw``."""
    figure = draw(graph, trace, title=title, dark=dark)
    dpi = min(_DPI, _MOST_PIXELS / max(figure.get_size_inches()))
    target = io.BytesIO()
    with _any_script():
        figure.savefig(target, format=form, dpi=dpi, metadata={"Date": None} if form == "svg" else None)
    return target.getvalue()


@contextmanager
def _any_script() -> Iterator[None]:
    """Names may have characters that the font lacks; they are drawn as empty squares, which is telling enough."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"Glyph \d+ .* missing from font", UserWarning)
        yield


def _write(axes: Axes, x: float, y: float, text: str, colour: str, font: float = FONT, align: str = "left") -> Text:
    # A dollar sign is one: names and titles are no formulas of TeX.
    return axes.text(x, y, text, color=colour, fontsize=font, ha=align, va="center", zorder=4, parse_math=False)


# What is drawn.


def _boxes(
    graph: graph_pb2.Graph, trace: gradient_service_pb2.TraceGraphResponse | None, palette: Palette
) -> tuple[list[Box], int]:
    """The boxes, each after its operands, and which of them is the loss.

    A constant has a box at each of its uses, as one would write it: one box for all would draw edges across.
    """
    boxes: list[Box] = []
    places: dict[int, int] = {}

    def place(index: int, operands: tuple[int, ...] = ()) -> int:
        gradients = tuple(_gradient(graph, trace, index, slot) for slot in range(len(operands)))
        boxes.append(_box(graph, trace, palette, index, operands, gradients))
        return len(boxes) - 1

    uses = {(index, operand) for index, node in enumerate(graph.nodes) for operand in operands_of(node)}
    # Copies come first, and so above the rest of a column.
    copies = {use: place(use[1]) for use in sorted(uses) if graph.nodes[use[1]].HasField("constant")}
    copied = {operand for _, operand in copies} - {graph.loss}
    for index, node in enumerate(graph.nodes):
        if index not in copied:
            own = {operand: copies[index, operand] for operand in operands_of(node) if (index, operand) in copies}
            places[index] = place(
                index, tuple(own[operand] if operand in own else places[operand] for operand in operands_of(node))
            )
    return boxes, places[graph.loss]


def _box(
    graph: graph_pb2.Graph,
    trace: gradient_service_pb2.TraceGraphResponse | None,
    palette: Palette,
    index: int,
    operands: tuple[int, ...],
    gradients: tuple[str, ...],
) -> Box:
    node = graph.nodes[index]
    kind = node.WhichOneof("kind") or "constant"
    name = node.name if len(node.name) <= _NAME else f"{node.name[: _NAME - 1]}…"
    symbol = _symbol(node, kind)
    value = None if trace is None else _text(trace.nodes[index].value)
    if kind == "constant":
        lines = [value or _constant(node, index)]
    elif kind in ("parameter", "input"):
        shape = tuple(getattr(node, kind).shape)
        lines = [name, value or (f"shape {shape}" if shape else "scalar")]
    else:
        lines = [f"{symbol}   {name}" if name else symbol, *([value] if value else [])]
    return Box(tuple(lines), palette.of(kind), operands, gradients)


def _symbol(node: graph_pb2.Node, kind: str) -> str:
    if kind == "power":
        return f"( )^{node.power.exponent:g}"
    if kind == "scalars":
        return f"{len(node.scalars.ops):,} operations"
    return _SYMBOLS.get(kind, kind)


def _constant(node: graph_pb2.Node, index: int) -> str:
    try:
        return _text(node.constant.value)
    except ValueError as error:
        raise InvalidGraphError(f"nodes[{index}] is a constant whose elements do not fit its shape: {error}") from error


def _text(tensor: tensor_pb2.Tensor) -> str:
    array = decode_tensor(tensor)
    if array.ndim == 0:
        return _number(array.item())
    if array.size > _ALL_ELEMENTS:
        return f"[{', '.join(map(_number, array.flat[:_FEW_ELEMENTS]))}, …] {array.shape}"
    return f"[{', '.join(map(_number, array.flat))}]{'' if array.ndim == 1 else f' {array.shape}'}"


def _number(value: float) -> str:
    return f"{float(value) + 0.0:.4g}".replace("-", "−")


def _gradient(
    graph: graph_pb2.Graph, trace: gradient_service_pb2.TraceGraphResponse | None, index: int, slot: int
) -> str:
    """The gradient on an edge; none into constants, which nobody asks for."""
    if trace is None:
        return ""
    edge = trace.nodes[index].operands[slot]
    asked = edge.HasField("gradient") and not graph.nodes[edge.node].HasField("constant")
    return _text(edge.gradient) if asked else ""


# How it is drawn.


class _Labels:
    """What is written on the edges, none on another."""

    def __init__(self, axes: Axes, palette: Palette) -> None:
        self._axes = axes
        self._palette = palette
        self.taken: list[Rectangle] = []

    def write(self, text: str, places: list[Point]) -> None:
        """Write a gradient at the first of the places that is free; at the first one if none is."""
        width = width_of(text)
        spots = [Rectangle.around(x, y, width, LINE) for x, y in places]
        free = [n for n, spot in enumerate(spots) if not any(map(spot.overlaps, self.taken))]
        chosen = free[0] if free else 0
        self.taken.append(spots[chosen])
        written = _write(self._axes, *places[chosen], text, self._palette.gradient, align="center")
        written.set(zorder=2, bbox={"facecolor": self._palette.ground, "edgecolor": "none", "pad": 1.5})


def _draw_box(axes: Axes, palette: Palette, box: Box, x: float, y: float) -> None:
    from matplotlib.patches import FancyBboxPatch  # noqa: PLC0415  (pictures are optional)

    corner = (x - box.width / 2, y - box.height / 2)
    style = "round,pad=0,rounding_size=0.1"
    axes.add_patch(
        FancyBboxPatch(
            corner,
            box.width,
            box.height,
            boxstyle=style,
            facecolor=palette.ground,
            edgecolor=box.colour,
            linewidth=1.4,
            zorder=3,
        )
    )
    for number, line in enumerate(box.lines):
        height = y + (len(box.lines) / 2 - number - 0.5) * LINE
        colour = palette.ink if number or len(box.lines) == 1 else box.colour
        _write(axes, x, height, line, colour, align="center")


def _draw_edge(
    axes: Axes,
    palette: Palette,
    places: list[Point],
    boxes: list[Box],
    number: int,
    slot: int,
    bend: list[Point],
    labels: _Labels,
) -> None:
    from matplotlib.patches import FancyArrowPatch  # noqa: PLC0415  (pictures are optional)
    from matplotlib.path import Path as Curve  # noqa: PLC0415

    box = boxes[number]
    operand = box.operands[slot]
    # Edges between the same two boxes run beside each other.
    twins = [other for other, one in enumerate(box.operands) if one == operand]
    aside = (len(twins) - 1) / 2 - twins.index(slot)
    start, end = (aside * min(LINE, one.height / len(twins)) for one in (boxes[operand], box))
    (x0, y0), (x1, y1) = places[operand], places[number]
    points = [(x0 + boxes[operand].width / 2, y0 + start), *bend, (x1 - box.width / 2 - 0.03, y1 + end)]
    vertices, codes = [points[0]], [Curve.MOVETO]
    for (left, low), (right, high) in pairwise(points):
        reach = (right - left) / 2
        vertices += [(left + reach, low), (right - reach, high), (right, high)]
        codes += [Curve.CURVE4] * 3
    axes.add_patch(
        FancyArrowPatch(
            path=Curve(vertices, codes), arrowstyle="-|>", mutation_scale=11, color=palette.faint, linewidth=1.2
        )
    )
    if box.gradients[slot]:
        # Near the consumer, where edges of one operand have parted; further along where edges cross.
        labels.write(
            box.gradients[slot], [_along(points[-2], points[-1], share) for share in (0.5, 0.6, 0.4, 0.7, 0.3)]
        )


def _along(start: Point, end: Point, share: float) -> Point:
    """A point of the curve between two others, as ``_draw_edge`` bends it."""
    across = 1.5 * (1 - share) * share + share**3
    up = 3 * (1 - share) * share**2 + share**3
    return start[0] + across * (end[0] - start[0]), start[1] + up * (end[1] - start[1])


def _draw_loss(axes: Axes, palette: Palette, labels: _Labels, box: Box, place: Point) -> None:
    """The edge that leaves the loss, with the gradient that everything begins with."""
    start, y = place[0] + box.width / 2, place[1]
    axes.plot([start, start + 0.45], [y, y], color=palette.faint, linewidth=1.2)
    labels.write("1", [(start + 0.58, y)])


def _extent(boxes: list[Box], places: list[Point], bends: list[Point], labels: _Labels) -> Rectangle:
    """The rectangle around everything that belongs to the graph."""
    drawn = [
        *(Rectangle.around(x, y, box.width, box.height) for box, (x, y) in zip(boxes, places, strict=True)),
        *(Rectangle(x, y, x, y) for x, y in bends),
        *labels.taken,
    ]
    return Rectangle(
        min(one.left for one in drawn),
        min(one.low for one in drawn),
        max(one.right for one in drawn),
        max(one.high for one in drawn),
    )


def _frame(figure: Figure, axes: Axes, palette: Palette, extent: Rectangle, title: str | None, *, traced: bool) -> None:
    """The size of the figure, its title, and the key to its colours."""
    key = [(kind, palette.of(kind)) for kind in ("parameter", "input", "constant", "operation")]
    if traced:
        key.append(("gradient of the loss, on the edges", palette.gradient))
    x, low = extent.left, extent.low - 0.75
    for text, colour in key:
        _write(axes, x, low + 0.3, text, colour, _KEY_FONT)
        x += width_of(text, _KEY_FONT) + _KEY_GAP
    right, high = max(extent.right, x - _KEY_GAP), extent.high + _MARGIN
    if title:
        high += 0.4
        _write(axes, extent.left, high - 0.32, title, palette.ink, _TITLE_FONT)
        right = max(right, extent.left + width_of(title, _TITLE_FONT))
    axes.set_xlim(extent.left - _MARGIN, right + _MARGIN)
    axes.set_ylim(low, high)
    figure.set_size_inches(right - extent.left + 2 * _MARGIN, high - low)
