"""Pictures: what is in the boxes and on the edges, and that nothing lies on anything else."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

import gradwire as gw
from demo.problem import hinge_loss
from gradwire import _drawing
from tests.losses import Arrays, perceptron

ARRAYS: Arrays = {"w": [0.5, 1.0], "phi": [3.0, -1.0], "y": -1.0}


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.axes[0].texts]


def hinge_figure() -> Figure:
    with gw.connect("local") as client:
        trace = client.trace(hinge_loss(2), ARRAYS)
    return _drawing.draw(trace._graph, trace._response, title="hinge")  # noqa: SLF001  (its messages)


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


@pytest.mark.parametrize("suffix", [".svg", ".png"])
def test_a_trace_is_saved_as_its_suffix_says(tmp_path: Path, suffix: str) -> None:
    with gw.connect("local") as client:
        client.trace(hinge_loss(2), ARRAYS).save(tmp_path / f"hinge{suffix}")
    content = (tmp_path / f"hinge{suffix}").read_bytes()
    if suffix == ".svg":
        assert ET.fromstring(content).tag == "{http://www.w3.org/2000/svg}svg"  # noqa: S314  (our own file)
    else:
        assert content.startswith(b"\x89PNG")


def test_another_suffix_is_refused(tmp_path: Path) -> None:
    with pytest.raises(gw.GradwireError, match=r"a\.pdf is neither \.svg nor \.png"):
        gw.save_picture(gw.graph(hinge_loss(2)), tmp_path / "a.pdf")


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
    chain = gw.parameter("s")
    for _ in range(300):
        chain = gw.tanh(chain)
    assert chain._repr_svg_() is None
    with pytest.raises(gw.GradwireError, match=r"301 nodes.*200"):
        _drawing.draw(gw.graph(chain))
