"""Arguments of a function that is traced: pytrees of arrays, flattened to arrays by name and put together again.

optree, which knows containers, is imported when the first container comes.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from gradwire._arrays import check_names
from gradwire._calls.dataclass_kinds import register
from gradwire._errors import InvalidRequestError

Spec: TypeAlias = Any
"""How a container nests its leaves, a ``PyTreeSpec``; None of one array; ``Plain`` of what is no data."""

_NAMESPACE = "gradwire"
"""The namespace of optree in which dataclasses are containers."""


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
        self._any = any(p.kind is p.VAR_KEYWORD for p in parameters)
        self._keywords = {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}

    def flatten(self, given: Sequence[Any], named: Mapping[str, Any]) -> Leaves:
        """The arrays of a call by name.

        Raises:
            InvalidRequestError: The function has no such argument, or a name cannot be sent.
        """
        called = (len(given), *named)
        names = self._names_of.get(called)
        if names is None:
            names = self._names_of[called] = self._names(len(given), named)
        positional, keywords = names
        leaves = Leaves()
        leaves.form = Form(
            tuple([(name, flatten_into(leaves, name, value)) for name, value in zip(positional, given, strict=True)]),
            tuple([(name, flatten_into(leaves, name, named[name], sequences=False)) for name in keywords]),
        )
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
        kinds = [kind for kind in {*map(type, found)} - _NO_DATACLASSES if dataclasses.is_dataclass(kind)]
        if not kinds:
            return found, spec
        for kind in kinds:
            register(optree, kind, _NAMESPACE)


_NO_DATACLASSES = {np.ndarray, np.float64, float, int}
"""Most leaves."""


def _is_sequence(part: object) -> bool:
    return type(part) in (list, tuple)


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
