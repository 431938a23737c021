"""Notebooks from pages of Markdown: executed, and as pages again that have what came out."""

from __future__ import annotations

import base64
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import jupytext
import nbformat
from jupyter_client.manager import KernelManager
from nbclient import NotebookClient

_FENCE = "```"


def execute(source: Path, folder: Path) -> str:
    """Executes a page, writes the notebook and its pictures into ``folder``, and returns the page with what came out.

    Raises:
        CellExecutionError: A cell fails.
    """
    notebook = jupytext.read(source)
    notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    with TemporaryDirectory() as sockets:
        kernel = KernelManager(transport="ipc", ip=f"{sockets}/kernel")
        try:
            NotebookClient(notebook, kernel, timeout=120, resources={"metadata": {"path": str(folder)}}).execute()
        finally:
            kernel.shutdown_kernel(now=True)
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # when it ran
    name = source.with_suffix(".ipynb").name
    nbformat.write(notebook, folder / name)
    first, *others = [_page_of(cell, folder, f"{source.stem}-{number}") for number, cell in enumerate(notebook.cells)]
    return "\n\n".join([first, f"[This page as a notebook]({name}){{ download }}", *others])


def _page_of(cell: Any, folder: Path, stem: str) -> str:  # noqa: ANN401  (nbformat has no types)
    """A cell and its outputs as Markdown."""
    if cell.cell_type != "code":
        return str(cell.source)
    outputs = [_output(output, folder, f"{stem}-{number}") for number, output in enumerate(cell.outputs)]
    return "\n\n".join([f"{_FENCE}python\n{cell.source}\n{_FENCE}", *outputs])


def _output(output: Any, folder: Path, stem: str) -> str:  # noqa: ANN401  (as above)
    """What a cell put out: a picture as a file, everything else as text."""
    data = output.get("data", {})
    for kind, suffix in (("image/svg+xml", "svg"), ("image/png", "png")):
        if kind in data:
            picture = folder / f"{stem}.{suffix}"
            picture.write_bytes(data[kind].encode() if suffix == "svg" else base64.b64decode(data[kind]))
            return f"![What the cell shows]({picture.name})"
    return f"{_FENCE}text\n{(output.get('text') or data['text/plain']).rstrip()}\n{_FENCE}"
