"""Which initializers of a model are constants, as far as its exporter says."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from typing import Any

_KIND = "pkg.torch.export.graph_signature.InputSpec.kind"
_FOLDED = "pkg.onnxscript.optimizer.folded_from"
_NUMBER = re.compile(r"val_\d+")
"""Names that PyTorch's exporter gives to the numbers in a module's code."""


def constants_of(graph: Any) -> Callable[[str, int], bool]:
    """What tells, by name and rank, whether an initializer is a constant.

    PyTorch's newer exporter makes initializers of a module's parameters, of its buffers, of the numbers in its code and
    of what it folds, and says of most what they were or are made of. Where it says nothing, as for a layer that a
    normalization was merged into, the name is that of a module's tensor, or of a number. Other exporters write
    constants as such.
    """
    said = {
        own.name: {pair.key: pair.value for pair in own.metadata_props} for own in (*graph.input, *graph.value_info)
    }
    kinds: dict[str, str] = {name: facts[_KIND] for name, facts in said.items() if _KIND in facts}
    if not kinds:
        return lambda _, __: False

    def is_constant(name: str, rank: int) -> bool:
        if name in kinds:
            return kinds[name] != "PARAMETER"
        made_of = ast.literal_eval(said.get(name, {}).get(_FOLDED, "[]")) or [name]
        if any("." in own or kinds.get(own) == "PARAMETER" for own in made_of):
            return False
        return rank == 0 or all(_NUMBER.fullmatch(own) for own in made_of)

    return is_constant
