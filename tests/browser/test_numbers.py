"""The numbers on the page are the engine's."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Locator, Page, expect

import gradwire as gw
from demo.problem import hinge_loss
from tests.browser.conftest import Opener, traced
from tests.browser.losses import by_hand, doubled, elementwise, layers, not_a_number, penalised

TRACES: list[Callable[[], gw.Trace]] = [penalised, layers, elementwise, by_hand, not_a_number]


ROWS = """rows => rows.map(row => [
    row.querySelector("th").innerText, row.querySelector(".v").title, row.querySelector(".g")?.title ?? null
])"""
"""Name of each node, its value and its gradient, these in full."""


def parsed(title: str) -> list[float]:
    return [float(number) for number in title.split(", ") if number != "…"]


def numbers(shown: Locator) -> list[float]:
    """The exact numbers behind what is shown."""
    title = shown.get_attribute("title")
    assert title is not None
    return parsed(title)


def select(page: Page, node: int) -> None:
    page.locator(f"#list [data-node='{node}']").click()
    expect(page.locator(f".box[data-key='n{node}']")).to_have_attribute("aria-pressed", "true")


def texts(found: Locator) -> list[str]:
    return [" ".join(text.split()) for text in found.all_inner_texts()]


@pytest.mark.parametrize("make", TRACES, ids=lambda make: make.__name__)
def test_the_table_has_every_value_and_gradient_in_full(opened: Opener, make: Callable[[], gw.Trace]) -> None:
    trace = make()
    page = opened(trace)
    page.locator("#list summary").click()
    expect(page.locator("#list tbody tr")).to_have_count(len(trace.nodes))
    rows = page.locator("#list tbody tr").evaluate_all(ROWS)
    for node, (name, value, gradient) in zip(trace.nodes, rows, strict=True):
        assert name == node.name
        np.testing.assert_array_equal(parsed(value), node.value.ravel())
        assert (gradient is None) == (node.gradient is None or node.op == "constant")
        if gradient is not None:
            assert node.gradient is not None
            np.testing.assert_array_equal(parsed(gradient), node.gradient.ravel())


@pytest.mark.parametrize("make", [penalised, elementwise, by_hand, not_a_number], ids=lambda make: make.__name__)
def test_the_panel_has_every_edge_and_its_local_derivative(opened: Opener, make: Callable[[], gw.Trace]) -> None:
    trace = make()
    page = opened(trace)
    page.locator("#list summary").click()
    for index, node in enumerate(trace.nodes):
        if not node.operands:
            continue
        select(page, index)
        for edge, row in zip(node.operands, page.locator("#panel tbody tr").all(), strict=True):
            if trace[edge.operand].op == "constant":
                continue
            upstream, sent = row.locator("td").last.locator(".g").all()
            assert edge.gradient is not None
            assert node.gradient is not None
            np.testing.assert_array_equal(numbers(upstream), [node.gradient])
            np.testing.assert_array_equal(numbers(sent), [edge.gradient])
            if np.isfinite(edge.gradient):
                local = float(row.locator("td").first.inner_text().split(" = ")[-1].replace("−", "-").strip("()"))
                assert local * node.gradient == pytest.approx(edge.gradient, rel=1e-5)


def test_values_are_in_the_boxes_and_gradients_on_the_edges(opened: Opener) -> None:
    page = opened(traced(hinge_loss(2), {"w": [0.5, 1.0], "phi": [3.0, -1.0], "y": -1.0}), title="hinge")
    expect(page.locator("h1")).to_have_text("hinge")
    expect(page.locator("#summary")).to_have_text("loss = 1.5 · 12 nodes · one example")
    values = {box.get_attribute("aria-label") for box in page.locator(".box").all()}
    assert values >= {
        "parameter w, value [0.5, 1], gradient [3, −1]",
        "sum score, value 0.5, gradient 1, of ×",
        "max loss, value 1.5, gradient 1, of +, constant",
    }
    edges = [text.strip() for text in page.locator(".label > .gradient").all_text_contents()]
    assert sorted(edges) == sorted(["[3, −1]", "[0.5, 1]", "[1, 1]", "1", "−0.5", "−1", "1", "1"])


def test_the_paths_of_a_parameter_are_written_out_and_add_up(opened: Opener) -> None:
    trace = penalised()
    page = opened(trace)
    page.locator("#panel").get_by_role("button", name="w1").click()
    panel = page.locator("#panel")
    expect(panel.locator("h3").last).to_have_text("3 paths to the loss")
    assert texts(panel.locator(".stops")) == [
        "loss ← hinge ← + ← × ← margin ← score ← × ← w1",
        "loss ← × ← square ← × ← w1",
        "loss ← × ← square ← × ← w1",
    ]
    assert texts(panel.locator(".product")) == [
        "1 · 1 · 1 · (−1) · (−1) · 1 · 3 = 3",
        "1 · 0.25 · 1 · 0.5 = 0.125",
        "1 · 0.25 · 1 · 0.5 = 0.125",
    ]
    found = [numbers(one)[0] for one in panel.locator(".product .g").all()]
    assert sum(found) == trace["w1"].gradient == 3.25
    assert numbers(panel.locator(".total .g").last) == [3.25]


def test_a_path_alone_shows_its_local_derivatives_on_the_edges(opened: Opener) -> None:
    page = opened(penalised())
    page.locator("#panel").get_by_role("button", name="w1").click()
    expect(page.locator(".edge.lit")).to_have_count(7 + 4 + 1)
    path = page.locator(".path").first
    path.click()
    expect(path).to_have_attribute("aria-pressed", "true")
    expect(page.locator(".edge.lit")).to_have_count(7)
    shown = page.locator(".label.alone .local")
    assert sorted(shown.all_text_contents()) == sorted(["× 1", "× 1", "× 1", "× −1", "× −1", "× 1", "× 3"])
    path.click()
    expect(page.locator(".edge.lit")).to_have_count(12)


def test_paths_of_tensors_are_products_of_jacobians_with_what_arrives(opened: Opener) -> None:
    trace = layers()
    page = opened(trace)
    page.locator("#panel").get_by_role("button", name="layer3.b").click()
    products = texts(page.locator(".product"))
    # Both operands of the square: the gradient is two halves, which meet at a tensor.
    assert len(products) == 2
    assert all("∂layer3.out ∕ ∂+" in product for product in products)
    assert trace["layer3.b"].gradient is not None
    np.testing.assert_array_equal(numbers(page.locator("#panel .total .g")), trace["layer3.b"].gradient)


def test_of_many_paths_the_largest_are_shown_and_all_are_counted(opened: Opener) -> None:
    page = opened(doubled(10))
    page.locator("#panel").get_by_role("button", name="x").click()
    expect(page.locator("#panel h3").last).to_have_text("1,024 paths to the loss")
    expect(page.locator(".path")).to_have_count(20)
    expect(page.locator("#panel")).to_contain_text("the other 1,004 are in the sum as well")
    assert numbers(page.locator("#panel .total .g").last) == [1024.0]


def test_the_largest_paths_come_first(opened: Opener) -> None:
    x = gw.parameter("x")
    node: Any = gw.add(*(x * float(factor) for factor in range(1, 31)))
    page = opened(traced(node * node, {"x": 0.5}))
    page.locator("#panel").get_by_role("button", name="x").click()
    found = [abs(numbers(one)[0]) for one in page.locator(".product .g").all()]
    # 30 products, each by two ways: 232.5 is the sum that is squared.
    assert found == [232.5 * factor for factor in range(30, 20, -1) for _ in range(2)]


def test_a_zero_gradient_stops_along_a_path(opened: Opener) -> None:
    x = gw.parameter("x")
    page = opened(traced(gw.maximum(gw.log(x), 1.0), {"x": 0.0}))
    page.locator("#panel").get_by_role("button", name="x").click()
    assert re.fullmatch(r"0 · ∞ = 0", texts(page.locator(".product"))[0])
