"""Losses as functions of JAX, which callers have as ``gradwire.jax``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Unpack

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_derivatives import SymbolicZero

from gradwire._calls.arguments import Arguments
from gradwire._calls.computation import Computation, Loss, Options
from gradwire._client import Client, ValueAndGrad
from gradwire._errors import InvalidRequestError, UsageError


def function(client: Client, loss: Loss, **options: Unpack[Options]) -> Callable[..., Any]:
    """A function of JAX's arrays that the engine evaluates and differentiates, once, forward or in reverse.

    Args:
        client: Made by ``gw.connect``.
        loss: As for ``client.value_and_grad``; a function has its own arguments, pytrees of JAX, and others have arrays
            by keyword.
        **options: ``reduction`` (``"mean"`` or ``"sum"``), ``ties``, ``inputs``, ``per_example`` and
            ``reject_non_finite``; see ``gw.Options``. Differentiated is what JAX asks for.

    Raises:
        InvalidRequestError: An option makes no sense here.
    """
    refused = sorted({"wrt", "outputs", "has_aux", "dtype"} & options.keys())
    if refused:
        raise InvalidRequestError(f"{refused[0]}= is not for a function of JAX: it returns the loss, in JAX's dtype")
    if options.get("reduction") == "none":
        raise InvalidRequestError('reduction="none" is not for a function of JAX, which is a scalar; use jax.vmap')
    calls = _Calls(client, loss, options)

    def evaluated(*arguments: Any, **named: Any) -> Any:
        leaves, tree = jax.tree.flatten((arguments, named))
        arrays = tuple(map(jnp.asarray, leaves))
        calls.check(tree, arrays)
        return _value(calls, tree, arrays)

    return evaluated


class _Calls:
    """The calls of one loss, by what they are differentiated in."""

    def __init__(self, client: Client, loss: Loss, options: Options) -> None:
        self._client, self._loss, self._options = client, loss, options
        self._names = Arguments(loss) if callable(loss) else None
        self._made: dict[tuple[Any, ...], ValueAndGrad] = {}
        self._computation = Computation(loss, **options)

    def check(self, tree: Any, leaves: Sequence[Any]) -> None:
        """See that the loss takes arrays of these shapes, here and not inside a callback."""
        shaped = [
            np.broadcast_to(np.zeros((), "i8" if leaf.dtype.kind in "iu" else "f4"), leaf.shape) for leaf in leaves
        ]
        arguments, named = jax.tree.unflatten(tree, shaped)
        self._computation.prepared(self._computation.values(arguments, named))

    def __call__(self, tree: Any, perturbed: Sequence[bool], leaves: Sequence[Any]) -> tuple[Any, ...]:
        """The loss, and the gradient in each leaf that is perturbed."""
        dtype = _dtype(leaves)
        held = [
            np.asarray(leaf, dtype) if jnp.issubdtype(leaf.dtype, jnp.floating) else np.asarray(leaf) for leaf in leaves
        ]
        arguments, named = jax.tree.unflatten(tree, held)
        asked = jax.tree.unflatten(tree, perturbed)
        positions = self._names.positional(len(arguments)) if self._names else ()
        by_name = dict(zip(positions, asked[0], strict=True)) | asked[1]
        wrt = tuple(name for name, flags in by_name.items() if any(jax.tree.leaves(flags)))
        value, found = self._call(wrt, dtype)(*arguments, **named)
        slopes = found if isinstance(found, dict) and not arguments else dict(zip(wrt, found, strict=True))
        gradients = [
            gradient
            for name in wrt
            for gradient, flag in zip(jax.tree.leaves(slopes[name]), jax.tree.leaves(by_name[name]), strict=True)
            if flag
        ]
        kinds = [leaf.dtype for leaf, flag in zip(leaves, perturbed, strict=True) if flag]
        return np.asarray(value, dtype), *map(np.asarray, gradients, kinds)

    def _call(self, wrt: tuple[str, ...], dtype: np.dtype[Any]) -> ValueAndGrad:
        key = (wrt, dtype)
        if key not in self._made:
            options: Options = {**self._options, "wrt": wrt, "dtype": dtype}
            self._made[key] = self._client.value_and_grad(self._loss, **options)
        return self._made[key]


def _dtype(leaves: Sequence[Any]) -> np.dtype[Any]:
    """The float dtype that the engine computes in: that of the arrays, at least float32."""
    floats = [leaf.dtype for leaf in leaves if jnp.issubdtype(leaf.dtype, jnp.floating)]
    dtype: np.dtype[Any] = np.dtype(jnp.result_type(jnp.float32, *floats))
    return dtype


def _called(calls: _Calls, tree: Any, perturbed: tuple[bool, ...], leaves: Sequence[Any]) -> Any:
    shapes = [jax.ShapeDtypeStruct((), _dtype(leaves))]
    shapes += [
        jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for leaf, flag in zip(leaves, perturbed, strict=True) if flag
    ]
    held = partial(calls, tree, perturbed)
    return jax.pure_callback(lambda *arrays: held(arrays), tuple(shapes), *leaves, vmap_method="sequential")


@partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def _value(calls: _Calls, tree: Any, leaves: Sequence[Any]) -> Any:
    return _called(calls, tree, (False,) * len(leaves), leaves)[0]


@partial(jax.custom_jvp, nondiff_argnums=(0, 1, 2))
def _value_and_gradients(calls: _Calls, tree: Any, perturbed: tuple[bool, ...], leaves: Sequence[Any]) -> Any:
    return _called(calls, tree, perturbed, leaves)


@partial(_value.defjvp, symbolic_zeros=True)
def _value_jvp(calls: _Calls, tree: Any, primals: Any, tangents: Any) -> tuple[Any, Any]:
    (leaves,), (slopes,) = primals, tangents
    perturbed = tuple(not isinstance(slope, SymbolicZero) and slope.dtype != jax.dtypes.float0 for slope in slopes)
    value, *gradients = _value_and_gradients(calls, tree, perturbed, leaves)
    moving = [slope for slope, flag in zip(slopes, perturbed, strict=True) if flag]
    terms = [jnp.sum(g * slope).astype(value.dtype) for g, slope in zip(gradients, moving, strict=True)]
    return value, sum(terms, jnp.zeros_like(value))


@_value_and_gradients.defjvp  # type: ignore[untyped-decorator]  # JAX's
def _no_second_derivative(*_: Any) -> Any:
    raise UsageError("a loss of gradwire is differentiated once in JAX: there are no gradients of its gradients")
