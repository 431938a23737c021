"""Losses in terms of JAX: functions of parameters ``p`` and inputs ``d``, which give the mean over the examples."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tests.benchmarks.random_graphs import Recipe, build
from tests.benchmarks.timing import Call
from tests.benchmarks.workloads import Make, Workload

SCALARS = (jnp.add, jnp.multiply, jnp.maximum, jax.nn.sigmoid, jnp.tanh)
"""Functions for the operations of a random graph."""

Named = Mapping[str, Any]


def _logistic(p: Named, d: Named) -> Any:
    score = d["x"] @ p["w"] + p["b"]
    return (jax.nn.softplus(score) - d["y"] * score).mean()


def _hinge(p: Named, d: Named) -> Any:
    return jnp.maximum(0, 1 - d["phi"] @ p["w"] * d["y"]).mean()


def _layers(p: Named, x: Any, activation: Callable[[Any], Any]) -> Any:
    for layer in range(len(p) // 2):
        x = (activation(x) if layer else x) @ p[f"W{layer}"].T + p[f"b{layer}"]
    return x


def _classifier(p: Named, d: Named) -> Any:
    scores = jax.nn.log_softmax(_layers(p, d["x"], jax.nn.relu))
    return -jnp.take_along_axis(scores, d["y"][..., None], -1).mean()


def _regressor(p: Named, d: Named) -> Any:
    return ((_layers(p, d["x"], jnp.tanh)[:, 0] - d["y"]) ** 2).mean()


def _embedding(p: Named, d: Named) -> Any:
    score = p["E"][d["ids"]].mean(1) @ p["w"]
    return (jax.nn.softplus(score) - d["y"] * score).mean()


def _factorisation(p: Named, d: Named) -> Any:
    return (((p["U"][d["row"]] * p["V"][d["column"]]).sum(1) - d["y"]) ** 2).mean()


def _attention(p: Named, d: Named) -> Any:
    query, key, value = (d["x"] @ p[name] for name in ("Q", "K", "V"))
    weights = jax.nn.softmax(query @ key.transpose(0, 2, 1) * query.shape[-1] ** -0.5)
    return ((weights @ value) ** 2).mean()


def _rosenbrock(p: Named, _: Named) -> Any:
    before, after = p["x"][:-1], p["x"][1:]
    return (100 * (after - before**2) ** 2 + (1 - before) ** 2).sum()


def _scalars(written: Recipe, p: Named, d: Named) -> Any:
    return jax.vmap(lambda x: build(written, [*x, *p["w"]], SCALARS))(d["x"]).mean()


LOSSES: Mapping[str, Callable[[Named, Named], Any]] = {
    "logistic": _logistic,
    "hinge": _hinge,
    "classifier": _classifier,
    "regressor": _regressor,
    "embedding": _embedding,
    "factorisation": _factorisation,
    "attention": _attention,
    "rosenbrock": _rosenbrock,
}


def _step(work: Workload) -> Any:
    """Value and gradient of a workload, which JAX compiles when it is first called."""
    loss = partial(_scalars, work.recipe) if work.recipe else LOSSES[work.family]
    step = jax.value_and_grad(loss)
    return jax.jit(jax.vmap(step, in_axes=(None, 0)) if work.each else step)


def contestant(make: Make) -> Call:
    """Value and gradient, from arrays of JAX to arrays of JAX."""
    jax.config.update("jax_enable_x64", True)
    work = make()
    step = _step(work)
    parameters, data = jax.tree.map(jnp.asarray, (work.parameters, work.data))
    return lambda: jax.block_until_ready(step(parameters, data))


def from_numpy(make: Make) -> Call:
    """Value and gradient, from arrays of NumPy to arrays of NumPy."""
    jax.config.update("jax_enable_x64", True)
    work = make()
    step = _step(work)

    def call() -> tuple[Any, Any]:
        value, gradients = step(work.parameters, work.data)
        return np.asarray(value), {name: np.asarray(gradient) for name, gradient in gradients.items()}

    return call


def first(make: Make) -> Call:
    """From the loss to its first value and gradient, in a process that has compiled such a loss before."""
    jax.config.update("jax_enable_x64", True)
    work = make()
    parameters, data = jax.tree.map(jnp.asarray, (work.parameters, work.data))
    return lambda: jax.block_until_ready(_step(work)(parameters, data))
