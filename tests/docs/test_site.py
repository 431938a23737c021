"""The site is whole: what pages refer to is there, and needs no network."""

from __future__ import annotations

import json
import zlib
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import nbformat
import pytest

import gradwire as gw

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.timeout(300)  # the first test waits for the site to be built


class Links(HTMLParser):
    """The ids of a page, what it refers to, and what it fetches."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.targets: list[str] = []
        self.fetched: list[str] = []
        self.feed(page.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = {name: value or "" for name, value in attrs}
        self.ids |= {named[name] for name in ("id", "name") if name in named}
        self.targets += [named["href"]] if tag == "a" and "href" in named else []
        if "src" in named:
            self.fetched.append(named["src"])
        if tag == "link" and named.get("rel") not in {"canonical", "prev", "next", "alternate"}:
            self.fetched.append(named["href"])


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Links]:
    return {page: Links(page) for page in site.rglob("*.html") if page.name != "404.html"}


def test_what_a_page_refers_to_is_there(pages: dict[Path, Links]) -> None:
    broken = []
    for page, links in pages.items():
        for target in links.targets + links.fetched:
            url = urlsplit(target)
            if url.scheme in {"http", "https", "mailto", "data", "blob"}:
                continue
            to = (page.parent / unquote(url.path)).resolve() if url.path else page
            to = to / "index.html" if to.is_dir() else to
            if not to.exists() or (url.fragment and to in pages and unquote(url.fragment) not in pages[to].ids):
                broken.append((page.name, target))
    assert broken == []


def test_every_page_is_in_the_navigation(pages: dict[Path, Links]) -> None:
    [first] = [links for page, links in pages.items() if page.parent.name == "site" and page.name == "index.html"]
    reached = {str((ROOT / "docs" / target).resolve()) for target in first.targets}
    written = {str(page.with_suffix(".html")) for page in (ROOT / "docs").rglob("*.md")}
    assert {page.replace("README.html", "index.html") for page in written} - reached == set()


def test_pages_need_no_network(pages: dict[Path, Links]) -> None:
    assert {target for links in pages.values() for target in links.fetched if urlsplit(target).netloc} == set()


def test_pages_show_what_they_embed(site: Path, pages: dict[Path, Links]) -> None:
    graphs = [page.parent / target for page, links in pages.items() for target in links.fetched if ".html" in target]
    assert {graph.name for graph in graphs} == {"boxes-graph.html", "hinge-graph.html", "digits-graph.html"}
    assert all('id="canvas"' in graph.read_text() for graph in graphs)


def test_the_search_leaves_out_sources_but_for_examples(site: Path) -> None:
    items = json.loads((site / "search.json").read_text())["items"]
    found = {item["location"].partition("#")[0] for item in items}
    assert {"index.html", "operations.html", "source/examples.html"} <= found
    sources = {page.removeprefix("source/").removesuffix(".html") for page in found if page.startswith("source/")}
    assert {name for name in sources if not (ROOT / f"{name}.md").exists()} == {"examples"}


def test_every_name_of_the_sdk_has_an_entry(site: Path) -> None:
    inventory = zlib.decompress((site / "objects.inv").read_bytes().split(b"\n", 4)[4]).decode()
    entries = {line.split()[0] for line in inventory.splitlines()}
    assert [name for name in gw.__all__ if f"gradwire.{name}" not in entries] == []


def test_notebooks_are_executed(site: Path) -> None:
    notebooks = [nbformat.read(path, as_version=4) for path in sorted((site / "notebooks").glob("*.ipynb"))]
    assert len(notebooks) == 3
    for notebook in notebooks:
        cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
        assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
        assert any(cell.outputs for cell in cells)
        nbformat.validate(notebook)
