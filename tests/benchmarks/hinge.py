"""The hinge loss over many examples: value and gradient, without a wire."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

import gradwire as gw
from tests.benchmarks.peers import with_numpy
from tests.benchmarks.running import alone, evaluation, prepare
from tests.benchmarks.table import Row, rows
from tests.benchmarks.timing import Call, interleave_processes

EXAMPLES = 1_000_000
FEATURES = 100
REACH = {"JAX jit": 1.8, "torch": 3.0, "NumPy": 2.0}


def _arrays() -> dict[str, Any]:
    """Data that is not separable."""
    random = np.random.default_rng(0)
    return {
        "w": 0.1 * random.normal(size=FEATURES),
        "phi": random.normal(size=(EXAMPLES, FEATURES)),
        "y": np.where(random.random(EXAMPLES) < 0.5, -1.0, 1.0),
    }


def _loss(score: Callable[[gw.Expression, gw.Expression], gw.Expression] = gw.dot) -> gw.Expression:
    """Of one example."""
    w, phi = gw.parameter("w", shape=(FEATURES,)), gw.input("phi", shape=(FEATURES,), per_example=True)
    return gw.maximum(0, 1 - score(w, phi) * gw.input("y", per_example=True))


def _sum_of_products(w: gw.Expression, phi: gw.Expression) -> gw.Expression:
    """``dot``, written by hand."""
    return gw.sum(w * phi)


def compare() -> Iterator[Row]:
    """Written with ``dot``, and as a sum of products."""
    for name, score in (("dot", gw.dot), ("sum of products", _sum_of_products)):
        contestants: dict[str, Callable[[], Call]] = {
            "engine": partial(_engine, score),
            "NumPy": _numpy,
            "JAX jit": _jax,
            "torch": _torch,
        }
        timings = interleave_processes(contestants, seconds=15)
        yield from rows(f"hinge loss, {EXAMPLES:,} x {FEATURES}, as {name}", timings, "engine", REACH)
    bound = interleave_processes({"engine": partial(_engine, gw.dot), "scores": _scores}, seconds=8)
    yield from rows(f"hinge loss, {EXAMPLES:,} x {FEATURES}; its scores alone", bound, "engine", {"scores": None})


def _engine(score: Callable[..., gw.Expression]) -> Call:
    """Ours, in a process of its own."""
    alone()
    call = evaluation(prepare(gw.graph(_loss(score))), _arrays())

    def ours() -> tuple[Any, Any]:
        result = call()
        return result.loss, result.gradients["w"]

    return ours


def _numpy() -> Call:
    return partial(with_numpy.hinge, **_arrays())


def _scores() -> Call:
    """The features read once from memory, which no way can do without; NumPy's BLAS has a thread for each core."""
    given = _arrays()
    weights, features = given["w"], given["phi"]
    scores = np.empty(EXAMPLES)

    def step() -> tuple[Any, Any]:
        np.matmul(features, weights, out=scores)
        return None, None

    return step


def _jax() -> Call:
    import jax  # noqa: PLC0415  (in this process alone)
    import jax.numpy as jnp  # noqa: PLC0415  (as above)

    jax.config.update("jax_enable_x64", True)
    step = jax.jit(jax.value_and_grad(lambda w, phi, y: jnp.maximum(0, 1 - phi @ w * y).mean()))
    inputs = [jnp.asarray(array) for array in _arrays().values()]
    return lambda: jax.block_until_ready(step(*inputs))


def _torch() -> Call:
    import torch  # noqa: PLC0415  (in this process alone)

    w, phi, y = map(torch.from_numpy, _arrays().values())
    w.requires_grad_()

    def step() -> tuple[Any, Any]:
        total = torch.clamp(1 - phi @ w * y, min=0).mean()
        return total, torch.autograd.grad(total, w)[0]

    return step
