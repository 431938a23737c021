"""Losses as modules of PyTorch, which callers have as ``gradwire.torch``."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn, Unpack, cast

import torch

from gradwire._calls.computation import Loss as AnyLoss
from gradwire._calls.computation import Options
from gradwire._client import Client, ValueAndGrad
from gradwire._errors import InvalidRequestError, UsageError


class Loss(torch.nn.Module):
    """A loss that the engine evaluates and differentiates, in every tensor that requires a gradient.

    ``torch.compile`` leaves it out of its graphs. Gradients of gradients there are none.

    Args:
        client: Made by ``gw.connect``.
        loss: As for ``client.value_and_grad``; of a function all arguments are arrays.
        parameters: Tensors by name that the module owns, for an optimizer to change.
        **options: ``reduction``, ``ties``, ``dtype``, ``inputs``, ``per_example``, ``reject_non_finite``; see
            ``gw.Options``.
    """

    def __init__(
        self,
        client: Client,
        loss: AnyLoss,
        parameters: Mapping[str, torch.Tensor] | None = None,
        **options: Unpack[Options],
    ) -> None:
        super().__init__()
        refused = sorted({"wrt", "outputs", "has_aux"} & options.keys())
        if refused:
            raise InvalidRequestError(
                f"{refused[0]}= is not for a module of torch: it returns the loss, differentiated in what requires_grad"
            )
        self._client = client
        self._loss = loss
        self._options = options
        self._calls: dict[tuple[str, ...], ValueAndGrad] = {}
        self.call(())
        for name, tensor in (parameters or {}).items():
            try:
                self.register_parameter(name, torch.nn.Parameter(tensor))
            except KeyError as error:
                raise InvalidRequestError(f'torch has no parameter "{name}" here: {error.args[0]}', node=name) from None

    @torch.compiler.disable  # type: ignore[untyped-decorator]  # as torch has it
    def forward(self, **arrays: Any) -> torch.Tensor:
        """The loss, of these arrays and the module's own parameters: tensors, or whatever NumPy takes."""
        given = {**dict(self.named_parameters()), **arrays}
        tensors = {name: value for name, value in given.items() if isinstance(value, torch.Tensor)}
        return cast("torch.Tensor", _Function.apply(self, given, tuple(tensors), *tensors.values()))  # type: ignore[no-untyped-call]  # as torch has it

    def __deepcopy__(self, memo: dict[int, Any]) -> Loss:
        """A module with parameters of its own and the same client."""
        made = type(self).__new__(type(self))
        memo[id(self)] = made
        shared = ("_client", "_loss", "_options", "_calls")
        made.__dict__ = {
            name: value if name in shared else copy.deepcopy(value, memo) for name, value in self.__dict__.items()
        }
        return made

    def __getstate__(self) -> NoReturn:
        """Refused: a client is of one process."""
        raise UsageError(
            "a Loss holds a client, which stays in its process: save its state_dict(), and make a Loss with the client "
            "of the other process that loads it"
        )

    def call(self, wrt: tuple[str, ...]) -> ValueAndGrad:
        """The call that differentiates in the arrays of these names."""
        if wrt not in self._calls:
            options: Options = {**self._options, "wrt": wrt}
            self._calls[wrt] = self._client.value_and_grad(self._loss, **options)
        return self._calls[wrt]


class _Function(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, module: Loss, given: Mapping[str, Any], names: Sequence[str], *tensors: torch.Tensor
    ) -> torch.Tensor:
        wrt = tuple(name for name, needed in zip(names, ctx.needs_input_grad[3:], strict=True) if needed)
        arrays = dict(given) | {name: _array(tensor) for name, tensor in zip(names, tensors, strict=True)}
        value, gradients = module.call(wrt)(**arrays)
        like = next((tensor for tensor in tensors if tensor.is_floating_point()), torch.zeros((), dtype=torch.float64))
        ctx.names, ctx.wrt = names, wrt
        by_name = dict(zip(names, tensors, strict=True))
        ctx.save_for_backward(*(by_name[name] for name in wrt), *(torch.as_tensor(gradients[name]) for name in wrt))
        return torch.as_tensor(value, dtype=like.dtype, device=like.device)

    @staticmethod
    def backward(ctx: Any, *slopes: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        tensors, gradients = ctx.saved_tensors[: len(ctx.wrt)], ctx.saved_tensors[len(ctx.wrt) :]
        found = {
            name: _Once.apply(_scaled(slopes[0], gradient, tensor), *tensors)  # type: ignore[no-untyped-call]  # as above
            for name, gradient, tensor in zip(ctx.wrt, gradients, tensors, strict=True)
        }
        return None, None, None, *(found.get(name) for name in ctx.names)


class _Once(torch.autograd.Function):
    """A gradient, which depends on these tensors in a way that is not known."""

    @staticmethod
    def forward(ctx: Any, gradient: torch.Tensor, *tensors: torch.Tensor) -> torch.Tensor:
        return gradient.view_as(gradient)

    @staticmethod
    def backward(ctx: Any, *slopes: torch.Tensor) -> NoReturn:
        raise UsageError("a loss of gradwire is differentiated once in torch: there are no gradients of its gradients")


def _array(tensor: torch.Tensor) -> Any:
    """The array of a tensor; of the short floats, which NumPy has not, one of float32."""
    plain = tensor.detach().cpu()
    return (plain.float() if plain.dtype in (torch.bfloat16, torch.float16) else plain).numpy()


def _scaled(slope: torch.Tensor, gradient: torch.Tensor, tensor: torch.Tensor) -> torch.Tensor:
    """The gradient times that of the loss, of which there is one for each example if nothing is reduced."""
    slope = slope.to(dtype=gradient.dtype, device=gradient.device)
    if slope.ndim == 0:
        scaled = slope * gradient
    elif gradient.ndim > tensor.ndim:
        scaled = torch.tensordot(slope, gradient, dims=1)
    else:
        scaled = slope.reshape(-1, *[1] * (gradient.ndim - 1)) * gradient
    return scaled.to(dtype=tensor.dtype, device=tensor.device)
