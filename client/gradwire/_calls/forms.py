"""How the arguments of a call nest arrays, and what these are called."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from gradwire._errors import InvalidRequestError

Spec: TypeAlias = Any
"""How a container nests its leaves, a ``PyTreeSpec``; None of one array; ``Plain`` of what is no data."""


class Plain(NamedTuple):
    """An argument that is no data, but a flag, text or a function, which the traced function gets as it is."""

    value: Any
    kind: type
    """What tells True from 1."""


class Form(NamedTuple):
    """How the arguments of a call nest arrays; hashable, so that graphs are kept by it."""

    positional: tuple[tuple[str, Spec], ...]
    """Name and nesting of each positional argument."""
    named: tuple[tuple[str, Spec], ...]
    """Name and nesting of each keyword argument, sorted."""

    @property
    def arguments(self) -> tuple[tuple[str, Spec], ...]:
        """Name and nesting of every argument."""
        return self.positional + self.named

    def filled(self, leaves: Mapping[str, Any]) -> tuple[list[Any], dict[str, Any]]:
        """The positional and the keyword arguments, with these leaves in them."""
        parts = {name: put_together(leaf_names(name, spec), spec, leaves) for name, spec in self.arguments}
        return [parts[name] for name, _ in self.positional], {name: parts[name] for name, _ in self.named}


class Leaves(dict[str, Any]):
    """The arrays of a call by name, such as ``params.layers.0.w``, and how its arguments nest them."""

    __slots__ = ("form",)

    form: Form


_NAMES: dict[tuple[str, Spec], list[str]] = {}
"""Names of the leaves of arguments that were met; by far most come again."""

_MOST_NAMES = 4096
"""Arguments whose names are kept, at most."""


def leaf_names(name: str, spec: Spec) -> list[str]:
    """The names of an argument's leaves: the argument's own, then keys, indices and fields."""
    if spec is None:
        return [name]
    if isinstance(spec, Plain):
        return []
    known = _NAMES.get((name, spec))
    if known is None:
        known = [name + "".join(map(_step, path)) for path in spec.accessors()]
        twice = sorted({found for found in known if known.count(found) > 1}) if len(set(known)) < len(known) else []
        if twice:
            raise InvalidRequestError(f'two arrays are named "{twice[0]}"; choose other keys', node=twice[0])
        if len(_NAMES) >= _MOST_NAMES:
            _NAMES.clear()
        _NAMES[name, spec] = known
    return known


def _step(entry: Any) -> str:  # noqa: ANN401  (an entry of optree)
    key: object = getattr(entry, "field", entry.entry)
    if isinstance(key, int | np.integer) or (isinstance(key, str) and key.isidentifier()):
        return f".{key}"
    return f"[{key!a}]"


def put_together(names: Sequence[str], spec: Spec, leaves: Mapping[str, Any]) -> Any:  # noqa: ANN401  (a pytree)
    """The argument with the leaves of these names in it."""
    if isinstance(spec, Plain):
        return spec.value
    found = [leaves[name] for name in names]
    return found[0] if spec is None else spec.unflatten(found)
