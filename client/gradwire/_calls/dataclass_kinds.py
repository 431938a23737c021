"""Dataclasses as containers: which fields are arrays, which are what a graph is made for, and how one is made anew."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any

import numpy as np

from gradwire._errors import InvalidRequestError


def register(optree: Any, kind: type[Any], namespace: str) -> None:  # noqa: ANN401  (the module)
    """Have optree know a dataclass: its fields are children, but for those with the metadata ``static``.

    Fields that its constructor does not take stand on the others, and are made by it of these. Flags, text and whole
    numbers that the caller has put there instead stay; anything else where it leaves the default is an error.
    """
    fields = [field for field in dataclasses.fields(kind) if field.init]
    derived = len(fields) < len(dataclasses.fields(kind))
    children = tuple(field.name for field in fields if not field.metadata.get("static"))
    static = tuple(field.name for field in fields if field.metadata.get("static"))
    wanted = [name for name in inspect.signature(kind).parameters if name not in children + static]
    if derived and wanted:
        raise InvalidRequestError(
            f"dataclass {kind.__name__} makes fields of what it does not keep, {wanted[0]}, so that its fields do not "
            "make it anew; give it as a dict"
        )

    surplus = [field.name for field in dataclasses.fields(kind) if not field.init]
    defaults = [field for field in dataclasses.fields(kind) if not field.init and _has_default(field)]

    def flatten(value: object) -> tuple[list[Any], Any, tuple[str, ...]]:
        overwritten = _overwritten(value, surplus, static + children)
        stay = {name for name, _ in overwritten}
        put = [
            field.name
            for field in defaults
            if field.name not in stay and _differ(getattr(value, field.name, None), _default(field))
        ]
        if put:
            anew = kind(**{name: getattr(value, name) for name in static + children})
            lost = [
                field.name
                for field in defaults
                if field.name in put and not _differ(getattr(anew, field.name), _default(field))
            ]
            if lost:
                raise InvalidRequestError(
                    f'field "{lost[0]}" of dataclass {kind.__name__} is {getattr(value, lost[0])!r:.64}, but the '
                    f"constructor, which does not take it, makes it {getattr(anew, lost[0])!r:.64}; have it take it"
                )
        kept = tuple(getattr(value, name) for name in static)
        _check_hashable(kind, dict(zip(static, kept, strict=True)))
        told = (kept, _kinds(kept), overwritten, _kinds(overwritten))
        return [getattr(value, name) for name in children], told, children

    def unflatten(told: tuple[Any, ...], parts: Sequence[Any]) -> object:
        kept, _, overwritten, _ = told
        if derived:
            anew = kind(**dict(zip(static + children, (*kept, *parts), strict=True)))
            for name, part in overwritten:
                object.__setattr__(anew, name, part)
            return anew
        # Not by its constructor, which may expect arrays.
        made = object.__new__(kind)
        for name, part in zip(static + children, (*kept, *parts), strict=True):
            object.__setattr__(made, name, part)
        return made

    optree.register_pytree_node(kind, flatten, unflatten, namespace=namespace)


def _overwritten(value: object, surplus: Sequence[str], taken: Sequence[str]) -> tuple[tuple[str, Any], ...]:
    """Flags, text and whole numbers that the caller has put where the constructor puts others, by field.

    Args:
        value: A dataclass.
        surplus: Fields that the constructor does not take.
        taken: Those that it takes.
    """
    plain = [name for name in surplus if _is_plain(getattr(value, name, dataclasses.MISSING))]
    if not plain:
        return ()
    anew = type(value)(**{name: getattr(value, name) for name in taken})
    found = [(name, getattr(value, name), getattr(anew, name, dataclasses.MISSING)) for name in plain]
    return tuple((name, now) for name, now, then in found if type(now) is not type(then) or now != then)


def _check_hashable(kind: type[Any], static: Mapping[str, object]) -> None:
    for name, part in static.items():
        try:
            hash(part)
        except TypeError:
            raise InvalidRequestError(
                f'static field "{name}" of dataclass {kind.__name__} is of {type(part).__name__}; what graphs are '
                "kept by is hashable, as in JAX: give a tuple, or an array as data"
            ) from None


def _kinds(value: object) -> object:
    """What tells True from 1 and from 1.0, which are equal."""
    return tuple(map(_kinds, value)) if type(value) is tuple else type(value)


def _is_plain(value: object) -> bool:
    """Whether this is a flag, text, a whole number, or several of them; floats and arrays stand on the leaves."""
    if isinstance(value, tuple):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, int | str | bytes | Enum)


def _has_default(field: dataclasses.Field[Any]) -> bool:
    return field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING


def _default(field: dataclasses.Field[Any]) -> Any:  # noqa: ANN401  (whatever it is)
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()


_COMPARED = (bool, int, float, str, list, tuple, dict, set, np.ndarray, np.generic, type(None))
"""What is compared by its value."""


def _differ(one: Any, other: Any) -> bool:  # noqa: ANN401  (whatever they are)
    """Whether two values differ for sure."""
    if not isinstance(one, _COMPARED) or not isinstance(other, _COMPARED):
        return False
    try:
        return not np.all(one == other)
    except ValueError:  # of arrays in containers, or of shapes that differ
        return True
