"""One browser for all tests of pages."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

import gradwire as gw
from gradwire.v1 import graph_pb2
from tests.losses import Arrays

CHROMIUM = Path(sys.executable).parent / "chromium"
"""Put there by tools/install-chromium."""

LIBRARIES = ":".join(map(str, (CHROMIUM.parents[1] / "chromium" / "usr" / "lib").glob("*-linux-gnu")))
"""What this machine lacks of what Playwright needs, unpacked there too."""

DEADLINE = 120_000
"""Milliseconds that a busy machine may take for one step."""

expect.set_options(timeout=DEADLINE)

Opener: TypeAlias = Callable[..., Page]


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser. While it is open, nothing else in its process can run an event loop: keep it for few tests."""
    with pytest.MonkeyPatch.context() as environment:
        if LIBRARIES:
            environment.setenv("LD_LIBRARY_PATH", LIBRARIES)
        with (
            sync_playwright() as driver,
            driver.chromium.launch(executable_path=CHROMIUM, timeout=DEADLINE) as launched,
        ):
            yield launched


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    with chromium() as launched:
        yield launched


@pytest.fixture
def opened(browser: Browser, tmp_path: Path) -> Iterator[Opener]:
    """Opens a file, or the page of a trace, and holds that it has no errors and asks for nothing else."""
    said: list[str] = []
    asked: list[str] = []
    contexts = []

    def open_(shown: gw.Trace | Path, *, width: int = 1280, dark: bool = False, title: str | None = None) -> Page:
        path = shown if isinstance(shown, Path) else tmp_path / "page.html"
        if isinstance(shown, gw.Trace):
            shown.save(path, title=title)
        context = browser.new_context(
            viewport={"width": width, "height": 860}, color_scheme="dark" if dark else "light", reduced_motion="reduce"
        )
        contexts.append(context)
        context.set_default_timeout(DEADLINE)
        page = context.new_page()
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(path.as_uri())
        page.wait_for_selector("html[data-ready]")
        return page

    yield open_
    for context in contexts:
        context.close()
    assert said == []
    assert {url.partition(":")[0] for url in asked} <= {"file", "data"}
    assert len([url for url in asked if url.startswith("file")]) == len(contexts)


def traced(loss: gw.Expression | graph_pb2.Graph, arrays: Arrays) -> gw.Trace:
    with gw.connect("local") as client:
        return client.trace(loss, arrays)
