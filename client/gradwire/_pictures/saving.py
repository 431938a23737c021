"""Pictures as files: a page, an image or a table, by the suffix."""

from __future__ import annotations

import tempfile
import webbrowser
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, TypeAlias

from gradwire._errors import GradwireError, UsageError
from gradwire._expressions.expression import Expression
from gradwire._graphs.graph import graph as graph_of
from gradwire._pictures.checking import missing
from gradwire._pictures.text import text_of
from gradwire.v1 import gradient_service_pb2, graph_pb2

Format: TypeAlias = Literal["html", "svg", "png", "text"]

_FORMATS: Mapping[str, Format] = {".html": "html", ".svg": "svg", ".png": "png", ".txt": "text"}


def picture(
    graph: graph_pb2.Graph,
    trace: gradient_service_pb2.TraceGraphResponse | None,
    form: Format,
    *,
    title: str | None = None,
    dark: bool = False,
) -> bytes:
    """The content of a file that shows a graph.

    Raises:
        UsageError: ``dark`` is for images, and the format is another one.
        GradwireError: The graph is too large for the format or breaks a rule, or the libraries for images are missing.
    """
    if dark and form not in {"svg", "png"}:
        raise UsageError(f"dark is for images, svg or png; found {form}, which takes the colours of what shows it")
    if form == "text":
        return text_of(graph, trace, title=title).encode()
    try:
        if form == "html":
            from gradwire_pictures.page import page_of  # noqa: PLC0415  (a distribution of its own)

            return page_of(graph, trace, title=title).encode()
        from gradwire_pictures.drawing import image_of  # noqa: PLC0415  (as above)
    except ModuleNotFoundError as error:
        raise missing(error) from error
    return image_of(graph, trace, form, title=title, dark=dark)


def svg_of(graph: graph_pb2.Graph, trace: gradient_service_pb2.TraceGraphResponse | None = None) -> str | None:
    """A graph as SVG, for notebooks; None if it is too large or the libraries are missing."""
    try:
        return picture(graph, trace, "svg").decode()
    except GradwireError:
        return None


def format_of(path: Path) -> Format:
    """The format that a file's suffix says.

    Raises:
        UsageError: It says none.
    """
    if path.suffix not in _FORMATS:
        raise UsageError(f"{path.name} is none of {', '.join(_FORMATS)}; a picture is written as one of them")
    return _FORMATS[path.suffix]


def save_picture(
    graph: Expression | graph_pb2.Graph,
    path: str | Path,
    trace: gradient_service_pb2.TraceGraphResponse | None = None,
    *,
    title: str | None = None,
    dark: bool = False,
) -> None:
    """Write the picture of a graph to a file: a page, an image or a table, by its suffix.

    Args:
        graph: The graph, or the scalar expression that it is made of.
        path: ``.html`` for a page, ``.svg`` or ``.png`` for an image, ``.txt`` for a table.
        trace: Values and gradients to show; without it the picture has the shapes of sources only.
        title: A line above.
        dark: Whether an image is for a dark page; pages take the colours of their browser.

    Raises:
        GradwireError: The graph is too large (over 20,000 nodes for a page, over 200 for an image) or breaks a rule,
            the suffix is another one or has no dark image, or the libraries for images are missing.
        OSError: The file cannot be written.
    """
    if not isinstance(graph, Expression | graph_pb2.Graph):
        raise UsageError(
            f"found {type(graph).__name__}; save_picture draws an expression or a Graph, and trace.save a trace"
        )
    if not isinstance(path, str | Path):
        raise UsageError(f"path {path!r} is {type(path).__name__}; expected a string or a Path, such as 'graph.svg'")
    target = Path(path)
    form = format_of(target)
    drawn = graph_of(graph) if isinstance(graph, Expression) else graph
    content = picture(drawn, trace, form, title=title, dark=dark)
    target.write_bytes(content)


def show(
    graph: graph_pb2.Graph, trace: gradient_service_pb2.TraceGraphResponse | None, *, title: str | None = None
) -> Path:
    """Open the page of a graph in a browser; its file is a temporary one."""
    page = picture(graph, trace, "html", title=title)
    with tempfile.NamedTemporaryFile(prefix="gradwire-", suffix=".html", delete=False) as file:
        file.write(page)
    webbrowser.open(Path(file.name).as_uri())
    return Path(file.name)
