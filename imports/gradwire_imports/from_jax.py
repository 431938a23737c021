"""Functions of JAX as expressions, by way of their jaxprs. Needs ``gradwire[jax]``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

import jax
import numpy as np
from jax.extend.core import Literal, jaxpr_as_fun

from gradwire._arrays import as_array
from gradwire._calls.arguments import Arguments, flattened
from gradwire._calls.forms import leaf_names
from gradwire._errors import InvalidGraphError
from gradwire._expressions import functions as gw
from gradwire._expressions.expression import Expression, as_expression
from gradwire._expressions.node import postorder
from gradwire._expressions.shapes import is_integer
from gradwire_imports.jax_rules import CUSTOM, ELEMENTWISE, RULES
from gradwire_imports.values import Gaps, Indices, Missing, Unsupported, Value, evaluate, is_known

_MOST_ROUNDS = 1_000_000
"""Rounds of a loop that are unrolled, at most."""

_INLINED = {
    "jit": "jaxpr",
    "pjit": "jaxpr",
    "closed_call": "call_jaxpr",
    "core_call": "call_jaxpr",
    "remat": "jaxpr",
    "remat2": "jaxpr",
    "checkpoint": "jaxpr",
    "custom_jvp_call": "call_jaxpr",
    "custom_vjp_call": "call_jaxpr",
}
"""Primitives that stand for what they hold, and the parameter that holds it."""


def from_jax(function: Callable[..., Any], *example_arguments: Any) -> Any:
    """A function of JAX as expressions.

    ::

        step = client.value_and_grad(gw.from_jax(loss), per_example=("x", "y"))
        value, grads = step(params, x=x, y=y)

    Without arguments: the function that takes expressions, in pytrees where the function of JAX takes pytrees, and
    gives expressions, to be traced as any other.

    With arguments: what the function returns for ONE example, as expressions. The arrays of the first argument
    become parameters, those of the others inputs that are ``per_example``; integers are row indices. Their names are
    those of the arguments, with keys and indices, as ``params.layers.0.w``.

    Loops whose number of rounds does not depend on arguments are unrolled, and JAX computes what depends on no
    argument, in float32 unless ``jax_enable_x64`` is on. Where several are the largest JAX shares the gradient, as
    ``ties="split"`` does.

    Args:
        function: A function of arrays, or of pytrees of them, that JAX can trace.
        *example_arguments: Arrays for one example, ``[*shape]`` without an axis of examples, or what has ``shape`` and
            ``dtype`` such as ``jax.ShapeDtypeStruct``, in pytrees; expressions stand for themselves.

    Returns:
        A function of expressions; with arguments the expressions, nested like what ``function`` returns.

    Raises:
        InvalidGraphError: It uses what cannot be an expression; all of it is listed, by its names in JAX.
    """
    called = getattr(function, "__name__", repr(function))
    if example_arguments:
        return _applied(called, function, _sources(function, example_arguments), {})

    @wraps(function)
    def of_expressions(*arguments: Any, **named: Any) -> Any:
        return _applied(called, function, arguments, named)

    return of_expressions


def _sources(function: Callable[..., Any], arguments: Sequence[Any]) -> list[Any]:
    """The arguments with a source in place of each array."""
    made: list[Any] = []
    for place, (name, argument) in enumerate(
        zip(Arguments(function).positional(len(arguments)), arguments, strict=True)
    ):
        leaves, spec = flattened(argument, sequences=True)
        names = leaf_names(name, spec)
        made.append(spec.unflatten([_source(own, leaf, place) for own, leaf in zip(names, leaves, strict=True)]))
    return made


def _source(name: str, leaf: Any, place: int) -> Expression:
    if isinstance(leaf, Expression):
        return leaf
    found = leaf if hasattr(leaf, "shape") and hasattr(leaf, "dtype") else as_array(name, leaf)
    whole = np.dtype(found.dtype).kind in "iu"
    if place == 0 and not whole:
        return gw.parameter(name, tuple(found.shape))
    return gw.input(name, tuple(found.shape), per_example=place > 0, dtype="int64" if whole else None)


def _applied(called: str, function: Callable[..., Any], arguments: Sequence[Any], named: dict[str, Any]) -> Any:
    """The function's result for arguments that hold expressions and arrays."""
    leaves, tree = jax.tree.flatten((tuple(arguments), named))
    places = [place for place, leaf in enumerate(leaves) if isinstance(leaf, Expression)]
    held: list[Any] = []

    def of_sources(*values: Any) -> Any:
        filled = list(leaves)
        for place, value in zip(places, values, strict=True):
            filled[place] = value
        given, by_name = jax.tree.unflatten(tree, filled)
        results, out = jax.tree.flatten(function(*given, **by_name))
        held[:] = [out]
        return results

    floats, integers = (jax.dtypes.canonicalize_dtype(kind) for kind in (np.float64, np.int64))
    kinds = [integers if is_integer(leaves[place]) else floats for place in places]
    try:
        closed = jax.make_jaxpr(of_sources)(
            *(jax.ShapeDtypeStruct(leaves[place].shape, kind) for place, kind in zip(places, kinds, strict=True))
        )
    except TypeError as error:
        if "integer" not in str(error) or integers in kinds:
            raise
        raise InvalidGraphError(
            f"function {called}: {error}; what is differentiated in are floats: name arguments of integers in "
            "inputs= or per_example=, or keep them out of the parameters"
        ) from error
    gaps = Gaps()
    sources = [leaves[place] for place in places]
    values = [Indices(node, node.shape) if is_integer(node) else node for node in sources]
    results = _run(gaps, closed, values)
    gaps.check(f"function {called}")
    if _has_own(closed.jaxpr):
        _check_own(called, closed, sources)
    return jax.tree.unflatten(held[0], [_result(called, value) for value in results])


def _result(called: str, value: Value) -> Expression:
    if isinstance(value, Indices):
        raise InvalidGraphError(f"function {called} returns row indices; expected floats")
    return value if isinstance(value, Expression) else as_expression(np.asarray(value))


def _has_own(jaxpr: Any) -> bool:
    """Whether anything in it may have a derivative of its own, which is not that of what it computes."""
    for eqn in jaxpr.eqns:
        name = eqn.primitive.name
        if name == "custom_vjp_call" or (name == "custom_jvp_call" and _called(eqn) not in CUSTOM):
            return True
        held = [part for value in eqn.params.values() for part in (value if isinstance(value, tuple) else (value,))]
        inner = [getattr(part, "jaxpr", part) for part in held]
        if any(_has_own(own) for own in inner if hasattr(own, "eqns")):
            return True
    return False


def _check_own(called: str, closed: Any, sources: Sequence[Expression]) -> None:
    """See, at two random points, that derivatives are those of what is computed, as in a softmax.

    Raises:
        InvalidGraphError: They are not.
    """
    moving = [
        place
        for place, source in enumerate(sources)
        if not is_integer(source) and any(node.kind == "parameter" for node in postorder(source))
    ]
    random = np.random.default_rng(0)
    for _ in range(2):
        point = [np.asarray(random.normal(size=aval.shape)).astype(aval.dtype) for aval in closed.in_avals]

        def slopes(run: Callable[..., list[Any]], point: list[Any] = point) -> list[Any]:
            def weighted(own: list[Any]) -> Any:
                filled = list(point)
                for place, value in zip(moving, own, strict=True):
                    filled[place] = value
                results = [jax.numpy.asarray(value) for value in run(filled)]
                floats = [value for value in results if value.dtype.kind == "f"]
                return sum((value * np.cos(np.arange(value.size)).reshape(value.shape)).sum() for value in floats)

            found: list[Any] = jax.grad(weighted)([point[place] for place in moving])
            return found

        theirs = slopes(lambda own: jaxpr_as_fun(closed)(*own))
        ours = slopes(lambda own: _run(Gaps(plain=True), closed, own))
        near = np.sqrt(np.finfo(closed.out_avals[0].dtype).eps)
        if not all(np.allclose(*pair, near, near, equal_nan=True) for pair in zip(ours, theirs, strict=True)):
            raise InvalidGraphError(
                f"function {called} has a derivative of its own (custom_jvp or custom_vjp), which is "
                "not that of what it computes; a graph has none: write the loss so that both are the same"
            )


def _run(gaps: Gaps, closed: Any, values: Sequence[Value]) -> list[Value]:
    """The results of a jaxpr, primitive by primitive."""
    jaxpr = closed.jaxpr if hasattr(closed, "consts") else closed
    held: dict[Any, Value] = dict(zip(jaxpr.invars, values, strict=True))
    held.update(zip(jaxpr.constvars, getattr(closed, "consts", ()), strict=True))

    def read(var: Any) -> Value:
        return np.asarray(var.val, var.aval.dtype) if isinstance(var, Literal) else held[var]

    for eqn in jaxpr.eqns:
        results = _step(gaps, eqn, [read(var) for var in eqn.invars])
        held.update(zip(eqn.outvars, results, strict=True))
    return [_full(read(var), var) for var in jaxpr.outvars]


def _full(value: Value, var: Any) -> Value:
    """The value in all its size."""
    return gw.broadcast_to(value, var.aval.shape) if isinstance(value, Expression) else value


def _step(gaps: Gaps, eqn: Any, operands: list[Value]) -> Sequence[Value]:
    """The results of one primitive."""
    name, count = eqn.primitive.name, len(eqn.outvars)
    known = all(map(is_known, operands))
    if name in _INLINED and (gaps.plain or not (known and name in ("jit", "pjit"))):
        return _inlined(gaps, eqn, operands)
    if name in _LOOPS and (gaps.plain or not known):
        found = evaluate(gaps, name, _LOOPS[name], gaps, eqn, operands)
        return [found] * count if isinstance(found, Missing) else list(found)
    if any(isinstance(operand, Missing) for operand in operands):
        if name not in ELEMENTWISE and name not in RULES:
            gaps.note(name)
        return [Missing()] * count
    if known:
        result = eqn.primitive.bind(*operands, **eqn.params)
    elif name in ELEMENTWISE:
        result = evaluate(gaps, name, ELEMENTWISE[name], eqn, *operands)
    else:
        full = [_full(operand, var) for operand, var in zip(operands, eqn.invars, strict=True)]
        result = evaluate(gaps, name, RULES.get(name), eqn, *full)
    if isinstance(result, Missing):
        return [result] * count
    return list(result) if eqn.primitive.multiple_results else [result]


def _inlined(gaps: Gaps, eqn: Any, operands: list[Value]) -> Sequence[Value]:
    """What a primitive holds."""
    inner = eqn.params[_INLINED[eqn.primitive.name]]
    known = CUSTOM.get(_called(eqn)) if eqn.primitive.name == "custom_jvp_call" else None
    if known is not None and gaps.plain:
        return [known[1](*operands)]
    if known is not None and all(isinstance(operand, Expression) for operand in operands):
        return [known[0](*operands)]
    return _run(gaps, inner, [_full(operand, var) for operand, var in zip(operands, eqn.invars, strict=True)])


def _called(eqn: Any) -> str:
    """The name of a function with a derivative of its own."""
    return str(eqn.params["call_jaxpr"].jaxpr.debug_info.func_name)


def _cond(gaps: Gaps, eqn: Any, operands: list[Value]) -> Sequence[Value]:
    """One of several branches; of two either, by a choice of results, where that depends on arguments."""
    which, *rest = operands
    branches = eqn.params["branches"]
    if is_known(which):
        return _run(gaps, branches[int(np.clip(which, 0, len(branches) - 1))], rest)
    if not isinstance(which, Expression) or len(branches) != 2:
        raise Unsupported("whose branch depends on arguments")
    pairs = zip(*(_run(gaps, branch, rest) for branch in branches), strict=True)
    return [
        Missing() if isinstance(no, Missing) or isinstance(yes, Missing) else gw.where(which, yes, no)
        for no, yes in pairs
    ]


def _while(gaps: Gaps, eqn: Any, operands: list[Value]) -> Sequence[Value]:
    """A loop, round after round."""
    params = eqn.params
    asks, does = params["cond_nconsts"], params["body_nconsts"]
    asked, done, carry = operands[:asks], operands[asks : asks + does], operands[asks + does :]
    for _ in range(_MOST_ROUNDS):
        (goes_on,) = _run(gaps, params["cond_jaxpr"], [*asked, *carry])
        if not is_known(goes_on):
            raise Unsupported("whose number of rounds depends on arguments")
        if not goes_on:
            return carry
        carry = _run(gaps, params["body_jaxpr"], [*done, *carry])
    raise Unsupported(f"of more than {_MOST_ROUNDS} rounds")


def _scan(gaps: Gaps, eqn: Any, operands: list[Value]) -> Sequence[Value]:
    """A loop over rows, row after row."""
    params = eqn.params
    consts, count, length = params["num_consts"], params["num_carry"], params["length"]
    fixed, carry = operands[:consts], operands[consts : consts + count]
    rows = [
        _full(operand, var)
        for operand, var in zip(operands[consts + count :], eqn.invars[consts + count :], strict=True)
    ]
    if any(isinstance(row, Indices) for row in rows):
        raise Unsupported("over row indices")
    found: list[list[Value]] = []
    for place in range(length)[:: -1 if params["reverse"] else 1]:
        own = [row if isinstance(row, Missing) else row[place] for row in rows]
        results = _run(gaps, params["jaxpr"], [*fixed, *carry, *own])
        carry = results[:count]
        found.append(results[count:])
    if params["reverse"]:
        found.reverse()
    stacked = [_stacked([row[place] for row in found], var) for place, var in enumerate(eqn.outvars[count:])]
    return [*carry, *stacked]


def _stacked(rows: list[Value], var: Any) -> Value:
    if any(isinstance(row, Missing) for row in rows):
        return Missing()
    if all(map(is_known, rows)):
        return jax.numpy.stack(rows).astype(var.aval.dtype) if rows else np.zeros(var.aval.shape, var.aval.dtype)
    return gw.stack([row if isinstance(row, Expression) else np.asarray(row) for row in rows])


_LOOPS: dict[str, Callable[..., Sequence[Value]]] = {"cond": _cond, "while": _while, "scan": _scan}
