"""A perceptron with one hidden layer and cross-entropy: a step, and the gradient of each example."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

import gradwire as gw
from gradwire_server.engine import Reduction
from tests.benchmarks.running import alone, evaluation, prepare
from tests.benchmarks.table import Row, rows
from tests.benchmarks.timing import Call, interleave_processes

BATCH = 256
INPUTS, HIDDEN, CLASSES = 784, 256, 10
PARAMETERS = ("W1", "b1", "W2", "b2")
WORK = f"perceptron {INPUTS}-{HIDDEN}-{CLASSES}, batch {BATCH}, float32"


def _arrays() -> dict[str, np.ndarray[Any, Any]]:
    random = np.random.default_rng(0)
    return {
        "W1": (random.normal(size=(HIDDEN, INPUTS)) / 28).astype(np.float32),
        "b1": np.zeros(HIDDEN, np.float32),
        "W2": (random.normal(size=(CLASSES, HIDDEN)) / 16).astype(np.float32),
        "b2": np.zeros(CLASSES, np.float32),
        "x": random.normal(size=(BATCH, INPUTS)).astype(np.float32),
        "label": random.integers(CLASSES, size=BATCH),
    }


def compare_step() -> Iterator[Row]:
    """Value and gradient of the mean."""
    contestants: dict[str, Callable[[], Call]] = {
        "engine": partial(_engine, Reduction.MEAN),
        "JAX jit": _jax_step,
        "torch": _torch_step,
    }
    timings = interleave_processes(contestants, seconds=10)
    yield from rows(f"{WORK}, a step", timings, "engine", {"JAX jit": 1.0, "torch": 1.0})
    bound = interleave_processes({"engine": contestants["engine"], "products": _products}, seconds=5)
    yield from rows(f"{WORK}, a step; the products of its first layer alone", bound, "engine", {"products": None})


def compare_each() -> Iterator[Row]:
    """The gradient of each example."""
    contestants: dict[str, Callable[[], Call]] = {
        "engine": partial(_engine, Reduction.NONE),
        "torch.func": _torch_each,
        "JAX vmap": _jax_each,
    }
    timings = interleave_processes(contestants, seconds=15)
    yield from rows(f"{WORK}, a gradient for each example", timings, "engine", {"torch.func": 3.0, "JAX vmap": 3.0})


def _engine(reduction: Reduction) -> Call:
    x = gw.input("x", shape=(INPUTS,), per_example=True)
    label = gw.input("label", per_example=True, dtype="int64")
    hidden = gw.relu(gw.matmul(gw.parameter("W1", shape=(HIDDEN, INPUTS)), x) + gw.parameter("b1", shape=(HIDDEN,)))
    scores = gw.matmul(gw.parameter("W2", shape=(CLASSES, HIDDEN)), hidden) + gw.parameter("b2", shape=(CLASSES,))
    alone()
    graph = gw.graph(gw.softmax_cross_entropy_with_integer_labels(scores, label))
    call = evaluation(prepare(graph), _arrays(), np.float32, reduction=reduction)

    def step() -> tuple[Any, Any]:
        result = call()
        return result.loss, result.gradients["W1"]

    return step


def _products() -> Call:
    """The matrix products of the first layer, which no step can do without; NumPy's BLAS has a thread for each core."""
    arrays = _arrays()
    weights, x = arrays["W1"], arrays["x"]
    hidden, gradient = np.zeros((HIDDEN, BATCH), np.float32), np.zeros_like(weights)

    def step() -> tuple[Any, Any]:
        np.matmul(weights, x.T, out=hidden)
        np.matmul(hidden, x, out=gradient)
        return None, None

    return step


def _torch_loss(parameters: dict[str, Any], x: Any, label: Any) -> Any:
    from torch.nn import functional as F  # noqa: N812, PLC0415  (its usual name, in processes of its own)

    hidden = F.relu(F.linear(x, parameters["W1"], parameters["b1"]))
    return F.cross_entropy(F.linear(hidden, parameters["W2"], parameters["b2"]), label)


def _torch_step() -> Call:
    import torch  # noqa: PLC0415  (in this process alone)

    arrays = {name: torch.from_numpy(array) for name, array in _arrays().items()}
    parameters = {name: arrays[name].requires_grad_() for name in PARAMETERS}

    def step() -> tuple[Any, Any]:
        total = _torch_loss(parameters, arrays["x"], arrays["label"])
        return total, torch.autograd.grad(total, list(parameters.values()))[0]

    return step


def _torch_each() -> Call:
    import torch  # noqa: PLC0415  (in this process alone)

    arrays = {name: torch.from_numpy(array) for name, array in _arrays().items()}
    parameters = {name: arrays[name] for name in PARAMETERS}
    gradient = torch.func.vmap(torch.func.grad_and_value(_torch_loss), in_dims=(None, 0, 0))

    def step() -> tuple[Any, Any]:
        slopes, value = gradient(parameters, arrays["x"], arrays["label"])
        return value, slopes["W1"]

    return step


def _jax_step() -> Call:
    import jax  # noqa: PLC0415  (in this process alone)
    import jax.numpy as jnp  # noqa: PLC0415  (as above)

    def mean(parameters: dict[str, Any], x: Any, label: Any) -> Any:
        hidden = jax.nn.relu(x @ parameters["W1"].T + parameters["b1"])
        scores = hidden @ parameters["W2"].T + parameters["b2"]
        return -jnp.take_along_axis(jax.nn.log_softmax(scores), label[:, None], 1).mean()

    return _jax_call(jax.jit(jax.value_and_grad(mean)))


def _jax_each() -> Call:
    import jax  # noqa: PLC0415  (in this process alone)

    def one(parameters: dict[str, Any], x: Any, label: Any) -> Any:
        hidden = jax.nn.relu(parameters["W1"] @ x + parameters["b1"])
        return -jax.nn.log_softmax(parameters["W2"] @ hidden + parameters["b2"])[label]

    return _jax_call(jax.jit(jax.vmap(jax.value_and_grad(one), in_axes=(None, 0, 0))))


def _jax_call(step: Any) -> Call:
    import jax  # noqa: PLC0415  (in this process alone)
    import jax.numpy as jnp  # noqa: PLC0415  (as above)

    arrays = {name: jnp.asarray(array) for name, array in _arrays().items()}
    parameters = {name: arrays[name] for name in PARAMETERS}

    def call() -> tuple[Any, Any]:
        value, slopes = jax.block_until_ready(step(parameters, arrays["x"], arrays["label"]))
        return value, slopes["W1"]

    return call
