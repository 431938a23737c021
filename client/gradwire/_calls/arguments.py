"""Arguments of a function that is traced: pytrees of arrays, flattened to arrays by name and put together again.

optree, which knows containers, is imported when the first container comes.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import numpy as np

from gradwire._arrays import check_names
from gradwire._calls.dataclass_kinds import register
from gradwire._calls.forms import Form, Leaves, Plain, Spec, leaf_names
from gradwire._calls.patterns import LEAVES, Pattern, pattern_of
from gradwire._errors import InvalidRequestError

_NAMESPACE = "gradwire"
"""The namespace of optree in which dataclasses are containers."""


class Arguments:
    """The arguments of one function, by position and by name."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._called = getattr(function, "__name__", repr(function))
        self._function = function
        try:
            parameters = list(inspect.signature(function).parameters.values())
        except (TypeError, ValueError):  # it has no signature; calling it will tell
            parameters = [inspect.Parameter("args", inspect.Parameter.VAR_POSITIONAL)]
        self._positional = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
        self._rest = next((p.name for p in parameters if p.kind is p.VAR_POSITIONAL), None)
        self._names_of: dict[tuple[object, ...], tuple[list[str], list[str]]] = {}
        """Names of arguments, by how many are positional and the keywords of the others."""
        self._last: Form | None = None
        self._pattern: Pattern | None = None
        """That of the last form; nearly all calls have the same."""
        self._any = any(p.kind is p.VAR_KEYWORD for p in parameters)
        self._keywords = {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}

    def flatten(self, given: Sequence[Any], named: Mapping[str, Any]) -> Leaves:
        """The arrays of a call by name.

        Raises:
            InvalidRequestError: The function has no such argument, or a name cannot be sent.
        """
        pattern = self._pattern
        found = None if pattern is None else pattern.leaves(given, named)
        if found is not None:
            return found
        called = (len(given), *named)
        names = self._names_of.get(called)
        if names is None:
            names = self._names_of[called] = self._names(len(given), named)
        positional, keywords = names
        leaves = Leaves()
        leaves.form = form = Form(
            tuple([(name, flatten_into(leaves, name, value)) for name, value in zip(positional, given, strict=True)]),
            tuple([(name, flatten_into(leaves, name, named[name], sequences=False)) for name in keywords]),
        )
        if form != self._last:
            self._last, self._pattern = form, pattern_of(form)
        return leaves

    def _names(self, count: int, named: Mapping[str, Any]) -> tuple[list[str], list[str]]:
        """The names of so many positional arguments, and those of the others, sorted."""
        positional = self.positional(count)
        check_names(named)
        twice = [name for name in positional if name in named]
        if twice:
            raise InvalidRequestError(
                f'argument "{twice[0]}" is given twice, by position and by keyword', node=twice[0]
            )
        return positional, sorted(named)

    def check(self, form: Form) -> None:
        """See that the function takes these arguments.

        Raises:
            InvalidRequestError: It does not.
        """
        names = [name for name, _ in form.arguments]
        try:
            inspect.signature(self._function).bind(*form.positional, **dict(form.named))
        except TypeError as error:
            mapping = len(form.arguments) == 1 and form.positional and form.positional[0][1] is not None
            advice = "; give arrays by name as **arrays" if mapping else ""
            raise InvalidRequestError(
                f"function {self._called} does not take the arrays {names}: {error}{advice}"
            ) from None
        except ValueError:  # it has no signature; calling it will tell
            pass

    def takes(self, name: str) -> bool:
        """Whether there is a keyword argument of this name."""
        return self._any or name in self._keywords

    def positional(self, count: int) -> list[str]:
        """The names of the first arguments."""
        if count <= len(self._positional):
            return self._positional[:count]
        if self._rest is None:
            raise InvalidRequestError(
                f"function {self._called} takes {len(self._positional)} positional arguments {self._positional}; "
                f"found {count}"
            )
        return self._positional + [f"{self._rest}.{place}" for place in range(count - len(self._positional))]


def flatten_into(leaves: dict[str, Any], name: str, value: object, *, sequences: bool = True) -> Spec:
    """Add the leaves of an argument; lists and tuples are containers, or else arrays, as everywhere."""
    if type(value) is np.ndarray and name not in leaves:
        leaves[name] = value
        return None
    if _is_plain(value):
        return Plain(value, type(value))
    found, spec = [value], None
    if type(value) is dict or not (is_array(value) or (not sequences and _is_sequence(value))):
        found, spec = flattened(value, sequences=sequences)
        if len(found) == 1 and found[0] is value and callable(value) and isinstance(value, Hashable):
            # Such as functools.partial; what can be called and is a container was taken apart.
            return Plain(value, type(value))
    names = leaf_names(name, spec)
    for leaf_name, leaf in zip(names, found, strict=True):
        if type(leaf) not in LEAVES and _is_plain(leaf):
            raise InvalidRequestError(
                f'"{leaf_name}" is {leaf!r:.64}; expected numbers, for a container holds arrays and numbers alone; '
                'flags and text are arguments of their own, or fields of a dataclass with metadata={"static": True}',
                node=leaf_name,
            )
    before = len(leaves)
    leaves.update(zip(names, found, strict=True))
    if len(leaves) < before + len(found):
        raise InvalidRequestError(f"two arrays of this call have one name, among {names}; choose other keys", node=name)
    return spec


def _is_plain(value: object) -> bool:
    return isinstance(value, bool | str) or inspect.isroutine(value)


_ARRAYS = (np.ndarray, float, int)


def is_array(value: object) -> bool:
    """Whether this is no container for sure, but a number or what NumPy makes an array of."""
    return isinstance(value, _ARRAYS) or hasattr(value, "__array__") or hasattr(value, "shape")


def flattened(value: object, *, sequences: bool) -> tuple[list[Any], Spec]:
    """The leaves of a value, and how it nests them."""
    import optree  # noqa: PLC0415  (most calls have no containers)

    tree: Any = value

    is_leaf = None if sequences else _is_sequence
    while True:
        found, spec = optree.tree_flatten(tree, is_leaf=is_leaf, namespace=_NAMESPACE)
        kinds = [kind for kind in {*map(type, found)} - LEAVES if dataclasses.is_dataclass(kind)]
        if not kinds:
            return found, spec
        for kind in kinds:
            register(optree, kind, _NAMESPACE)


def _is_sequence(part: object) -> bool:
    return type(part) in (list, tuple)
