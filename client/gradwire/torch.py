"""Losses as modules of PyTorch: tensors in, a loss out that ``backward`` goes through. Needs ``gradwire[torch]``.

import gradwire.torch

hinge = gradwire.torch.Loss(client, loss, parameters={"w": torch.zeros(30)})
hinge(phi=features, y=labels).backward()  # hinge.w.grad
"""

from gradwire._errors import lacking

try:
    from gradwire_imports.to_torch import Loss
except ModuleNotFoundError as error:
    raise lacking(error, "torch") from None

__all__ = ["Loss"]
