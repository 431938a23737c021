"""Derivatives beside the gradient of a loss, each by one call that differentiates another loss.

A vector-Jacobian product is the gradient of sum(cotangent * out); a Jacobian that of all rows of the identity at once,
as examples; a Hessian-vector product that of sum(gradient * vector).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from math import prod
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from gradwire._calls.arguments import flattened
from gradwire._calls.computation import Computation, Loss, Options
from gradwire._calls.forms import leaf_names
from gradwire._calls.problem import Problem, names_of
from gradwire._calls.results import Result
from gradwire._errors import InvalidRequestError
from gradwire._expressions.derivatives import gradients
from gradwire._expressions.expression import Expression, as_expression
from gradwire._expressions.node import postorder
from gradwire._expressions.primitives import add, mul
from gradwire._expressions.primitives import sum as sum_over
from gradwire._expressions.sources import input as input_

Values = Mapping[str, ArrayLike]
Finish = Callable[[Result], Any]
"""What makes of a result what the caller gets."""


class VectorJacobian:
    """The product of a vector with the Jacobian of an expression, or of what a function returns."""

    def __init__(self, out: Loss, options: Options) -> None:
        settings = {"reduction": "sum", **_settings(options)}
        self._name = _free_name("cotangent", out)
        if isinstance(out, Expression):
            name = out.name or _free_name("value", out)
            u = input_(self._name, out.shape, per_example=_has_examples(out))
            self._value = name
            self.computation = Computation(sum_over(mul(u, out)), **{**settings, "outputs": {name: out}})
            return
        self._value = ""
        data = "per_example" if names_of(options.get("per_example", ())) else "inputs"
        settings[data] = (*names_of(options.get(data, ())), self._name)
        self.computation = Computation(_replaced(out, self._name, self._weighed), has_aux=True, **settings)

    def asked(self, given: Sequence[Any], named: Mapping[str, Any]) -> tuple[Values, Finish]:
        """The arrays of a call, of which the first is the vector."""
        if not given:
            raise InvalidRequestError("a vector-Jacobian product takes the vector first, shaped like the value")
        values = self.computation.values(given[1:], _with(named, self._name, given[0]))
        return values, lambda result: (
            result.outputs[self._value] if self._value else result.outputs,
            result.gradients,
        )

    @staticmethod
    def _weighed(function: Callable[..., Any], cotangent: Any, args: Any, named: Any) -> Any:  # noqa: ANN401  (pytrees)
        out = as_expression(function(*args, **named))
        _check_shape("the vector", cotangent.shape, "the value", out.shape)
        return sum_over(mul(cotangent, out)), out


class Jacobian:
    """The derivative of each element of an expression, or of what a function returns."""

    def __init__(self, out: Loss, options: Options) -> None:
        if "reduction" in options:
            raise InvalidRequestError("a Jacobian is of each example; it has no reduction")
        settings = _settings(options)
        self._name = _free_name("cotangent", out)
        self._shapes: dict[int, tuple[int, ...]] = {}
        """Shape of what a function returns, by the id of the problem, which the probe keeps."""
        self._seen: list[tuple[int, ...]] = []
        self._probing = Lock()
        if isinstance(out, Expression):
            u = input_(self._name, out.shape, per_example=True)
            self._shape: tuple[int, ...] | None = out.shape
            self._probe = Computation(sum_over(out), **settings)
            self.computation = Computation(sum_over(mul(u, out)), reduction="none", **settings)
            return
        self._shape = None
        self._probe = Computation(_replaced(out, "", self._looked_at), **settings)
        settings["per_example"] = (*names_of(options.get("per_example", ())), self._name)
        self.computation = Computation(_replaced(out, self._name, self._weighed), reduction="none", **settings)

    def asked(self, given: Sequence[Any], named: Mapping[str, Any]) -> tuple[Values, Finish]:
        """The arrays of a call: each example once for each row of the identity."""
        with self._probing:
            problem, arrays, dtype = self._probe.prepared(self._probe.values(given, named))
            shape = self._shape_of(problem)
        size = prod(shape)
        counts = [len(arrays[name]) for name in problem.per_example if name in arrays]
        rows = np.tile(np.eye(size, dtype=dtype).reshape(size, *shape), (counts[0] if counts else 1, *[1] * len(shape)))
        values: dict[str, Any] = self.computation.values(given, _with(named, self._name, rows))  # type: ignore[assignment]  # a new dict
        for name in problem.per_example:
            source = problem.numbers.get(name, name)
            values[source] = np.repeat(arrays[source if source in arrays else name], size, axis=0)
        leading = (*counts[:1], *shape)

        def finish(result: Result) -> Any:  # noqa: ANN401  (nested like the arguments)
            leaves, spec = flattened(result.gradients, sequences=True)
            return spec.unflatten([leaf.reshape((*leading, *leaf.shape[1:])) for leaf in leaves])

        return values, finish

    def _shape_of(self, problem: Problem) -> tuple[int, ...]:
        if self._shape is not None:
            return self._shape
        if self._seen:
            self._shapes[id(problem)] = self._seen[-1]
            self._seen.clear()
        return self._shapes[id(problem)]

    def _looked_at(self, function: Callable[..., Any], _: Any, args: Any, named: Any) -> Expression:  # noqa: ANN401  (pytrees)
        out = as_expression(function(*args, **named))
        self._seen.append(out.shape)
        return sum_over(out)

    @staticmethod
    def _weighed(function: Callable[..., Any], cotangent: Any, args: Any, named: Any) -> Expression:  # noqa: ANN401  (as above)
        return sum_over(mul(cotangent, as_expression(function(*args, **named))))


class HessianVector:
    """The product of the Hessian of a loss with a vector."""

    def __init__(self, loss: Loss, options: Options) -> None:
        settings = _settings(options)
        self._ties = options.get("ties", "zero")
        self._name = _free_name("vector", loss)
        self._of_expression = isinstance(loss, Expression)
        if isinstance(loss, Expression):
            asked = options.get("wrt")
            names = None if asked is None else names_of(asked)
            wanted = {
                node.name: node
                for node in postorder(loss)
                if (node.kind == "parameter" if names is None else node.name in names and not node.operands)
            }
            settings["wrt"] = list(wanted)
            self._wanted = frozenset(wanted)
            vectors = {
                name: input_(f"{self._name} of {name}", node.shape, per_example=_has_examples(node))
                for name, node in wanted.items()
            }
            self.computation = Computation(self._along(loss, wanted, vectors, wanted), **settings)
            return
        if "wrt" in options:
            raise InvalidRequestError(
                "of a function, the Hessian-vector product is in its first argument, or in those that the vector names"
            )
        settings["inputs"] = (*names_of(options.get("inputs", ())), self._name)
        self.computation = Computation(_replaced(loss, self._name, self._derived), **settings)

    def asked(self, given: Sequence[Any], named: Mapping[str, Any]) -> tuple[Values, Finish]:
        """The arrays of a call, of which the first is the vector."""
        if not given:
            raise InvalidRequestError("a Hessian-vector product takes the vector first, nested like what it is in")
        vector, *rest = given
        if self._of_expression:
            if not isinstance(vector, Mapping):
                raise InvalidRequestError(f"the vector is a mapping of arrays by name; found {type(vector).__name__}")
            wrong = sorted({*vector} ^ self._wanted, key=str)
            if wrong:
                lacks = "lacks" if wrong[0] in self._wanted else "has a surplus"
                raise InvalidRequestError(
                    f'the vector {lacks} "{wrong[0]}"; it has an array for each of {", ".join(sorted(self._wanted))}'
                )
            own = {f"{self._name} of {name}": value for name, value in vector.items()}
            return self.computation.values(rest, {**named, **own}), lambda result: result.gradients
        if rest:
            found, nesting = flattened(vector, sequences=True)
            _, expected = flattened(rest[0], sequences=True)
            if nesting != expected:
                raise InvalidRequestError(f"the vector is nested as {nesting}; the first argument as {expected}")
            leaves = dict(enumerate(found))
        elif isinstance(vector, Mapping):
            leaves = dict(vector)
        else:
            raise InvalidRequestError(f"the vector is a mapping of arrays by name; found {type(vector).__name__}")
        own = {str(place): leaf for place, leaf in leaves.items()}
        return self.computation.values(rest, _with(named, self._name, own)), lambda result: result.gradients

    def _derived(self, function: Callable[..., Any], vector: Any, args: Any, named: Any) -> Expression:  # noqa: ANN401  (pytrees)
        loss = as_expression(function(*args, **named))
        nodes = (
            dict(enumerate(flattened(args[0], sequences=True)[0]))
            if args
            else {name: named.get(name) for name in vector}
        )
        targets = {str(place): node for place, node in nodes.items()}
        wrong = sorted({*targets} ^ {*vector}) or [
            name for name, node in targets.items() if not isinstance(node, Expression)
        ]
        if wrong:
            raise InvalidRequestError(f'the vector is not nested like what the product is in; see "{wrong[0]}"')
        paths = (
            leaf_names("vector", flattened(args[0], sequences=True)[1])
            if args
            else [f"vector.{name}" for name in targets]
        )
        return self._along(loss, targets, vector, paths)

    def _along(
        self,
        loss: Expression,
        nodes: Mapping[str, Expression],
        vectors: Mapping[str, Expression],
        paths: Iterable[str],
    ) -> Expression:
        """The derivative of the loss along the vector, whose parts messages call by these paths."""
        for (name, node), path in zip(nodes.items(), paths, strict=True):
            _check_shape(f'"{path}"', vectors[name].shape, "what it is along", node.shape)
        slopes = gradients(loss, list(nodes.values()), self._ties)
        pairs = zip(slopes, nodes, strict=True)
        return add(0.0, *(sum_over(mul(slope, vectors[name])) for slope, name in pairs))


Derivative = VectorJacobian | Jacobian | HessianVector


def _settings(options: Options) -> dict[str, Any]:
    """The options, of those that these calls take."""
    for name in ("has_aux", "outputs"):
        if name in options:
            raise InvalidRequestError(f"{name}= is for value_and_grad; a derivative returns nothing beside itself")
    return dict(options)


def _with(named: Mapping[str, Any], name: str, value: object) -> dict[str, Any]:
    """The keyword arguments and one of our own."""
    if name in named:
        raise InvalidRequestError(f'"{name}" is a name that this call uses itself; choose another for the array')
    return {**named, name: value}


def _check_shape(what: str, found: tuple[int, ...], which: str, expected: tuple[int, ...]) -> None:
    if found != expected:
        raise InvalidRequestError(f"{what} has shape {found}; {which} has shape {expected}, for one example")


def _has_examples(node: Expression) -> bool:
    return any(own.attributes.get("per_example") for own in postorder(node))


def _free_name(wanted: str, loss: Loss) -> str:
    """A name that neither a node of the expression nor an argument of the function has."""
    if isinstance(loss, Expression):
        taken: set[str] = {node.name for node in postorder(loss)}
    elif callable(loss):
        taken = set(_signature(loss).parameters)
    else:
        raise InvalidRequestError(f"it takes an expression or a function of arrays; found {type(loss).__name__}")
    while wanted in taken:
        wanted += "_"
    return wanted


def _signature(function: Callable[..., Any]) -> inspect.Signature:
    try:
        return inspect.signature(function)
    except (TypeError, ValueError):
        anything = [inspect.Parameter("args", inspect.Parameter.VAR_POSITIONAL)]
        return inspect.Signature([*anything, inspect.Parameter("named", inspect.Parameter.VAR_KEYWORD)])


def _replaced(function: Any, name: str, made: Callable[[Callable[..., Any], Any, Any, Any], Any]) -> Callable[..., Any]:  # noqa: ANN401  (a loss that is callable)
    """A function that gives what is ``made`` of another one, of a keyword argument of this name, and of the others."""

    def replaced(*args: Any, **named: Any) -> Any:  # noqa: ANN401  (what is made)
        own = named.pop(name, None)
        return made(function, own, args, named)

    signature = _signature(function)
    parameters = list(signature.parameters.values())
    if name:
        last = [parameters.pop()] if parameters and parameters[-1].kind is inspect.Parameter.VAR_KEYWORD else []
        parameters += [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY), *last]
    replaced.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]  # what inspect looks for
    replaced.__name__ = getattr(function, "__name__", repr(function))
    return replaced
