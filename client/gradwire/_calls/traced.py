"""Python functions as losses: each is traced, once for every form and all shapes of its arguments."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from gradwire._arrays import AS_NUMBERS, Array, as_array
from gradwire._calls.arguments import Arguments, flattened
from gradwire._calls.examples import Column
from gradwire._calls.forms import Form, Leaves, Plain, leaf_names, put_together
from gradwire._calls.naming import call_and_name
from gradwire._calls.problem import Problem
from gradwire._errors import InvalidGraphError, InvalidRequestError
from gradwire._expressions.expression import Expression, as_expression
from gradwire._expressions.node import postorder
from gradwire._expressions.sources import input as input_
from gradwire._expressions.sources import parameter

MOST_FORMS = 128
"""Forms of arguments, and shapes of each, whose graphs are kept, at most; then all are traced again."""

Shapes = Mapping[str, tuple[int, ...]]


class _Roles(NamedTuple):
    """What the arguments of a form are."""

    wrt: tuple[str, ...]
    """Arguments to differentiate in."""
    data: frozenset[str]
    """Leaves that are inputs; the others are parameters."""
    per_example: frozenset[str]
    """Leaves with an axis of examples."""
    problems: dict[object, Problem]
    """Graphs by the shapes of the leaves, and which of them are whole numbers or booleans."""


class Traced:
    """A function with what its arguments are.

    Args:
        function: Makes the loss, an expression, of expressions.
        inputs: Names of arguments, or leaves of arguments, that are data.
        per_example: Those of data with an axis of examples.
        wrt: Names of arguments to differentiate in. None: the first positional argument, or if there is none all that
            are no data. One name, not in a sequence, gives its gradient alone.
        has_aux: Whether the function returns a pair, of which the second one is returned too.
        make: What makes the problem of a loss, from outputs and sources.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        inputs: Sequence[str],
        per_example: Sequence[str],
        wrt: str | Sequence[str] | None,
        has_aux: bool,
        make: Callable[..., Problem],
    ) -> None:
        self._function = function
        self._called = getattr(function, "__name__", repr(function))
        self._arguments = Arguments(function)
        self._data = tuple(inputs) + tuple(per_example)
        self._per_example = tuple(per_example)
        self._wrt = (wrt,) if isinstance(wrt, str) else wrt
        self._alone = wrt is None or isinstance(wrt, str)
        self._has_aux = has_aux
        self._make = make
        self._roles: dict[Form, _Roles] = {}
        """Roles by forms. Functions among the arguments are part of these, each of its own, however alike."""

    def flatten(self, given: Sequence[Any], named: Mapping[str, Any]) -> Leaves:
        """The arrays of a call by name."""
        return self._arguments.flatten(given, named)

    def taken(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Keyword arguments, of these, that the function takes.

        Raises:
            InvalidRequestError: It takes none of them.
        """
        taken = {name: value for name, value in arguments.items() if self._arguments.takes(name)}
        if not taken:
            raise InvalidRequestError(f"function {self._called} takes none of the arguments {', '.join(arguments)}")
        return taken

    def problem(self, values: Leaves, *, examples: bool) -> Problem:
        """The graph that the function makes of arrays of these shapes.

        Args:
            values: As ``flatten`` gives them.
            examples: Whether per-example arrays have an axis of examples.
        """
        form = values.form
        roles = self._roles.get(form)
        if roles is None:
            if len(self._roles) >= MOST_FORMS:
                self._roles.clear()
            roles = self._roles[form] = self._roles_of(form)
        per_example = roles.per_example if examples else ()
        shapes: list[tuple[int, ...]] = []
        kinds: dict[str, str] = {}
        for name, value in values.items():
            if type(value) is np.ndarray and value.dtype.kind in "biuf":
                array = value
            elif type(value) is Column:
                if name not in roles.per_example:
                    raise InvalidRequestError(
                        f'array "{name}" is of examples, but {self._called} takes it as a whole; '
                        "name it in per_example=",
                        node=name,
                    )
                array = value.none
            else:
                array = as_array(name, value)
            shapes.append(array.shape[1:] if name in per_example else array.shape)
            if array.dtype.kind in "biu" and name in roles.data:
                kinds[name] = "bool" if array.dtype.kind == "b" else "int64"
        key = (tuple(shapes), tuple(kinds.items()))
        problem = roles.problems.get(key)
        if problem is None:
            named = dict(zip(values, shapes, strict=True))
            if len(roles.problems) >= MOST_FORMS:
                roles.problems.clear()
            problem = roles.problems[key] = self._trace(form, roles, named, kinds)
        return problem

    def _roles_of(self, form: Form) -> _Roles:
        self._arguments.check(form)
        names = [name for name, _ in form.arguments]
        leaves = {leaf: name for name, spec in form.arguments for leaf in leaf_names(name, spec)}
        absent = [name for name in self._data if name not in names and not any(_covers(name, leaf) for leaf in leaves)]
        if absent:
            raise InvalidRequestError(
                f'function {self._called}: no array is given for input "{absent[0]}"', node=absent[0]
            )
        unknown = [name for name in self._wrt or () if name not in names]
        if unknown:
            raise InvalidRequestError(
                f'function {self._called}: wrt names "{unknown[0]}"; the arguments of this call are {", ".join(names)}',
                node=unknown[0],
            )
        flags = [name for name, spec in form.arguments if isinstance(spec, Plain)]
        fixed = [name for name in (self._wrt or names[: bool(form.positional)]) if name in flags]
        if fixed:
            raise InvalidRequestError(
                f'function {self._called}: "{fixed[0]}" is no array, and there is no gradient in it', node=fixed[0]
            )
        data = {leaf for leaf in leaves if any(_covers(name, leaf) for name in self._data)}
        if self._wrt is not None:
            wrt = tuple(self._wrt)
        elif form.positional:
            wrt = (form.positional[0][0],)
        else:
            wrt = tuple(
                name
                for name, spec in form.named
                if not isinstance(spec, Plain) and not data & set(leaf_names(name, spec))
            )
        if form.positional:
            data |= {leaf for leaf, name in leaves.items() if name not in wrt}
        per_example = {leaf for leaf in leaves if any(_covers(name, leaf) for name in self._per_example)}
        return _Roles(wrt, frozenset(data), frozenset(per_example), {})

    def _trace(self, form: Form, roles: _Roles, shapes: Shapes, kinds: Mapping[str, str]) -> Problem:
        """Trace the function. Data of whole numbers are row indices, unless it does nothing but compute with them."""
        sources: dict[str, Expression] = {
            name: input_(name, shape, per_example=name in roles.per_example, dtype=kinds.get(name))
            if name in roles.data
            else parameter(name, shape)
            for name, shape in shapes.items()
        }
        loss, outputs, aux = self._apply(form, sources)
        nodes = [node for node in postorder(loss, *(outputs or {}).values()) if node.kind == "input"]
        used = {node.name for node in nodes}
        for node in nodes:
            name = node.name.removesuffix(AS_NUMBERS)
            if name in kinds and name not in used:
                # Nobody but this trace has these nodes: they take the name that the array has as floats.
                node.name, sources[name] = name, node
        problem = self._make(loss, outputs=outputs, sources=sources.values())
        if outputs is not None:
            problem.aux = aux
        wrt = tuple(leaf for name in roles.wrt for leaf in leaf_names(name, dict(form.arguments)[name]))
        if self._wrt is not None or set(wrt) != set(problem.parameters):
            problem.wrt = wrt
        if form.positional or any(spec for _, spec in form.named):
            problem.shaped = self._shaped(form, roles.wrt)
        return problem

    def _apply(
        self, form: Form, sources: Mapping[str, Expression]
    ) -> tuple[Expression, Mapping[str, Expression] | None, Callable[[Mapping[str, Array]], Any] | None]:
        """The loss; and with ``has_aux`` what is beside it, by name, and what puts that together again."""
        result = call_and_name(self._function, *form.filled(sources), sources)
        if not self._has_aux:
            return _as_loss(self._called, result), None, None
        if not isinstance(result, tuple) or len(result) != 2:
            raise InvalidGraphError(
                f"function {self._called} returned {type(result).__name__}; with has_aux it returns (loss, more)"
            )
        parts, spec = flattened(result[1], sequences=True)
        nodes = [as_expression(part) for part in parts]
        names = [node.name or path for node, path in zip(nodes, leaf_names("aux", spec), strict=True)]
        outputs = dict(zip(names, nodes, strict=True))
        return _as_loss(self._called, result[0]), outputs, partial(put_together, names, spec)

    def _shaped(self, form: Form, wrt: Sequence[str]) -> Callable[[Mapping[str, Array]], Any]:
        """What nests gradients like the arguments."""
        specs = dict(form.arguments)
        parts = [partial(put_together, leaf_names(name, specs[name]), specs[name]) for name in wrt]
        if not form.positional:
            return lambda gradients: {name: part(gradients) for name, part in zip(wrt, parts, strict=True)}
        if self._alone:
            return parts[0]
        return lambda gradients: tuple(part(gradients) for part in parts)


def _covers(name: str, leaf: str) -> bool:
    """Whether a name means a leaf: its own, or that of what it is in."""
    return leaf == name or (leaf.startswith(name) and leaf[len(name)] in ".[")


def _as_loss(called: str, result: object) -> Expression:
    if not isinstance(result, Expression | int | float | np.number):
        raise InvalidGraphError(f"function {called} returned {type(result).__name__}; a loss returns one expression")
    return as_expression(result)
