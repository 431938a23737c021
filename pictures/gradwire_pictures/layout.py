"""Where the boxes of a picture are, and how its edges run. The layout is igraph's, the widths matplotlib's."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING

from gradwire._pictures.checking import missing

if TYPE_CHECKING:
    import igraph

# Inches, and points of the font.
LINE, PADDING = 0.235, 0.2
FONT = 10.5
_ROW_GAP, _LABEL_GAP = 0.42, 1.0

Point = tuple[float, float]


@dataclass(frozen=True)
class Box:
    """A box, and the edges that come to it."""

    lines: tuple[str, ...]
    colour: str
    operands: tuple[int, ...]
    """Boxes that its edges come from."""
    gradients: tuple[str, ...]
    """What is written on each of these edges; empty for nothing."""

    @cached_property
    def width(self) -> float:
        """In inches, as all lengths."""
        return max(map(width_of, self.lines)) + 2 * PADDING

    @cached_property
    def height(self) -> float:
        """Room for the lines, and for as many edges from one operand."""
        return max(len(self.lines), *Counter(self.operands).values(), 1) * LINE + 0.8 * PADDING


@dataclass(frozen=True)
class Rectangle:
    """Where something is drawn."""

    left: float
    low: float
    right: float
    high: float

    @classmethod
    def around(cls, x: float, y: float, width: float, height: float) -> Rectangle:
        """One with its centre at ``x`` and ``y``."""
        return cls(x - width / 2, y - height / 2, x + width / 2, y + height / 2)

    def overlaps(self, other: Rectangle) -> bool:
        """Whether the two have an area in common."""
        return self.left < other.right and other.left < self.right and self.low < other.high and other.low < self.high


def _layers(boxes: list[Box]) -> list[int]:
    """Columns: an operation right of its operands, a source just left of its first consumer."""
    depth: list[int] = []
    first_use: dict[int, int] = {}
    for box in boxes:
        depth.append(1 + max((depth[operand] for operand in box.operands), default=-1))
        for operand in box.operands:
            first_use[operand] = min(first_use.get(operand, depth[-1]), depth[-1])
    return [depth[i] if box.operands else first_use.get(i, 1) - 1 for i, box in enumerate(boxes)]


def layout(boxes: list[Box]) -> tuple[list[Point], dict[tuple[int, int], list[Point]]]:
    """The centre of each box, and the points that each edge bends at, in inches."""
    try:
        import igraph  # noqa: PLC0415  (pictures are optional)
    except ImportError as error:
        raise missing(error) from error
    layers = _layers(boxes)
    edges = {(number, slot): o for number, box in enumerate(boxes) for slot, o in enumerate(box.operands)}
    network: igraph.Graph = igraph.Graph(
        n=len(boxes), edges=[(o, number) for (number, _), o in edges.items()], directed=True
    )
    found = network.layout_sugiyama(layers=layers, hgap=1, vgap=1, maxiter=500)
    columns = _columns(layers, boxes)
    rows = _apart([at[0] for at in found.coords], layers)
    pitch = max(box.height for box in boxes) + _ROW_GAP

    # igraph's layers lie below each other, ours beside each other.
    places = [(columns[layer], -row * pitch) for layer, row in zip(layers, rows, strict=True)]
    bends = {
        key: [(columns[round(layer)], -row * pitch) for row, layer in bend]
        for key, bend in zip(edges, found.edge_routing, strict=True)
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


def _columns(layers: list[int], boxes: list[Box]) -> list[float]:
    """The middle of each column: as wide as its widest box, with room for the widest gradient between."""
    widths = [0.0] * (max(layers) + 1)
    gaps = [0.0] * len(widths)
    for layer, box in zip(layers, boxes, strict=True):
        widths[layer] = max(widths[layer], box.width)
        gaps[layer - 1] = max(gaps[layer - 1], *map(width_of, box.gradients), 0.0)
    middles, edge = [], 0.0
    for width, gap in zip(widths, gaps, strict=True):
        middles.append(edge + width / 2)
        edge += width + gap + _LABEL_GAP
    return middles


def width_of(text: str, font: float = FONT) -> float:
    """How wide a text will be, in inches."""
    from matplotlib.font_manager import FontProperties  # noqa: PLC0415  (pictures are optional)
    from matplotlib.textpath import text_to_path  # noqa: PLC0415  (as above)

    points: float = text_to_path.get_text_width_height_descent(text, FontProperties(size=font), ismath=False)[0]
    return points / 72
