"""Losses in terms of PyTorch: functions of parameters ``p`` and inputs ``d``, which give the mean over the examples."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.nn import functional as F  # noqa: N812  (its usual name)

from tests.benchmarks.timing import Call
from tests.benchmarks.workloads import Make, Workload

Named = Mapping[str, torch.Tensor]


def _logistic(p: Named, d: Named) -> torch.Tensor:
    return F.binary_cross_entropy_with_logits(d["x"] @ p["w"] + p["b"], d["y"])


def _hinge(p: Named, d: Named) -> torch.Tensor:
    return torch.clamp(1 - d["phi"] @ p["w"] * d["y"], min=0).mean()


def _layers(p: Named, x: torch.Tensor, activation: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
    for layer in range(len(p) // 2):
        x = F.linear(activation(x) if layer else x, p[f"W{layer}"], p[f"b{layer}"])
    return x


def _classifier(p: Named, d: Named) -> torch.Tensor:
    return F.cross_entropy(_layers(p, d["x"], F.relu), d["y"])


def _regressor(p: Named, d: Named) -> torch.Tensor:
    return F.mse_loss(_layers(p, d["x"], torch.tanh)[:, 0], d["y"])


def _embedding(p: Named, d: Named) -> torch.Tensor:
    return F.binary_cross_entropy_with_logits(F.embedding(d["ids"], p["E"]).mean(1) @ p["w"], d["y"])


def _factorisation(p: Named, d: Named) -> torch.Tensor:
    return F.mse_loss((F.embedding(d["row"], p["U"]) * F.embedding(d["column"], p["V"])).sum(1), d["y"])


def _attention(p: Named, d: Named) -> torch.Tensor:
    query, key, value = (d["x"] @ p[name] for name in ("Q", "K", "V"))
    weights = torch.softmax(query @ key.transpose(1, 2) * query.shape[-1] ** -0.5, 2)
    return (weights @ value).square().mean()


def _rosenbrock(p: Named, _: Named) -> torch.Tensor:
    before, after = p["x"][:-1], p["x"][1:]
    return (100 * (after - before**2) ** 2 + (1 - before) ** 2).sum()


LOSSES: Mapping[str, Callable[[Named, Named], torch.Tensor]] = {
    "logistic": _logistic,
    "hinge": _hinge,
    "classifier": _classifier,
    "regressor": _regressor,
    "embedding": _embedding,
    "factorisation": _factorisation,
    "attention": _attention,
    "rosenbrock": _rosenbrock,
}


def contestant(make: Make) -> Call:
    """Value and gradient, from tensors to tensors."""
    work = make()
    parameters = {name: torch.from_numpy(array) for name, array in work.parameters.items()}
    data = {name: torch.from_numpy(array) for name, array in work.data.items()}
    return (_each if work.each else _mean)(work, parameters, data)


def _mean(work: Workload, parameters: Named, data: Named) -> Call:
    loss = LOSSES[work.family]
    names = sorted(parameters)
    leaves = [parameters[name].requires_grad_() for name in names]

    def call() -> tuple[Any, Any]:
        value = loss(parameters, data)
        return value, torch.autograd.grad(value, leaves)

    return call


def _each(work: Workload, parameters: Named, data: Named) -> Call:
    step = torch.func.vmap(torch.func.grad_and_value(LOSSES[work.family]), in_dims=(None, 0))

    def call() -> tuple[Any, Any]:
        gradients, value = step(parameters, data)
        return value, gradients

    return call
