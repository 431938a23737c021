"""Pages of graphs: one file that a browser opens without a network, with what it runs and shows inside."""

from __future__ import annotations

import base64
import html
import json
import re
from importlib.resources import files

from gradwire.v1 import gradient_service_pb2, graph_pb2
from gradwire_pictures.page_data import page_data

_MODULES = ("numbers", "graph", "rules", "paths", "folding", "steps", "layout", "drawing", "panel", "table", "main")
"""The page's own modules; they import each other as ``page/NAME``."""
_SCRIPT = "text/javascript"


def page_of(
    graph: graph_pb2.Graph, trace: gradient_service_pb2.TraceGraphResponse | None = None, *, title: str | None = None
) -> str:
    """The page of a graph, in HTML.

    Raises:
        GradwireError: The graph is too large for a browser, or breaks a rule.
    """
    data = page_data(graph, trace, title)
    parts = {
        "TITLE": html.escape(data["title"]),
        "STYLE": re.sub(r"url\((.*?)\)", lambda found: f"url({_inside(found[1], 'font/woff2')})", _source("page.css")),
        # A closing tag in a name must not end the element.
        "DATA": json.dumps(data, separators=(",", ":")).replace("<", "\\u003c"),
        "MODULES": json.dumps({"imports": _modules()}),
    }
    return re.sub(r"\{\{([A-Z]+)\}\}", lambda part: parts[part[1]], _source("page.html"))


def _modules() -> dict[str, str]:
    own = {f"page/{name}": _inside(f"{name}.js", _SCRIPT) for name in _MODULES}
    return {"dagre": _inside("dagre.js", _SCRIPT), **own}


def _inside(name: str, kind: str) -> str:
    """The address of a file that is its content."""
    return f"data:{kind};base64,{base64.b64encode(_read(name)).decode()}"


def _source(name: str) -> str:
    return _read(name).decode()


def _read(name: str) -> bytes:
    return files("gradwire_pictures").joinpath("page", name).read_bytes()
