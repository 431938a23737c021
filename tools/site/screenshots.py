"""Takes the pictures of traces that the documentation shows: ``python -m tools.site.screenshots``."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image
from playwright.sync_api import Browser, FloatRect, Page, sync_playwright
from sklearn.datasets import load_digits

import gradwire as gw
from demo.pictures import draw_hinge
from demo.problem import hinge_loss

IMAGES = Path(__file__).parents[2] / "docs" / "images"
CHROMIUM = Path(sys.executable).parent / "chromium"

COLOURS = 48
"""Colours of a picture: enough for text and lines, at a third of the bytes."""

SCREENS = {"desktop": (1180, 760, "light"), "phone": (390, 760, "light"), "dark": (1180, 760, "dark")}
"""Width, height and colour scheme of each."""


def hinge(client: gw.Client) -> gw.Trace:
    """The hinge loss of two scalar weights, with a penalty, so that gradients add up where a weight branches."""
    w1, w2 = gw.parameter("w1"), gw.parameter("w2")
    score = (w1 * gw.input("x1") + w2 * gw.input("x2")).named("score")
    margin = (score * gw.input("y")).named("margin")
    penalty = (0.25 * (w1 * w1 + w2 * w2)).named("penalty")
    loss = (gw.maximum(0, 1 - margin).named("hinge") + penalty).named("loss")
    return client.trace(loss, w1=0.5, w2=1.0, x1=3.0, x2=-1.0, y=-1.0)


def layers(client: gw.Client) -> gw.Trace:
    """A perceptron on a digit, with parameters that are named by layer."""
    images, labels = load_digits(return_X_y=True)
    random = np.random.default_rng(0)
    sizes = (64, 32, 24, 16, 10)
    arrays = {"x": images[5] / 16, "label": labels[5]}
    hidden = gw.input("x", shape=(64,))
    for layer, (into, out) in enumerate(pairwise(sizes), 1):
        arrays |= {f"layer{layer}.W": random.normal(0, into**-0.5, (out, into)), f"layer{layer}.b": np.zeros(out)}
        weights = gw.parameter(f"layer{layer}.W", shape=(out, into))
        hidden = weights @ hidden + gw.parameter(f"layer{layer}.b", shape=(out,))
        hidden = (gw.tanh(hidden) if out > 10 else hidden).named(f"layer{layer}.out")
    label = gw.input("label", dtype="int64")
    return client.trace(gw.softmax_cross_entropy_with_integer_labels(hidden, label).named("loss"), arrays)


def nan(client: gw.Client) -> gw.Trace:
    """A Poisson loss whose rate is below 1 for one example: the logarithm of a negative number."""
    w, x, y = gw.parameter("w"), gw.input("x"), gw.input("y")
    rate = gw.exp(w * x).named("rate")
    loss = (rate - y * gw.log((rate - 1).named("excess")).named("log")).named("loss")
    return client.trace(loss, w=0.7, x=-1.0, y=1.0)


def take(chromium: Browser, trace: gw.Trace, name: str, title: str) -> None:
    """Take a page's pictures on every screen."""
    for screen, (width, height, scheme) in SCREENS.items():
        with opened(chromium, trace, title, (width, height), dark=scheme == "dark") as page:
            page.get_by_role("button", name="Fit").click()
            save(page, f"{name}-{screen}")


def step(chromium: Browser, client: gw.Client) -> None:
    """The hinge loss in the middle of the backward pass."""
    trace = client.trace(hinge_loss(2), w=[0.5, 1.0], phi=[3.0, -1.0], y=-1.0)
    with opened(chromium, trace, "The hinge loss", (1280, 860)) as page:
        for _ in range(2):
            page.get_by_role("button", name="Step back").click()
        save(page, "explain-step")


def paths(chromium: Browser, client: gw.Client) -> None:
    """A weight, of whose paths to the loss the first is selected."""
    with opened(chromium, hinge(client), "Hinge loss with a penalty", (1400, 900)) as page:
        page.locator("#panel").get_by_role("button", name="w1").click()
        page.locator(".path").first.click()
        save(page, "explain-paths")


@contextmanager
def opened(
    chromium: Browser, trace: gw.Trace, title: str, size: tuple[int, int], *, dark: bool = False
) -> Iterator[Page]:
    """The page of a trace in a browser of a width and a height."""
    with TemporaryDirectory() as folder:
        trace.save(Path(folder) / "page.html", title=title)
        context = chromium.new_context(
            viewport={"width": size[0], "height": size[1]},
            color_scheme="dark" if dark else "light",
            reduced_motion="reduce",
        )
        page = context.new_page()
        page.goto((Path(folder) / "page.html").as_uri())
        page.wait_for_selector("html[data-ready]")
        yield page
        context.close()


def save(page: Page, name: str) -> None:
    """Save what is to be seen of a page, down to its end."""
    width, height = page.evaluate("[innerWidth, Math.min(innerHeight, document.body.offsetHeight)]")
    clip: FloatRect = {"x": 0, "y": 0, "width": width, "height": height}
    picture = Image.open(io.BytesIO(page.screenshot(clip=clip))).convert("RGB")
    picture = picture.quantize(COLOURS, dither=Image.Dither.NONE)
    picture.save(IMAGES / f"{name}.png", optimize=True)


if __name__ == "__main__":
    with (
        gw.connect("local") as client,
        sync_playwright() as driver,
        driver.chromium.launch(executable_path=CHROMIUM) as chromium,
    ):
        draw_hinge(client, IMAGES / "hinge.svg")
        step(chromium, client)
        paths(chromium, client)
        for trace, title in ((hinge, "The hinge loss"), (layers, "A perceptron"), (nan, "Where NaN begins")):
            take(chromium, trace(client), trace.__name__, title)
