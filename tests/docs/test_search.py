"""The search of the site, in a real browser."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import DEADLINE, chromium

pytestmark = pytest.mark.timeout(300)  # the first test waits for the site to be built

OPEN = """
const attach = Element.prototype.attachShadow
Element.prototype.attachShadow = function (options) { return attach.call(this, { ...options, mode: "open" }) }
"""
"""Lets the test see into the search, which hides its inside from scripts."""


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def address(site: Path) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=site)) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as launched:
        yield launched


@pytest.fixture(scope="module")
def page(browser: Browser, address: str) -> Iterator[Page]:
    """The first page, which asks nobody else for anything."""
    asked: list[str] = []
    context = browser.new_context()
    context.set_default_timeout(DEADLINE)
    context.add_init_script(OPEN)
    opened = context.new_page()
    opened.on("request", lambda request: asked.append(request.url))
    opened.goto(f"{address}/index.html")
    yield opened
    context.close()
    assert [url for url in asked if not url.startswith((address, "data:", "blob:"))] == []


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("ties", "decisions/ties.html"),
        ("NaN", "how-to/nan.html"),
        ("per-example", "how-to/per-example.html"),
        ("TLS", "how-to/tls.html"),
        ("memory limit", "reference/options.html?h=memory+limit#max-memory-bytes"),
        ("round robin", "how-to/replicas.html"),
        ("ONNX", "imports.html"),
        ("float32", "reference/protocol/tensor.html"),
        ("where", "reference/python/expressions.html?h=where#gradwire.where"),
        ("deadline", "reference/python/results.html"),
    ],
)
def test_the_search_finds(page: Page, address: str, words: str, found: str) -> None:
    page.goto(f"{address}/index.html")
    page.get_by_role("button", name="Search").click()
    page.get_by_role("combobox").fill(words)
    expect(page.get_by_role("listbox").locator(f"a[href*='{found}']").first).to_be_visible()
