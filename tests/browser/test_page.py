"""The page: steps, folding, keys, screens, and what is not finite."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Locator, Page, expect

import gradwire as gw
from tests.browser.conftest import Opener, traced
from tests.browser.losses import chain, layers, nested, not_a_number, penalised

OWN = 300_000
"""Bytes that a page may have besides its data."""


def boxes(page: Page) -> Locator:
    return page.locator(".box")


def test_a_page_is_small(tmp_path: Path) -> None:
    x = gw.parameter("x")
    traced(x * x, {"x": 1.0}).save(tmp_path / "page.html")
    assert (tmp_path / "page.html").stat().st_size < OWN


def test_one_steps_forward_and_back_through_the_pass(opened: Opener) -> None:
    page = opened(penalised())
    told, slider = page.locator("#told"), page.get_by_label("Step of the pass")
    expect(told).to_contain_text("The whole pass.")
    page.get_by_role("button", name="To the start").click()
    expect(told).to_contain_text("Nothing is known yet.")
    assert not page.locator(".box .value").first.is_visible()
    forward = page.get_by_role("button", name="Step forward")
    forward.click()
    expect(told).to_contain_text("The numbers that are given")
    forward.click()
    expect(told).to_have_text("Forward, 1 of 12. “×” = 0.5 × 3 = 1.5.")
    expect(page.locator(".box.current .value")).to_have_text("1.5")
    # The rule of the step's box is in the panel.
    expect(page.locator("#panel .formula").last).to_have_text("0.5 × 3 = 1.5")
    assert not page.locator(".label").first.is_visible()
    for _ in range(12):
        forward.click()
    expect(told).to_contain_text("The loss in itself has the gradient 1.")
    forward.click()
    expect(told).to_have_text(
        "Backward, 1 of 12. loss has the gradient 1. It sends 1 × 1 = 1 to hinge and 1 × 1 = 1 to “×”."
    )
    assert sum(label.is_visible() for label in page.locator(".label").all()) == 2
    # The gradient of a parameter is known when all that it flows to have sent theirs.
    assert not page.locator(".box.parameter .gradient").first.is_visible()
    page.get_by_role("button", name="Step back").click()
    assert sum(label.is_visible() for label in page.locator(".label").all()) == 0
    expect(slider).to_have_value("14")
    page.get_by_role("button", name="To the end").click()
    expect(slider).to_have_value("26")
    expect(forward).to_have_attribute("aria-disabled", "true")
    expect(page.locator(".box.parameter .gradient").first).to_be_visible()


def test_the_slider_has_the_keys_of_sliders(opened: Opener) -> None:
    page = opened(penalised())
    slider = page.get_by_label("Step of the pass")
    slider.press("Home")
    expect(page.locator("#told")).to_contain_text("Nothing is known yet.")
    slider.press("ArrowRight")
    expect(slider).to_have_value("1")
    slider.press("End")
    expect(page.locator("#told")).to_contain_text("The whole pass.")


def test_the_graph_is_one_stop_of_the_tab_key_and_arrows_move_in_it(opened: Opener) -> None:
    page = opened(penalised())
    page.get_by_role("button", name="Fit").focus()
    page.keyboard.press("Tab")
    if page.evaluate("document.activeElement.id") == "canvas":  # it is a stop of its own where it scrolls
        page.keyboard.press("Tab")
    label = "document.activeElement.getAttribute('aria-label')"
    assert page.evaluate(label).startswith("add loss, value 1.813,")
    page.keyboard.press("ArrowLeft")
    assert page.evaluate(label).startswith("max hinge, value 1.5,")
    page.keyboard.press("Enter")
    expect(page.locator("#panel h2")).to_contain_text("hinge")
    expect(page.locator(".box[aria-pressed=true]")).to_have_count(1)
    page.keyboard.press("Escape")
    expect(page.locator("#panel h2")).to_have_text("Parameters")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.closest('#panel') !== null")


def test_what_is_not_finite_is_shown_where_it_began(opened: Opener) -> None:
    page = opened(not_a_number())
    alarm = page.locator("#alarm")
    expect(alarm).to_contain_text("The first value that is not finite is NaN, made by bad (log) from gap = −1.")
    expect(page.locator(".badge")).to_have_text("✕ not finite from here")
    alarm.get_by_role("button").click()
    expect(page.locator(".box.bad")).to_have_attribute("aria-pressed", "true")
    expect(page.locator("#panel .alarm")).to_contain_text("made by bad")


def test_a_gradient_that_is_not_finite_is_shown_where_it_began(opened: Opener) -> None:
    x = gw.parameter("x")
    page = opened(traced(gw.sqrt(x).named("root"), {"x": 0.0}))
    expect(page.locator("#alarm")).to_contain_text("All values are finite; the first gradient that is not")
    expect(page.locator(".badge")).to_have_text("✕ gradient not finite from here")


def test_a_folded_group_hides_what_is_not_finite_and_says_so(opened: Opener) -> None:
    x = gw.parameter("a.x")
    node = gw.log(x).named("a.bad")
    for number in range(30):
        node = gw.tanh(node).named(f"b.t{number}")
    page = opened(traced(node, {"a.x": -1.0}))
    expect(page.locator(".box.group.bad")).to_have_attribute("aria-label", "Group a, 2 nodes, folded, not finite")
    page.locator("#alarm").get_by_role("button").click()
    expect(page.locator(".box.op.bad")).to_have_attribute("aria-pressed", "true")


def test_groups_are_the_prefixes_of_names_and_fold(opened: Opener) -> None:
    trace = layers(5)
    page = opened(trace)
    groups = [box.get_attribute("aria-label") for box in page.locator(".box.group").all()]
    # The product that is summed has no name: it belongs to what it is computed from.
    sizes = zip(range(1, 6), (5, 5, 5, 5, 6), strict=True)
    assert groups == [f"Group layer{number}, {size} nodes, folded" for number, size in sizes]
    expect(boxes(page)).to_have_count(5 + 2)  # x and the loss
    page.get_by_role("button", name="Group layer2").click()
    expect(boxes(page)).to_have_count(4 + 5 + 2)
    page.get_by_role("button", name="Fold layer2").press("Enter")
    expect(boxes(page)).to_have_count(5 + 2)
    page.get_by_role("button", name="Unfold all").click()
    expect(boxes(page)).to_have_count(len(trace.nodes))
    page.get_by_role("button", name="Fold all", exact=True).click()
    expect(boxes(page)).to_have_count(5 + 2)


def test_names_of_nested_groups_lie_on_nothing(opened: Opener) -> None:
    page = opened(nested())
    shapes = page.evaluate(
        """() => Object.fromEntries(Object.entries({
            frames: ".cluster > rect", heads: ".unfolded > .target", names: ".unfolded > text",
            boxes: ".box .frame"
        }).map(([kind, selector]) => [kind, [...document.querySelectorAll(selector)].map((one) => {
            const { left, top, right, bottom } = one.getBoundingClientRect();
            return [left, top, right, bottom];
        })]))"""
    )
    frames, heads, names = shapes["frames"], shapes["heads"], shapes["names"]
    assert len(frames) == 7

    def apart(one: list[float], other: list[float]) -> bool:
        return one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] or other[3] <= one[1]

    def inside(one: list[float], other: list[float]) -> bool:
        return all(a > b for a, b in zip(one[:2], other[:2], strict=True)) and one[2] < other[2] and one[3] < other[3]

    for head, name, frame in zip(heads, names, frames, strict=True):
        assert inside(head, frame)
        assert inside(name, frame)
        assert all(apart(head, other) for other in heads if other is not head)
        assert all(apart(head, box) for box in shapes["boxes"])
    crossing = [(a, b) for a, b in combinations(frames, 2) if not (apart(a, b) or inside(a, b) or inside(b, a))]
    assert crossing == []


def test_a_box_in_a_frame_has_the_rest_of_its_name(opened: Opener) -> None:
    page = opened(nested())
    assert page.locator(".box.parameter .name").all_text_contents() == ["w"] * 4
    # Names that begin alike differ where they are alone.
    links = page.locator("#panel .link").all_text_contents()
    assert links[:2] == ["model.en…ock.attention.w", "model.en…der.block.mlp.w"]


def test_an_edge_into_a_group_has_the_gradient_that_comes_out_of_it(opened: Opener) -> None:
    trace = layers(5)
    page = opened(trace)
    product = trace["layer3.out"]
    assert product.gradient is not None
    norm = f"‖{np.linalg.norm(product.gradient):.3g}‖"
    assert norm in [text.strip() for text in page.locator(".label .gradient").all_text_contents()]


@pytest.mark.parametrize("nodes", [500, 5000])
def test_a_large_graph_opens_folded_and_any_node_is_found(opened: Opener, nodes: int) -> None:
    trace = chain(nodes)
    page = opened(trace)
    assert boxes(page).count() < 60
    page.locator("#list summary").click()
    node = len(trace.nodes) // 2
    row = page.locator(f"#list [data-node='{node}']")
    while not row.count():
        page.locator("#list p button").click()
    row.click()
    expect(page.locator(f".box[data-key='n{node}']")).to_be_focused()
    assert boxes(page).count() < 200


def test_a_screen_reader_hears_what_a_step_says(opened: Opener) -> None:
    page = opened(penalised())
    expect(page.get_by_role("status")).to_contain_text("The whole pass.")
    snapshot = page.locator("#canvas").aria_snapshot()
    assert 'button "parameter w1, value 0.5, gradient 3.25"' in snapshot


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (390, True)])
def test_axe_finds_nothing(opened: Opener, width: int, *, dark: bool) -> None:
    for trace in (penalised(), layers(5), not_a_number()):
        page = opened(trace, width=width, dark=dark)
        page.locator("#list summary").click()
        page.locator("#panel .link").first.click()
        page.locator(".path").first.click()
        found = Axe().run(page)
        assert found.violations_count == 0, found.generate_report()


@pytest.mark.parametrize("make", [penalised, layers, not_a_number], ids=lambda make: make.__name__)
def test_a_phone_scrolls_down_only(opened: Opener, make: type) -> None:
    page = opened(make(), width=390)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.locator("#panel .link").first.click()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    expect(page.locator("#panel h2")).not_to_have_text("Parameters")


def test_names_are_text(opened: Opener) -> None:
    name = "</script><img src=x onerror=alert(1)>&amp;\"'"
    page = opened(traced(gw.parameter(name) * gw.parameter("{{DATA}}"), {name: 2.0, "{{DATA}}": 3.0}), title=name)
    expect(page).to_have_title(f"{name} · gradwire")
    expect(page.locator("h1")).to_have_text(name)
    assert page.locator("img").count() == 0
    page.locator("#list summary").click()
    for shown in (name, "{{DATA}}"):
        page.locator("#list").get_by_role("button", name=shown[:8]).click()
        expect(page.locator("#panel h2")).to_have_text(f"{shown} parameter")
    assert page.locator("img").count() == 0


def test_a_graph_without_numbers_is_a_page_too(opened: Opener, tmp_path: Path) -> None:
    loss = gw.sum(gw.tanh(gw.parameter("w", shape=(3,))))
    gw.save_picture(loss, tmp_path / "graph.html")
    page = opened(tmp_path / "graph.html")
    expect(page.locator("#pass")).to_be_hidden()
    page.locator(".box.op").first.click()
    expect(page.locator("#panel .formula")).to_have_text("t = tanh a")
    expect(page.locator("#panel td").first).to_have_text("1 − t2")
