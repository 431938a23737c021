"""Calls whose arguments nest arrays like those of an earlier one: found without optree, which takes longer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from gradwire._calls.forms import Form, Leaves, Plain, Spec, leaf_names

LEAVES = {np.ndarray, np.float64, float, int}
"""Most leaves; none of them is a container."""


class _Visit(NamedTuple):
    """A value that must be there."""

    place: int
    """The container that it is in, by the order in which these are visited."""
    key: Any
    name: str
    """That of a leaf."""
    kind: type[Any] | None
    """Type of a container; None of a leaf, or of a value that is no data."""
    size: int
    """Values in a container."""
    plain: Any
    """A value that is no data."""


class Pattern:
    """The values that arguments of one form have, in the order in which containers are entered.

    Args:
        form: Of dicts, lists and tuples.
    """

    def __init__(self, form: Form) -> None:
        self.form = form
        self._count = len(form.positional)
        self._keywords = [name for name, _ in form.named]
        self._visits = list(_visits(form))

    def leaves(self, given: Sequence[Any], named: Mapping[str, Any]) -> Leaves | None:
        """The arrays of a call by name; None if its arguments have another form, or may have."""
        keywords = self._keywords
        if len(given) != self._count or len(named) != len(keywords):
            return None
        found = Leaves()
        found.form = self.form
        try:
            containers: list[Any] = [[*given, *[named[name] for name in keywords]]]
            for place, key, name, kind, size, plain in self._visits:
                part = containers[place][key]
                if name:
                    if type(part) not in LEAVES:
                        return None
                    found[name] = part
                elif kind is None:
                    if part is not plain:
                        return None
                elif type(part) is kind and len(part) == size:
                    containers.append(part)
                else:
                    return None
        except KeyError:
            return None
        return found


def pattern_of(form: Form) -> Pattern | None:
    """The pattern of a form; None if it has containers of other kinds."""
    return Pattern(form) if all(_is_simple(spec) for _, spec in form.arguments) else None


def _is_simple(spec: Spec) -> bool:
    if spec is None or isinstance(spec, Plain) or spec.is_leaf():
        return True
    # Of dicts with an order of their own, the order counts too.
    return (spec.type in (dict, list) or issubclass(spec.type, tuple)) and all(map(_is_simple, spec.children()))


def _visits(form: Form) -> Iterator[_Visit]:
    """The arguments, which are in the first container, and what is in them."""
    count = 1

    def within(spec: Spec, place: int, key: Any, names: Iterator[str]) -> Iterator[_Visit]:  # noqa: ANN401  (of a dict)
        nonlocal count
        if isinstance(spec, Plain):
            yield _Visit(place, key, "", None, 0, spec.value)
        elif spec is None or spec.is_leaf():
            yield _Visit(place, key, next(names), None, 0, None)
        else:
            own, count = count, count + 1
            yield _Visit(place, key, "", spec.type, spec.num_children, None)
            for entry, child in zip(spec.entries(), spec.children(), strict=True):
                yield from within(child, own, entry, names)

    for position, (name, spec) in enumerate(form.arguments):
        yield from within(spec, 0, position, iter(leaf_names(name, spec)))
