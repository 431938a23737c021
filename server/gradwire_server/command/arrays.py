"""Arrays for the sources of a graph: from a file, from a request, or drawn."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

import gradwire as gw
from gradwire._arrays import Array
from gradwire.v1 import graph_pb2
from gradwire_server import codec, engine
from gradwire_server.errors import shown

_NPY, _ZIP = b"\x93NUMPY", b"PK"
"""How files begin that ``numpy.save`` and ``numpy.savez`` write."""


def read(path: Path) -> dict[str, Array]:
    """The arrays of a file that ``numpy.savez`` wrote, by name.

    Raises:
        OSError: The file cannot be read.
        GradwireError: It is none of NumPy's.
    """
    with path.open("rb") as file:
        head = file.read(len(_NPY))
    if head == _NPY:
        raise gw.InvalidRequestError(f"{path} holds one array, without a name; write it with numpy.savez")
    if not head.startswith(_ZIP):
        raise gw.InvalidRequestError(f"{path} is no file of arrays (.npz); numpy.savez writes one")
    try:
        with np.load(path, allow_pickle=False) as found:
            return {name: found[name] for name in found.files}
    except (ValueError, BadZipFile) as error:
        raise gw.InvalidRequestError(f"{path} is no file of arrays (.npz): {error}") from None


def filled(
    graph: graph_pb2.Graph, known: Mapping[str, Array], examples: int, seed: int = 0
) -> tuple[dict[str, Array], list[str]]:
    """Arrays for all sources of a graph, and the names of those that were drawn.

    Args:
        graph: The graph.
        known: Arrays by name.
        examples: Examples to draw, where no array per example is known.
        seed: Of the generator.

    Raises:
        Refusal: The graph breaks a rule.
        GradwireError: A known array is of no source.
    """
    limits = engine.Limits()
    sources = engine.compile_graph(codec.decode_graph(graph, limits), limits).sources
    strangers = sorted(known.keys() - {source.name for source in sources})
    if strangers:
        raise gw.InvalidRequestError(
            f"no source of the graph has the name {shown(strangers[0])}; "
            f"there are {', '.join(shown(source.name) for source in sources[:8])}"
        )
    for source in sources:
        # One without an axis for the examples is refused with the others that do not fit.
        if source.per_example and np.ndim(known.get(source.name, 0)):
            examples = len(known[source.name])
            break
    random, found, drawn = np.random.default_rng(seed), dict(known), []
    for source in sources:
        if source.name not in known:
            shape = (examples, *source.shape) if source.per_example else source.shape
            found[source.name] = np.zeros(shape, np.int64) if source.integer else random.normal(size=shape)
            drawn.append(source.name)
    return found, drawn
