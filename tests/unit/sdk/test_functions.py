"""Every function on expressions against PyTorch, which is an independent oracle, and against finite differences."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch.nn import functional as F  # noqa: N812  (its usual name)

import gradwire as gw

Arrays = dict[str, Any]


class Row(NamedTuple):
    """A function, how PyTorch writes it, and where both are tried; everything in float64."""

    name: str
    ours: Callable[..., gw.Expression]
    theirs: Callable[..., Any]
    arrays: Arrays
    data: tuple[str, ...] = ()
    """Arrays that are not differentiated in, and neither is an expression."""


RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(3, 4)) * 2
Y = RANDOM.normal(size=(3, 4))
V = RANDOM.normal(size=4)
P = RANDOM.random((3, 4)) + 0.1
LABELS = RANDOM.random((3, 4))
ONE_HOT = np.eye(4)[[1, 0, 3]]
TAILS = np.array([-800.0, -40.0, -1e-9, 1e-9, 40.0, 800.0])

CUBE = np.stack([X, Y])
BITS = np.array([[0.0, 0.0, 1.0, 1.0, -2.0], [0.0, 1.0, 0.0, 1.0, -2.0]])


def scattered(x: Any) -> Any:
    return torch.zeros(3, *x.shape[1:], dtype=x.dtype).index_add(0, torch.tensor([1, 1, 0]), x)


def masked_variance(x: Any) -> Any:
    return torch.stack([x[:, column][torch.tensor(Y[:, column] > -1)].var() for column in range(4)])


def focal(x: Any, t: Any, alpha: float | None = None, gamma: float = 2.0) -> Any:
    """As in the code of its authors."""
    p = torch.sigmoid(x)
    loss = F.binary_cross_entropy_with_logits(x, t, reduction="none") * (1 - (p * t + (1 - p) * (1 - t))) ** gamma
    return loss if alpha is None else (alpha * t + (1 - alpha) * (1 - t)) * loss


ROWS = [
    Row("abs", gw.abs, torch.abs, {"x": X}),
    Row("add", gw.add, lambda x, y, v: x + y + v, {"x": X, "y": Y, "v": V}),
    Row("clip", lambda x: gw.clip(x, -1, 1.5), lambda x: torch.clip(x, -1, 1.5), {"x": X}),
    Row("divide", gw.divide, torch.divide, {"x": X, "y": P}),
    Row("divide", lambda x: gw.divide(x, V * 1e-40), lambda x: x / torch.tensor(V * 1e-40), {"x": X * 1e-40}),
    Row("dot", gw.dot, torch.dot, {"x": V, "y": X[0]}),
    Row("dot", gw.dot, torch.matmul, {"x": X, "y": V}),
    Row("dot", gw.dot, torch.mul, {"x": X, "y": np.array(3.0)}),
    Row("exp", gw.exp, torch.exp, {"x": X}),
    Row("gelu", gw.gelu, lambda x: F.gelu(x, approximate="tanh"), {"x": X}),
    Row("hinge_loss", gw.hinge_loss, lambda s, y: torch.relu(1 - s * y), {"s": X, "y": np.sign(Y)}, ("y",)),
    Row("leaky_relu", gw.leaky_relu, F.leaky_relu, {"x": X}),
    Row("leaky_relu", lambda x: gw.leaky_relu(x, 0.3), lambda x: F.leaky_relu(x, 0.3), {"x": X}),
    Row("log", gw.log, torch.log, {"x": P}),
    Row("log_sigmoid", gw.log_sigmoid, F.logsigmoid, {"x": X}),
    Row("log_sigmoid", gw.log_sigmoid, F.logsigmoid, {"x": TAILS}),
    Row("log_softmax", gw.log_softmax, lambda x: F.log_softmax(x, -1), {"x": X}),
    Row("log_softmax", gw.log_softmax, lambda x: F.log_softmax(x, -1), {"x": TAILS}),
    Row("log_softmax", lambda x: gw.log_softmax(x, 0), lambda x: F.log_softmax(x, 0), {"x": X}),
    Row("logaddexp", gw.logaddexp, torch.logaddexp, {"x": X, "y": Y}),
    Row("logaddexp", gw.logaddexp, torch.logaddexp, {"x": TAILS, "y": TAILS + 1}),
    Row("logaddexp", gw.logaddexp, torch.logaddexp, {"x": TAILS, "y": TAILS}),
    Row("logaddexp", gw.logaddexp, torch.logaddexp, {"x": TAILS, "y": TAILS[::-1].copy()}),
    Row("logsumexp", gw.logsumexp, lambda x: torch.logsumexp(x, (0, 1)), {"x": X}),
    Row("logsumexp", lambda x: gw.logsumexp(x, 1), lambda x: torch.logsumexp(x, 1), {"x": X}),
    Row("logsumexp", gw.logsumexp, lambda x: torch.logsumexp(x, 0), {"x": TAILS}),
    Row("matmul", gw.matmul, torch.matmul, {"x": X, "y": Y.T}),
    Row("matmul", gw.matmul, torch.matmul, {"x": np.stack([X, Y]), "y": V}),
    Row("max", gw.max, lambda x: x.amax(), {"x": X}),
    Row("max", lambda x: gw.max(x, 0, keepdims=True), lambda x: x.amax(0, keepdim=True), {"x": X}),
    Row("maximum", gw.maximum, torch.maximum, {"x": X, "y": Y}),
    Row("mean", gw.mean, torch.mean, {"x": X}),
    Row("mean", lambda x: gw.mean(x, 1, keepdims=True), lambda x: x.mean(1, keepdim=True), {"x": X}),
    Row("min", gw.min, lambda x: x.amin(), {"x": X}),
    Row("min", lambda x: gw.min(x, 0), lambda x: x.amin(0), {"x": X}),
    Row("minimum", gw.minimum, torch.minimum, {"x": X, "y": Y}),
    Row("mul", gw.mul, lambda x, y, v: x * y * v, {"x": X, "y": Y, "v": V}),
    Row("negative", gw.negative, torch.negative, {"x": X}),
    Row("power", lambda x: gw.power(x, 3), lambda x: x**3, {"x": X}),
    Row("power", lambda x: gw.power(x, -1.5), lambda x: x**-1.5, {"x": P}),
    Row("relu", gw.relu, torch.relu, {"x": X}),
    Row("reshape", lambda x: gw.reshape(x, (2, -1)), lambda x: x.reshape(2, -1), {"x": X}),
    Row("sigmoid", gw.sigmoid, torch.sigmoid, {"x": X}),
    Row("sigmoid", gw.sigmoid, torch.sigmoid, {"x": TAILS}),
    Row(
        "sigmoid_binary_cross_entropy",
        gw.sigmoid_binary_cross_entropy,
        lambda x, t: F.binary_cross_entropy_with_logits(x, t, reduction="none"),
        {"x": X, "t": LABELS},
        ("t",),
    ),
    Row(
        "sigmoid_binary_cross_entropy",
        gw.sigmoid_binary_cross_entropy,
        lambda x, t: F.binary_cross_entropy_with_logits(x, t, reduction="none"),
        {"x": TAILS, "t": np.array([0.0, 1, 0, 1, 0, 1])},
        ("t",),
    ),
    Row("silu", gw.silu, F.silu, {"x": X}),
    Row("softmax", gw.softmax, lambda x: F.softmax(x, -1), {"x": X}),
    Row("softmax", gw.softmax, lambda x: F.softmax(x, -1), {"x": TAILS}),
    Row("softmax", lambda x: gw.softmax(x, 0), lambda x: F.softmax(x, 0), {"x": X}),
    Row(
        "softmax_cross_entropy",
        gw.softmax_cross_entropy,
        lambda x, t: F.cross_entropy(x, t, reduction="none"),
        {"x": X, "t": ONE_HOT},
        ("t",),
    ),
    Row(
        "softmax_cross_entropy_with_integer_labels",
        lambda x: gw.softmax_cross_entropy_with_integer_labels(x, 2),
        lambda x: F.cross_entropy(x, torch.tensor(2)),
        {"x": V},
    ),
    Row("softplus", gw.softplus, F.softplus, {"x": X}),
    Row("softplus", gw.softplus, lambda x: -F.logsigmoid(-x), {"x": TAILS}),
    Row("sqrt", gw.sqrt, torch.sqrt, {"x": P}),
    Row("square", gw.square, torch.square, {"x": X}),
    Row("squared_error", gw.squared_error, lambda x, t: (x - t) ** 2, {"x": X, "t": Y}, ("t",)),
    Row("subtract", gw.subtract, torch.subtract, {"x": X, "y": V}),
    Row("sum", gw.sum, torch.sum, {"x": X}),
    Row("sum", lambda x: gw.sum(x, (0, -1), keepdims=True), lambda x: x.sum((0, 1), keepdim=True), {"x": X}),
    Row("sum", lambda x: gw.sum(x, ()), lambda x: x, {"x": X}),
    Row("take", lambda x: gw.take(x, [2, 0, 0, -1]), lambda x: x[[2, 0, 0, 2]], {"x": X}),
    Row("tanh", gw.tanh, torch.tanh, {"x": X}),
    Row("transpose", gw.transpose, lambda x: x.T, {"x": X}),
    Row(
        "transpose",
        lambda x: gw.transpose(x, (1, -1, 0)),
        lambda x: x.permute(1, 2, 0),
        {"x": np.stack([X, Y])},
    ),
    *(
        Row(name, getattr(gw, name), lambda x, y, f=f: f(x, y).double() + 0 * (x + y), {"x": X, "y": Y})
        for name, f in (
            ("less", torch.less),
            ("less_equal", torch.less_equal),
            ("greater", torch.greater),
            ("greater_equal", torch.greater_equal),
            ("equal", torch.eq),
            ("not_equal", torch.ne),
        )
    ),
    *(
        Row(name, getattr(gw, name), lambda x, y, f=f: f(x, y).double() + 0 * (x + y), {"x": BITS[0], "y": BITS[1]})
        for name, f in (("less_equal", torch.less_equal), ("greater_equal", torch.greater_equal))
    ),
    *(
        Row(
            name,
            getattr(gw, name),
            lambda x, y, f=f: f(x, y).double() + 0 * (x + y),
            {"x": BITS[0], "y": BITS[1]},
            ("x",),
        )
        for name, f in (
            ("logical_and", torch.logical_and),
            ("logical_or", torch.logical_or),
            ("logical_xor", torch.logical_xor),
            ("equal", torch.eq),
        )
    ),
    Row(
        "logical_not", lambda x, y: gw.logical_not(y) * x, lambda x, y: (y == 0) * x, {"x": V, "y": BITS[0, 1:]}, ("y",)
    ),
    Row("sign", gw.sign, torch.sign, {"x": X}),
    Row("where", lambda x, y: gw.where(x > 0.3, x, y), lambda x, y: torch.where(x > 0.3, x, y), {"x": X, "y": Y}),
    Row(
        "where",
        lambda x, v: gw.where(Y > 0, x, v),
        lambda x, v: torch.where(torch.tensor(Y > 0), x, v),
        {"x": X, "v": V},
    ),
    *(Row(name, getattr(gw, name), getattr(torch, name), {"x": X}) for name in ("sin", "cos", "expm1", "erf")),
    Row("log1p", gw.log1p, torch.log1p, {"x": P}),
    *(
        Row(name, getattr(gw, name), getattr(torch, name), {"x": np.array([-1e-9, 1e-9, 1e-300, 0.5])})
        for name in ("sin", "log1p", "expm1", "erf")
    ),
    Row("std", gw.std, lambda x: x.std(correction=0), {"x": X}),
    Row("std", lambda x: gw.std(x, 1, keepdims=True), lambda x: x.std(1, correction=0, keepdim=True), {"x": X}),
    Row("std", lambda x: gw.std(x, ddof=1), lambda x: x.std(), {"x": X}),
    Row("var", lambda x: gw.var(x, 0, where=Y > -1, ddof=1), masked_variance, {"x": X}),
    Row("norm", lambda x: gw.norm(x, 3, 0), lambda x: torch.linalg.vector_norm(x, 3, 0), {"x": X}),
    Row(
        "power",
        lambda x: gw.power([2.0, 0.5, 3.0, 1.0], x),
        lambda x: torch.tensor([2.0, 0.5, 3.0, 1.0]) ** x,
        {"x": X},
    ),
    Row("prod", gw.prod, torch.prod, {"x": X}),
    Row("prod", lambda x: gw.prod(x, 0), lambda x: x.prod(0), {"x": np.array([[2.0, 0.0, 0.0], [3.0, 4.0, 0.0]])}),
    Row("prod", lambda x: gw.prod(x, (0, 2), keepdims=True), lambda x: x.prod(2, True).prod(0, True), {"x": CUBE}),
    Row("norm", gw.norm, torch.linalg.norm, {"x": X}),
    Row("norm", lambda x: gw.norm(x, 1, 0), lambda x: torch.linalg.vector_norm(x, 1, 0), {"x": X}),
    Row("norm", lambda x: gw.norm(x, np.inf, 0), lambda x: torch.linalg.vector_norm(x, np.inf, 0), {"x": X}),
    Row(
        "norm",
        lambda x: gw.norm(x, axis=1, keepdims=True),
        lambda x: torch.linalg.norm(x, dim=1, keepdim=True),
        {"x": X},
    ),
    Row("stop_gradient", lambda x: x * gw.stop_gradient(gw.sign(x)), lambda x: x * x.sign().detach(), {"x": X}),
    Row("cumsum", lambda x: gw.cumsum(x, -1), lambda x: x.cumsum(-1), {"x": X}),
    Row("cumsum", gw.cumsum, lambda x: x.reshape(-1).cumsum(0), {"x": X}),
    Row("concatenate", lambda x, y: gw.concatenate([x, y], 1), lambda x, y: torch.cat([x, y], 1), {"x": X, "y": Y}),
    Row(
        "concatenate",
        lambda x, v: gw.concatenate([x, v], None),
        lambda x, v: torch.cat([x.reshape(-1), v]),
        {"x": X, "v": V},
    ),
    Row("stack", lambda x, y: gw.stack([x, y], -1), lambda x, y: torch.stack([x, y], -1), {"x": X, "y": Y}),
    Row("split", lambda x: gw.split(x, 2, 1)[1], lambda x: x[:, 2:], {"x": X}),
    Row("split", lambda x: gw.split(x, [1, -1], 1)[1], lambda x: x[:, 1:-1], {"x": X}),
    Row("expand_dims", lambda x: gw.expand_dims(x, (0, 2)), lambda x: x[None, :, None], {"x": X}),
    Row("squeeze", lambda x: gw.squeeze(x[:1]), lambda x: x[0], {"x": X}),
    Row("ravel", gw.ravel, torch.ravel, {"x": X}),
    Row("broadcast_to", lambda v: gw.broadcast_to(v, (2, 3, 4)), lambda v: v.expand(2, 3, 4), {"v": V}),
    Row("swapaxes", lambda x: gw.swapaxes(x, 0, 2), lambda x: x.swapaxes(0, 2), {"x": CUBE}),
    Row("moveaxis", lambda x: gw.moveaxis(x, (0, 1), (-1, 0)), lambda x: x.movedim((0, 1), (-1, 0)), {"x": CUBE}),
    Row("flip", lambda x: gw.flip(x, 1), lambda x: x.flip(1), {"x": X}),
    Row("flip", gw.flip, lambda x: x.flip(0, 1), {"x": X}),
    Row("roll", lambda x: gw.roll(x, 5, 1), lambda x: x.roll(5, 1), {"x": X}),
    Row("roll", lambda x: gw.roll(x, -2), lambda x: x.roll(-2), {"x": X}),
    Row("repeat", lambda x: gw.repeat(x, 2, 0), lambda x: x.repeat_interleave(2, 0), {"x": X}),
    Row("repeat", lambda x: gw.repeat(x, 3), lambda x: x.repeat_interleave(3), {"x": X}),
    Row("tile", lambda x: gw.tile(x, (2, 1, 3)), lambda x: x.tile(2, 1, 3), {"x": X}),
    Row("diff", gw.diff, torch.diff, {"x": X}),
    Row("diff", lambda x: gw.diff(x, 2, 0), lambda x: torch.diff(x, 2, 0), {"x": X}),
    Row("pad", lambda x: gw.pad(x, ((1, 0), (0, 2)), 3), lambda x: F.pad(x, (0, 2, 1, 0), value=3), {"x": X}),
    Row("tril", lambda x: gw.tril(x, -1), lambda x: x.tril(-1), {"x": X}),
    Row("triu", lambda x: gw.triu(x, 1), lambda x: x.triu(1), {"x": CUBE}),
    Row("diagonal", lambda x: gw.diagonal(x, 1), lambda x: x.diagonal(1), {"x": X}),
    Row("diagonal", lambda x: gw.diagonal(x, -1, 0, 2), lambda x: x.diagonal(-1, 0, 2), {"x": CUBE}),
    Row("diagonal", lambda x: gw.diagonal(x, 9), lambda x: x.diagonal(4), {"x": X}),
    Row("trace", gw.trace, lambda x: x.diagonal().sum(), {"x": X}),
    Row("outer", gw.outer, torch.outer, {"v": V, "x": X[0]}),
    Row("inner", gw.inner, torch.inner, {"x": X, "v": V}),
    Row("tensordot", lambda x, y: gw.tensordot(x, y, ([1], [1])), lambda x, y: x @ y.T, {"x": X, "y": Y}),
    Row("tensordot", lambda x, y: gw.tensordot(x, y, 0), lambda x, y: torch.tensordot(x, y, 0), {"x": X, "y": Y}),
    *(
        Row("einsum", lambda x, y, s=s: gw.einsum(s, x, y), lambda x, y, s=s: torch.einsum(s, x, y), {"x": X, "y": Y})
        for s in ("ij,kj->ik", "ij,ij", "ij,ij->j", "ij,kl->kjli", "ij,kj->ijk")
    ),
    Row(
        "einsum", lambda x: gw.einsum("iji->j", x), lambda x: torch.einsum("iji->j", x), {"x": np.stack([X[:, :2]] * 2)}
    ),
    Row("einsum", lambda x, v: gw.einsum("...i,i", x, v), lambda x, v: x @ v, {"x": CUBE, "v": V}),
    Row("scatter_add", lambda x: gw.scatter_add(x, [1, 1, 0], 3), scattered, {"x": X}),
    Row("scatter_add", lambda x: gw.scatter_add(x, [1, -2, 0], 3, -1), lambda x: scattered(x.T).T, {"x": X[:, :3]}),
    Row("elu", gw.elu, F.elu, {"x": X}),
    Row("elu", lambda x: gw.elu(x, 0.3), lambda x: F.elu(x, 0.3), {"x": TAILS}),
    Row("gelu", lambda x: gw.gelu(x, approximate=False), F.gelu, {"x": X}),
    Row("huber_loss", gw.huber_loss, lambda x, t: F.huber_loss(x, t, reduction="none"), {"x": X, "t": Y}, ("t",)),
    Row(
        "huber_loss",
        lambda x, t: gw.huber_loss(x, t, 0.5),
        lambda x, t: F.huber_loss(x, t, reduction="none", delta=0.5),
        {"x": X, "t": Y},
    ),
    Row(
        "quantile_loss",
        lambda x, t: gw.quantile_loss(x, t, 0.9),
        lambda x, t: torch.where(t > x, 0.9 * (t - x), 0.1 * (x - t)),
        {"x": X, "t": Y},
    ),
    Row("sigmoid_focal_loss", gw.sigmoid_focal_loss, focal, {"x": X, "t": np.round(LABELS)}, ("t",)),
    Row(
        "sigmoid_focal_loss",
        lambda x, t: gw.sigmoid_focal_loss(x, t, 0.25, 1.5),
        lambda x, t: focal(x, t, 0.25, 1.5),
        {"x": X, "t": np.round(LABELS)},
        ("t",),
    ),
    Row(
        "gaussian_nll",
        gw.gaussian_nll,
        lambda x, t, v: F.gaussian_nll_loss(x, t, v, full=True, reduction="none"),
        {"x": X, "t": Y, "v": P},
    ),
    Row("poisson_nll", gw.poisson_nll, lambda x, t: F.poisson_nll_loss(x, t, reduction="none"), {"x": X, "t": P}),
    *(
        Row(
            "conv",
            lambda x, k, own=own: gw.conv(x, k, **own),
            lambda x, k, own=own: F.conv2d(x[None], k, **own)[0],
            {"x": RANDOM.normal(size=(2, 5, 6)), "k": RANDOM.normal(size=(3, 2, 2, 3))},
        )
        for own in ({}, {"stride": 2}, {"padding": 1}, {"stride": (1, 2), "padding": (0, 2)})
    ),
    Row("conv", gw.conv, F.conv1d, {"x": RANDOM.normal(size=(2, 3, 7)), "k": RANDOM.normal(size=(4, 3, 2))}),
    Row(
        "max_pool", lambda x: gw.max_pool(x, (2, 2)), lambda x: F.max_pool2d(x, 2), {"x": RANDOM.normal(size=(2, 5, 4))}
    ),
    Row(
        "max_pool",
        lambda x: gw.max_pool(x, 3, stride=2, padding=1),
        lambda x: F.max_pool1d(x, 3, 2, 1),
        {"x": RANDOM.normal(size=(2, 7))},
    ),
    Row(
        "avg_pool",
        lambda x: gw.avg_pool(x, (3, 2), stride=1, padding=1),
        lambda x: F.avg_pool2d(x, (3, 2), 1, 1),
        {"x": RANDOM.normal(size=(2, 5, 4))},
    ),
    Row(
        "layer_norm",
        gw.layer_norm,
        lambda x, a, b: F.layer_norm(x, (4,), a, b),
        {"x": X, "a": V, "b": X[0]},
    ),
    Row(
        "attention",
        gw.attention,
        F.scaled_dot_product_attention,
        {"q": X, "k": RANDOM.normal(size=(5, 4)), "v": RANDOM.normal(size=(5, 2))},
    ),
    Row(
        "attention",
        lambda q, k, v: gw.attention(q, k, v, np.tri(3)),
        lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True),
        {"q": CUBE, "k": CUBE[::-1] + 1, "v": CUBE * 2},
    ),
    Row("var", gw.var, lambda x: x.var(correction=0), {"x": X}),
    Row("var", lambda x: gw.var(x, 0), lambda x: x.var(0, correction=0), {"x": X}),
]


@pytest.fixture(scope="module")
def client() -> Iterator[gw.Client]:
    with gw.connect("local") as client:
        yield client


def test_every_function_has_a_row() -> None:
    from gradwire._expressions import functions  # noqa: PLC0415  (the list of all)

    assert set(functions.__all__) - {row.name for row in ROWS} == {"constant", "input", "parameter"}


@pytest.mark.parametrize("ties", ["zero", "split"])
@pytest.mark.parametrize("row", ROWS, ids=[f"{row.name}-{i}" for i, row in enumerate(ROWS)])
def test_value_and_gradient(client: gw.Client, row: Row, ties: str) -> None:
    parameters = {name: array for name, array in row.arrays.items() if name not in row.data}
    operands = [
        gw.parameter(name, np.shape(array)) if name in parameters else array for name, array in row.arrays.items()
    ]
    result = row.ours(*operands)
    theirs = {name: torch.tensor(array, requires_grad=name in parameters) for name, array in row.arrays.items()}
    expected = row.theirs(*theirs.values())
    assert result.shape == tuple(expected.shape)

    # Weights tell the elements of the result apart.
    weights = np.linspace(1, 2, result.size).reshape(result.shape)
    loss = gw.sum(result.named("result") * weights) if result.kind != "parameter" else gw.sum(result * weights)
    value, gradients = client.value_and_grad(loss, ties=ties)(parameters)
    (expected * torch.tensor(weights)).sum().backward()
    np.testing.assert_allclose(value, (expected * torch.tensor(weights)).sum().item(), rtol=1e-12, atol=1e-300)
    for name in parameters:
        grad = theirs[name].grad
        assert grad is not None
        np.testing.assert_allclose(gradients[name], grad.numpy(), rtol=1e-10, atol=1e-15)
    # Steps grow with |x|, so in the tails differences are coarse.
    report = client.check(loss, parameters, options={"ties": ties}, tolerance=1e-5)
    assert report, str(report)


ZERO = [
    ("tanh", gw.tanh, 1.0),
    ("softplus", gw.softplus, 0.5),
    ("log_sigmoid", gw.log_sigmoid, 0.5),
    ("sigmoid_binary_cross_entropy", lambda x: gw.sigmoid_binary_cross_entropy(x, 1.0), -0.5),
    ("relu", gw.relu, 0.0),
    ("abs", gw.abs, 0.0),
    ("square", gw.square, 0.0),
    ("gelu", gw.gelu, 0.5),
    ("silu", gw.silu, 0.5),
    ("logaddexp", lambda x: gw.logaddexp(x, 0.0), 0.5),
    ("leaky_relu", gw.leaky_relu, 0.01),
]


@pytest.mark.parametrize(("function", "slope"), [row[1:] for row in ZERO], ids=[row[0] for row in ZERO])
def test_slope_at_zero_where_training_starts(client: gw.Client, function: Any, slope: float) -> None:
    _, gradients = client.value_and_grad(function(gw.parameter("x")))(x=0.0)
    assert gradients["x"] == slope


@pytest.mark.parametrize(("ties", "slope"), [("zero", 0.25), ("split", 0.625)])
def test_leaky_relu_at_zero_has_its_slope_and_the_share_of_relu(client: gw.Client, ties: str, slope: float) -> None:
    value, gradients = client.value_and_grad(gw.leaky_relu(gw.parameter("x"), 0.25), ties=ties)(x=0.0)
    assert (value, gradients["x"]) == (0, slope)


@pytest.mark.parametrize("ties", ["zero", "split"])
@pytest.mark.parametrize("zero", [0.0, -0.0])
def test_abs_of_zero_is_no_negative_zero(client: gw.Client, zero: float, ties: str) -> None:
    value, gradients = client.value_and_grad(gw.abs(gw.parameter("x")), ties=ties)(x=zero)
    assert (str(value), gradients["x"]) == ("0.0", 0)


@pytest.mark.parametrize("divisor", [5e-324, 1e-310, 1e-39, 1e-38])
def test_numbers_whose_reciprocal_overflows_may_divide(client: gw.Client, divisor: float) -> None:
    for dtype in ("float32", "float64"):
        x = np.dtype(dtype).type(divisor)
        if x:
            value, _ = client.value_and_grad(gw.parameter("x") / divisor)(x=x)
            np.testing.assert_allclose(value, 1, rtol=1e-6 if dtype == "float32" else 1e-15)


INFINITE = float("inf")
PAIRS = [
    (-20, 0),
    (0, 20),
    (3, 3),
    (0, 0),
    (-1e16, 1),
    (800, -800),
    (1, 1 + 2**-23),
    (1e-30, -1e-30),
    (-2e20, 5),
    (3e20, 3.1e20),
    (-3e37, -3.1e37),
    (INFINITE, 0),
    (-INFINITE, 0),
    (INFINITE, -INFINITE),
]


@pytest.mark.parametrize("ties", ["zero", "split"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("pair", [*PAIRS, *((b, a) for a, b in PAIRS)])
def test_logaddexp_keeps_the_digits_of_the_smaller_one(
    client: gw.Client, pair: tuple[float, float], dtype: str, ties: str
) -> None:
    a, b = np.array(pair, dtype)
    value, gradients = client.value_and_grad(gw.logaddexp(gw.parameter("a"), gw.parameter("b")), ties=ties)(a=a, b=b)
    theirs = torch.tensor([a, b], dtype=torch.float64, requires_grad=True)
    expected: Any = torch.logaddexp(theirs[0], theirs[1])
    expected.backward()
    assert theirs.grad is not None
    rtol = 4 * float(np.finfo(dtype).eps)
    np.testing.assert_allclose(value, expected.item(), rtol=rtol)
    np.testing.assert_allclose([gradients["a"], gradients["b"]], theirs.grad.numpy(), rtol=rtol)


@pytest.mark.parametrize("both", [INFINITE, -INFINITE, 1e300, -1e300])
def test_logaddexp_of_equal_numbers_far_out_is_their_maximum(client: gw.Client, both: float) -> None:
    function = gw.logaddexp(gw.parameter("a"), gw.parameter("b"))
    for ties, share in (("zero", 0), ("split", 0.5)):
        value, gradients = client.value_and_grad(function, ties=ties)(a=both, b=both)
        assert (value, gradients) == (both, {"a": share, "b": share})


@pytest.mark.parametrize("ties", ["zero", "split"])
def test_logsumexp_is_right_where_all_are_equal(client: gw.Client, ties: str) -> None:
    x = gw.parameter("x", shape=(4,))
    value, gradients = client.value_and_grad(gw.logsumexp(x), ties=ties)(x=np.full(4, 1000.0))
    np.testing.assert_allclose(value, 1000 + np.log(4), rtol=1e-15)
    np.testing.assert_allclose(gradients["x"], 0.25, rtol=1e-15)


def test_no_composed_function_makes_a_non_finite_value_in_the_tails(client: gw.Client) -> None:
    for row in ROWS:
        if row.arrays.get("x") is TAILS:
            x = gw.parameter("x", shape=TAILS.shape)
            rest = [array for name, array in row.arrays.items() if name != "x"]
            report = client.value_and_grad(gw.sum(row.ours(x, *rest))).evaluate(x=TAILS).non_finite
            assert report is None, (row.name, str(report))


@pytest.mark.parametrize(("b", "dtype"), [(1e25, "float32"), (1e-170, "float64"), (1e170, "float64")])
def test_the_derivative_of_a_quotient_has_the_range_of_the_quotient(b: float, dtype: str) -> None:
    quotient = gw.parameter("a") / gw.parameter("b")
    with gw.connect("local") as client:
        value, gradients = client.value_and_grad(quotient, dtype=dtype)(a=b, b=b)
    np.testing.assert_allclose([value, gradients["a"], gradients["b"]], [1, 1 / b, -1 / b], rtol=1e-6)
