"""Lays out what the site is built from: the pages of ``docs/``, pages made by programs, and what pages show."""

from __future__ import annotations

import posixpath
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

from tools.site import notebooks, reference
from tools.site.blocks import Page
from tools.site.protocol import Contract

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
CONFIG = ROOT / "mkdocs.yml"

MOVED = {"CHANGELOG.md": "changelog.md", "CONTRIBUTING.md": "contributing.md", "deploy/README.md": "deploy.md"}
"""Pages of the site that stand elsewhere in the project."""

LIVE = "tutorial/"
"""Pages whose blocks save what they show, such as traces: they run when the site is built."""

SEARCHED = "examples"
"""Sources that the search finds; others are read where a page leads to them."""

_LINK = re.compile(r"(\]\()(?![a-z]+:|#|/)([^)#\s]+)")
_FENCED = re.compile(r"(^(`{3,}).*?^\2$)", re.DOTALL | re.MULTILINE)


class Stage:
    """The folder that a site is built from: ``mkdocs.yml`` and ``docs/``."""

    def __init__(self, folder: Path) -> None:
        self._docs = folder / "docs"
        self._linked: set[str] = set()
        shutil.rmtree(self._docs, ignore_errors=True)
        self._docs.mkdir(parents=True)
        shutil.copy(CONFIG, folder)

    def lay_out(self) -> None:
        """Write everything.

        Raises:
            SybilFailure: A block of a live page does not do what the page says.
            CellExecutionError: A cell of a notebook fails.
        """
        for path in sorted(DOCS.rglob("*")):
            if path.is_file():
                self.put(path)
        for origin in MOVED:
            self.put(ROOT / origin)
        for name, text in _generated():
            self._write(name, text)
        shown: set[str] = set()
        while linked := self._linked - shown:
            for origin in sorted(linked):
                path = ROOT / origin
                if path.suffix == ".md":
                    self.put(path)
                else:
                    self._write(_place(origin), reference.source(path, searched=origin == SEARCHED))
            shown |= linked

    def put(self, path: Path) -> None:
        """Write a file of ``docs/``, or a page from elsewhere, and what comes of it."""
        origin = path.relative_to(ROOT).as_posix()
        place = _place(origin)
        target = self._docs / place
        target.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix != ".md":
            shutil.copy(path, target)
            return
        text = notebooks.execute(path, target.parent) if place.startswith("notebooks/") else path.read_text()
        if place.startswith(LIVE):
            with Page(path, target.parent) as page:
                page.run()
        # Links to what is not below docs/ lead to pages of the site, too; code is left as it is.
        parts = _FENCED.split(text)
        parts[::3] = [_LINK.sub(self._relinked(origin, place), part) for part in parts[::3]]
        self._write(place, "".join(part for number, part in enumerate(parts) if number % 3 != 2))

    def _relinked(self, origin: str, place: str) -> Callable[[re.Match[str]], str]:
        def relinked(link: re.Match[str]) -> str:
            to = posixpath.normpath(posixpath.join(posixpath.dirname(origin), link[2]))
            if _place(to).startswith("source/") and (ROOT / to).exists():
                self._linked.add(to)
            return link[1] + posixpath.relpath(_place(to), posixpath.dirname(place) or ".")

        return relinked

    def _write(self, place: str, text: str) -> None:
        target = self._docs / place
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)


def _place(origin: str) -> str:
    """Where a file of the project is on the site, by their paths."""
    path = PurePosixPath(origin)
    if path.parts[0] == "docs":
        return path.relative_to("docs").as_posix()
    if path.suffix == ".proto":
        return f"reference/protocol/{path.stem}.md"
    return MOVED.get(origin, f"source/{origin}" if path.suffix == ".md" else f"source/{origin}.md")


def _generated() -> Iterator[tuple[str, str]]:
    """Place and text of each page that a program makes."""
    contract = Contract()
    yield "reference/ops.md", reference.ops(contract)
    yield "reference/python/expressions.md", reference.expressions()
    yield "reference/options.md", reference.options()
    yield "reference/metrics.md", reference.metrics()
    for name, text in contract.pages():
        yield f"reference/protocol/{name}", text
