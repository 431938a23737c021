"""Pictures: what is in the boxes and on the edges, and that nothing lies on anything else."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

import gradwire as gw
from demo.problem import hinge_loss
from gradwire.v1 import graph_pb2, tensor_pb2
from gradwire_pictures import drawing
from gradwire_pictures.palette import BOARD, PAPER, Palette
from tests.losses import Arrays, perceptron

ARRAYS: Arrays = {"w": [0.5, 1.0], "phi": [3.0, -1.0], "y": -1.0}


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.axes[0].texts]


def traced(loss: gw.Expression | graph_pb2.Graph, arrays: Arrays, title: str | None = None) -> Figure:
    with gw.connect("local") as client:
        trace = client.trace(loss, arrays)
    return drawing.draw(trace._graph, trace._response, title=title)  # noqa: SLF001  (its messages)


def hinge_figure() -> Figure:
    return traced(hinge_loss(2), ARRAYS, "hinge")


def cross_entropy_figure() -> Figure:
    loss = gw.softmax_cross_entropy_with_integer_labels(gw.parameter("z", shape=(3,)), gw.input("i", dtype="int64"))
    return traced(loss, {"z": [1.0, 2.0, 0.5], "i": 1})


def perceptron_figure() -> Figure:
    case = perceptron(1)
    return traced(case.loss, case.arrays | {name: case.arrays[name][0] for name in ("x", "label")})


def small_figure() -> Figure:
    s = gw.parameter("s")
    return traced(s * s * s, {"s": 2.0})


def wide_figure() -> Figure:
    s = gw.parameter("W" * 200)
    return traced(gw.add(s, s, s, s, s, s), {"W" * 200: 2.0}, "W" * 60)


def test_values_are_in_the_boxes_and_gradients_on_the_edges() -> None:
    shown = texts(hinge_figure())
    for expected in [
        "hinge",
        "w",
        "[0.5, 1]",
        "Σ   score",
        "0.5",
        "×   margin",
        "−0.5",
        "max   loss",
        "1.5",
        "[3, −1]",
    ]:
        assert expected in shown or any(expected in text.split("\n") for text in shown), expected


def test_no_box_lies_on_another() -> None:
    figure = hinge_figure()
    figure.canvas.draw()
    boxes = [patch.get_window_extent() for patch in figure.axes[0].patches if isinstance(patch, FancyBboxPatch)]
    assert len(boxes) == 12
    assert not [pair for pair in combinations(boxes, 2) if pair[0].overlaps(pair[1])]


FIGURES = [hinge_figure, cross_entropy_figure, perceptron_figure, small_figure, wide_figure]


@pytest.mark.parametrize("make", FIGURES)
def test_nothing_is_cut_off_and_no_text_lies_on_another(make: Callable[[], Figure]) -> None:
    figure = make()
    figure.canvas.draw()
    [axes] = figure.axes
    written = [text.get_window_extent() for text in axes.texts]
    arrows = [patch.get_window_extent() for patch in axes.patches if isinstance(patch, FancyArrowPatch)]
    boxes = [patch.get_window_extent() for patch in axes.patches if isinstance(patch, FancyBboxPatch)]
    width, height = figure.bbox.size
    for drawn in (*written, *arrows, *boxes):
        assert drawn.x0 > 0
        assert drawn.y0 > 0
        assert drawn.x1 < width
        assert drawn.y1 < height
    texts = [text.get_text() for text in axes.texts]
    pairs = zip(combinations(texts, 2), combinations(written, 2), strict=True)
    assert [names for names, (one, other) in pairs if one.overlaps(other)] == []


def test_the_key_is_below_the_graph() -> None:
    figure = cross_entropy_figure()
    figure.canvas.draw()
    [axes] = figure.axes
    [key] = [text.get_window_extent() for text in axes.texts if text.get_text() == "parameter"]
    arrows = [patch.get_window_extent() for patch in axes.patches if isinstance(patch, FancyArrowPatch)]
    assert len(arrows) > 10
    assert min(arrow.y0 for arrow in arrows) > key.y1


def test_a_constant_stands_where_it_is_used() -> None:
    assert texts(cross_entropy_figure()).count("−1") == 4 + 1  # and one is a gradient


def test_names_and_titles_are_no_formulas(tmp_path: Path) -> None:
    loss = gw.parameter("a$b$") * gw.parameter(r"$\frac$")
    svg = loss._repr_svg_()
    assert svg is not None
    assert texts(drawing.draw(loss))[:2] == ["a$b$", "scalar"]
    gw.save_picture(loss, tmp_path / "title.svg", title=r"$\frac$")


def test_names_of_any_script_are_drawn(tmp_path: Path) -> None:
    loss = gw.exp(gw.parameter("权重"))
    svg = loss._repr_svg_()
    assert svg is not None
    gw.save_picture(loss, tmp_path / "weights.png", title="权重")


def test_a_long_chain_fits_a_png(tmp_path: Path) -> None:
    chain = gw.parameter("s")
    for number in range(150):
        chain = gw.tanh(chain).named(f"a rather long name, of number {number}")
    gw.save_picture(chain, tmp_path / "chain.png")
    assert (tmp_path / "chain.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("suffix", [".svg", ".png"])
def test_a_trace_is_saved_as_its_suffix_says(tmp_path: Path, suffix: str) -> None:
    with gw.connect("local") as client:
        client.trace(hinge_loss(2), ARRAYS).save(tmp_path / f"hinge{suffix}")
    content = (tmp_path / f"hinge{suffix}").read_bytes()
    if suffix == ".svg":
        assert ET.fromstring(content).tag == "{http://www.w3.org/2000/svg}svg"  # noqa: S314  (our own file)
    else:
        assert content.startswith(b"\x89PNG")


@pytest.mark.parametrize(("dark", "ground"), [(False, "#ffffff"), (True, "#22332d")])
def test_an_image_is_for_a_light_page_and_on_demand_for_a_dark_one(tmp_path: Path, ground: str, *, dark: bool) -> None:
    with gw.connect("local") as client:
        client.trace(hinge_loss(2), ARRAYS).save(tmp_path / "trace.svg", dark=dark)
    gw.save_picture(hinge_loss(2), tmp_path / "graph.svg", dark=dark)
    for name in ("trace.svg", "graph.svg"):
        fills = re.findall(r"fill: (#\w+)", (tmp_path / name).read_text())
        assert fills[0] == ground  # of the whole figure, before anything on it


@pytest.mark.parametrize("suffix", [".html", ".txt"])
def test_what_is_no_image_has_no_dark_form(tmp_path: Path, suffix: str) -> None:
    with pytest.raises(gw.UsageError, match="dark is for images, svg or png; found"):
        gw.save_picture(hinge_loss(2), tmp_path / f"graph{suffix}", dark=True)


@pytest.mark.parametrize("palette", [PAPER, BOARD])
def test_every_colour_can_be_read_on_its_ground(palette: Palette) -> None:
    def luminance(colour: str) -> float:
        linear = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour))
        return sum(c * weight for c, weight in zip(linear, (0.2126, 0.7152, 0.0722), strict=True))

    ground = luminance(palette.ground)
    for colour in (palette.ink, palette.faint, palette.parameter, palette.input, palette.gradient):
        low, high = sorted((ground, luminance(colour)))
        assert (high + 0.05) / (low + 0.05) > 4.5, colour  # WCAG 2, AA


def test_another_suffix_is_refused(tmp_path: Path) -> None:
    with pytest.raises(gw.GradwireError, match=r"a\.pdf is none of \.html, \.svg, \.png, \.txt"):
        gw.save_picture(gw.graph(hinge_loss(2)), tmp_path / "a.pdf")


def test_an_expression_is_drawn_as_its_graph(tmp_path: Path) -> None:
    gw.save_picture(hinge_loss(2), tmp_path / "hinge.svg")
    assert texts(drawing.draw(hinge_loss(2))) == texts(drawing.draw(gw.graph(hinge_loss(2))))


def test_what_cannot_be_drawn_is_named(tmp_path: Path) -> None:
    with gw.connect("local") as client:
        trace = client.trace(hinge_loss(2), ARRAYS)
    wrong: Any = trace
    with pytest.raises(gw.UsageError, match=r"found Trace.*expression or a Graph.*trace\.save"):
        gw.save_picture(wrong, tmp_path / "a.svg")
    number: Any = 5
    with pytest.raises(gw.UsageError, match=r"path 5 is int"):
        trace.save(number)


def test_a_name_that_a_trace_does_not_have_is_named() -> None:
    with gw.connect("local") as client:
        trace = client.trace(hinge_loss(2), ARRAYS)
    with pytest.raises(KeyError, match='"scor"; did you mean "score"'):
        trace["scor"]
    with pytest.raises(KeyError, match=r"there are .*phi.*score"):
        trace["zzzz"]


@pytest.mark.parametrize(
    ("graph", "words"),
    [
        (graph_pb2.Graph(), "the loss is node 0, but the graph has 0 nodes"),
        (graph_pb2.Graph(nodes=[graph_pb2.Node()]), "nodes[0] has no kind set"),
        (graph_pb2.Graph(nodes=[graph_pb2.Node(add=graph_pb2.Add(operands=[0, 7]))]), "nodes[0] has operand 0"),
        (graph_pb2.Graph(nodes=[graph_pb2.Node(parameter=graph_pb2.Parameter())], loss=9), "the loss is node 9"),
        (
            graph_pb2.Graph(
                nodes=[graph_pb2.Node(constant=graph_pb2.Constant(value=tensor_pb2.Tensor(shape=[2], raw=b"123")))]
            ),
            "nodes[0] is a constant whose elements do not fit",
        ),
        (graph_pb2.Graph(nodes=[graph_pb2.Node(add=graph_pb2.Add(operands=[0] * 601))]), "601 operands"),
    ],
)
def test_a_graph_that_breaks_the_rules_is_refused(graph: graph_pb2.Graph, words: str) -> None:
    with pytest.raises(gw.GradwireError, match=re.escape(words)):
        drawing.draw(graph)


def test_a_notebook_shows_expressions_and_traces() -> None:
    svg = perceptron().loss._repr_svg_()
    assert svg is not None
    assert "<svg" in svg
    with gw.connect("local") as client:
        svg = client.trace(hinge_loss(2), ARRAYS)._repr_svg_()
    assert svg is not None
    assert "<svg" in svg


def test_what_has_no_picture_is_shown_as_text() -> None:
    assert gw.parameter("w", shape=(3,))._repr_svg_() is None
    chain = gw.parameter("s", shape=(1,))
    for _ in range(300):
        chain = gw.tanh(chain)
    assert gw.sum(chain)._repr_svg_() is None
    with pytest.raises(gw.GradwireError, match=r"302 nodes.*200"):
        drawing.draw(gw.graph(gw.sum(chain)))


def test_packed_operations_are_one_box_that_says_how_many() -> None:
    chain = gw.parameter("s")
    for _ in range(1234):
        chain = gw.tanh(chain)
    assert chain._repr_svg_() is not None
    assert {"s", "1,234 operations", "take"} <= set(texts(drawing.draw(chain)))
    assert "1,234 operations" in texts(traced(gw.graph(chain), {"s": 0.0}))
