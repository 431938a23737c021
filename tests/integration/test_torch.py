"""Losses as modules of PyTorch."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch

import gradwire as gw
from gradwire.torch import Loss


def hinge_like(w: Any, b: Any, x: Any, y: Any) -> gw.Expression:
    return gw.softplus(-(gw.dot(w, x) + b) * y)


def tensors(dtype: torch.dtype = torch.float64, *, slopes: bool = True) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(5)
    shapes = {"w": (3,), "b": (), "x": (4, 3), "y": (4,)}
    return {
        name: torch.randn(shape, generator=generator, dtype=dtype).requires_grad_(slopes)
        for name, shape in shapes.items()
    }


def by_torch(w: Any, b: Any, x: Any, y: Any) -> torch.Tensor:
    return torch.nn.functional.softplus(-(x @ w + b) * y)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_gradcheck_passes(client: gw.Client, reduction: str) -> None:
    module = Loss(client, hinge_like, per_example=("x", "y"), reduction=reduction)
    given = tensors()
    assert torch.autograd.gradcheck(lambda *args: module(**dict(zip(given, args, strict=True))), tuple(given.values()))


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_values_and_gradients_are_those_of_torch(client: gw.Client, reduction: str) -> None:
    module = Loss(client, hinge_like, per_example=("x", "y"), reduction=reduction)
    given, other = tensors(), tensors()
    weights = torch.arange(1.0, 5.0, dtype=torch.float64) if reduction == "none" else torch.tensor(3.0)
    losses = by_torch(**other)
    expected = losses if reduction == "none" else getattr(losses, reduction)()
    found = module(**given)
    torch.testing.assert_close(found, expected)
    torch.autograd.backward([(found * weights).sum(), (expected * weights).sum()])
    for name, tensor in given.items():
        torch.testing.assert_close(tensor.grad, other[name].grad)


@pytest.mark.parametrize("name", ["a.b", "forward"])
def test_a_name_that_torch_does_not_take_is_an_error_of_ours(client: gw.Client, name: str) -> None:
    with pytest.raises(gw.InvalidRequestError, match=f'no parameter "{name}"'):
        Loss(client, gw.parameter(name) ** 2, {name: torch.tensor(1.0)})


def test_an_optimizer_changes_the_parameters_of_the_module(client: gw.Client) -> None:
    x = gw.input("x", shape=(2,), per_example=True)
    y = gw.input("y", per_example=True)
    loss = gw.squared_error(gw.dot(gw.parameter("w", shape=(2,)), x), y)
    module = Loss(client, loss, parameters={"w": torch.zeros(2, dtype=torch.float64)})
    optimizer = torch.optim.Adam(module.parameters(), lr=0.3)
    data = torch.tensor([[1.0, 2.0], [3.0, -1.0], [0.5, 0.5]], dtype=torch.float64)
    target = data @ torch.tensor([2.0, -3.0], dtype=torch.float64)

    for _ in range(300):
        optimizer.zero_grad()
        module(x=data, y=target).backward()
        optimizer.step()
    torch.testing.assert_close(module.w.data, torch.tensor([2.0, -3.0], dtype=torch.float64), atol=1e-3, rtol=0)
    assert set(module.state_dict()) == {"w"}


def test_short_floats_come_back_as_they_went(client: gw.Client) -> None:
    module = Loss(client, hinge_like, per_example=("x", "y"))
    given = tensors(torch.bfloat16)
    value = module(**given)
    assert value.dtype == torch.bfloat16
    value.backward()
    slope = given["w"].grad
    assert slope is not None
    assert slope.dtype == torch.bfloat16


def test_only_what_requires_a_gradient_has_one(client: gw.Client) -> None:
    module = Loss(client, hinge_like, per_example=("x", "y"))
    given = tensors(slopes=False)
    assert not module(**given).requires_grad
    with torch.no_grad():
        assert not module(**tensors()).requires_grad
    given["b"].requires_grad_()
    module(**given).backward()
    assert given["b"].grad is not None
    assert given["w"].grad is None


@pytest.mark.filterwarnings("ignore")  # torch's compiler meets warnings of torch itself
def test_a_compiler_leaves_it_out_of_its_graphs(client: gw.Client) -> None:
    torch.compiler.reset()
    module = Loss(client, hinge_like, per_example=("x", "y"))

    def work(**given: torch.Tensor) -> torch.Tensor:
        return module(**{name: tensor * 2 for name, tensor in given.items()}) + 1  # type: ignore[no-any-return]  # as torch has it

    given, other = tensors(), tensors()
    found, expected = torch.compile(work, backend="eager")(**given), work(**other)
    torch.testing.assert_close(found, expected)
    torch.autograd.backward([found, expected])
    torch.testing.assert_close(given["w"].grad, other["w"].grad)
    torch.compiler.reset()
    with pytest.raises(RuntimeError, match=r"torch\.compiler\.disable"):
        torch.compile(work, backend="eager", fullgraph=True)(**given)


def test_what_cannot_be_says_so(client: gw.Client) -> None:
    with pytest.raises(gw.InvalidRequestError, match="wrt= is not for a module of torch"):
        Loss(client, hinge_like, wrt="w")
    module, given = Loss(client, hinge_like, per_example=("x", "y")), tensors()
    [slope] = torch.autograd.grad(module(**given), given["w"], create_graph=True)
    with pytest.raises(gw.UsageError, match="no gradients of its gradients"):
        torch.autograd.backward(slope.sum())
    with pytest.raises(gw.InvalidGraphError, match="parameter w"):
        module(**given | {"w": torch.ones(2, dtype=torch.float64)})


def test_a_copy_has_its_own_parameters_and_a_pickle_there_is_none(client: gw.Client) -> None:
    module = Loss(client, lambda w: gw.sum(w**3), {"w": torch.ones(2)})
    twin = copy.deepcopy(module)
    torch.autograd.backward(twin())
    [own], [other] = twin.parameters(), module.parameters()
    assert own.grad is not None
    assert (own.grad.tolist(), other.grad) == ([3, 3], None)
    assert list(twin.state_dict()) == ["w"]
    with pytest.raises(gw.UsageError, match=r"save its state_dict\(\)"):
        pickle.dumps(module)
