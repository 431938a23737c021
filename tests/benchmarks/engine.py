"""The engine alone, without a wire, against JAX and PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
from torch.nn import functional as F  # noqa: N812  (its usual name)

import gradwire as gw
from gradwire_server import codec, engine
from tests.benchmarks.scalars import SOURCES, build, recipe
from tests.benchmarks.table import Row, rows
from tests.benchmarks.timing import interleave

BATCH = 256
LAYERS = (784, 256, 10)
SCALARS = 1000

Arrays = dict[str, np.ndarray[Any, Any]]


def _engine(loss: gw.Expression, arrays: Mapping[str, Any], dtype: type) -> Callable[[], engine.Evaluation]:
    """The engine on these arrays; checking the request is part of the call."""
    limits = engine.Limits()
    program = engine.compile_graph(codec.decode_graph(gw.graph(loss), limits), limits)
    query = engine.Query(arrays=arrays, dtype=np.dtype(dtype))
    return lambda: engine.run(engine.bind(program, query, limits), lambda: None)


def _perceptron_arrays() -> Arrays:
    random = np.random.default_rng(0)
    inputs, hidden, classes = LAYERS
    return {
        "W1": (random.normal(size=(hidden, inputs)) / 28).astype(np.float32),
        "b1": np.zeros(hidden, np.float32),
        "W2": (random.normal(size=(classes, hidden)) / 16).astype(np.float32),
        "b2": np.zeros(classes, np.float32),
        "x": random.normal(size=(BATCH, inputs)).astype(np.float32),
        "label": random.integers(classes, size=BATCH),
    }


def compare_perceptron() -> Iterator[Row]:
    """One step of a perceptron 784-256-10 with cross-entropy, batch 256, float32."""
    arrays = _perceptron_arrays()
    inputs, hidden, classes = LAYERS
    x = gw.input("x", shape=(inputs,), per_example=True)
    label = gw.input("label", per_example=True, dtype="int64")
    first = gw.matmul(gw.parameter("W1", shape=(hidden, inputs)), x) + gw.parameter("b1", shape=(hidden,))
    scores = gw.matmul(gw.parameter("W2", shape=(classes, hidden)), gw.relu(first)) + gw.parameter(
        "b2", shape=(classes,)
    )
    ours = _engine(gw.softmax_cross_entropy_with_integer_labels(scores, label), arrays, np.float32)

    names = ("W1", "b1", "W2", "b2")

    def loss(parameters: dict[str, Any], x: Any, label: Any) -> Any:
        scores = jax.nn.relu(x @ parameters["W1"].T + parameters["b1"]) @ parameters["W2"].T + parameters["b2"]
        return -jnp.take_along_axis(jax.nn.log_softmax(scores), label[:, None], 1).mean()

    step = jax.jit(jax.value_and_grad(loss))
    parameters = {name: jnp.asarray(arrays[name]) for name in names}
    examples = jnp.asarray(arrays["x"]), jnp.asarray(arrays["label"])
    tensors = {name: torch.tensor(array, requires_grad=name in names) for name, array in arrays.items()}

    def torch_step() -> Any:
        hidden = torch.relu(F.linear(tensors["x"], tensors["W1"], tensors["b1"]))
        total = F.cross_entropy(F.linear(hidden, tensors["W2"], tensors["b2"]), tensors["label"])
        return total, torch.autograd.grad(total, [tensors[name] for name in names])

    result, (value, slopes) = ours(), torch_step()
    np.testing.assert_allclose(result.loss, float(value.detach()), rtol=1e-5)
    np.testing.assert_allclose(result.gradients["W1"], slopes[0].numpy(), rtol=1e-3, atol=1e-6)
    timings = interleave(
        {
            "engine": ours,
            "JAX jit": lambda: jax.block_until_ready(step(parameters, *examples)),
            "torch": torch_step,
        },
        seconds=10,
    )
    yield from rows("perceptron 784-256-10, batch 256, a step", timings, "engine", {"JAX jit": None, "torch": None})


def compare_scalars() -> Iterator[Row]:
    """A random scalar graph of 1,000 live nodes on 256 examples, per node and example."""
    written = recipe(SCALARS)
    random = np.random.default_rng(1)
    arrays = {f"s{i}": random.normal(size=BATCH) for i in range(SOURCES - 4)}
    arrays |= {f"s{i}": np.asarray(random.normal()) for i in range(SOURCES - 4, SOURCES)}
    sources = [gw.input(name, per_example=True) if array.ndim else gw.parameter(name) for name, array in arrays.items()]
    names = [name for name, array in arrays.items() if not array.ndim]
    ours = _engine(
        build(
            written,
            list(sources),
            {"add": gw.add, "mul": gw.mul, "max": gw.maximum, "sigmoid": gw.sigmoid, "tanh": gw.tanh},
        ),
        arrays,
        np.float64,
    )
    with jax.enable_x64(True):
        write = {"add": jnp.add, "mul": jnp.multiply, "max": jnp.maximum, "sigmoid": jax.nn.sigmoid, "tanh": jnp.tanh}

        def one(parameters: list[Any], *inputs: Any) -> Any:
            return build(written, [*inputs, *parameters], write)

        def mean(parameters: list[Any], *inputs: Any) -> Any:
            return jax.vmap(one, in_axes=(None, *[0] * len(inputs)))(parameters, *inputs).mean()

        step = jax.jit(jax.value_and_grad(mean))
        parameters = [jnp.asarray(arrays[name]) for name in names]
        inputs = [jnp.asarray(array) for array in arrays.values() if array.ndim]
        jax.block_until_ready(step(parameters, *inputs))
    tensors = [torch.tensor(array, requires_grad=not array.ndim) for array in arrays.values()]
    in_torch = {"add": torch.add, "mul": torch.mul, "max": torch.maximum, "sigmoid": torch.sigmoid, "tanh": torch.tanh}

    def torch_step() -> Any:
        total = build(written, tensors, in_torch).mean()
        return total, torch.autograd.grad(total, [tensor for tensor in tensors if tensor.requires_grad])

    def jax_step() -> Any:
        with jax.enable_x64(True):
            return jax.block_until_ready(step(parameters, *inputs))

    result, (value, slopes), (again, _) = ours(), torch_step(), jax_step()
    np.testing.assert_allclose(result.loss, float(value.detach()), rtol=1e-10)
    np.testing.assert_allclose(result.loss, float(again), rtol=1e-10)
    np.testing.assert_allclose(result.gradients[names[0]], slopes[0].numpy(), rtol=1e-8)
    timings = interleave({"engine": ours, "JAX jit": jax_step, "torch": torch_step}, seconds=10)
    work = f"scalar graph, {SCALARS} nodes x {BATCH} examples, a node and example"
    yield from rows(work, timings, "engine", {"JAX jit": None, "torch": None}, 1e-9 * SCALARS * BATCH)
