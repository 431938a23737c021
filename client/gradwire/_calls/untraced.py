"""Functions that ``torch.compile`` runs as they are: what a call does on its way is nothing to compile."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


def untraced(function: Callable[P, T]) -> Callable[P, T]:
    """The function, into which ``torch.compile`` never looks; torch itself need not be there, and is not imported."""
    disabled: Callable[P, T] | None = None

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        nonlocal disabled
        if disabled is None:
            # Nothing is compiled before this module is there.
            if "torch._dynamo" not in sys.modules:
                return function(*args, **kwargs)
            torch: Any = sys.modules["torch"]
            disabled = torch.compiler.disable(function)
        return disabled(*args, **kwargs)

    # What calls this function is compiled up to here and from here on, by the mark of torch.compiler.disable.
    call._torchdynamo_disable = True  # type: ignore[attr-defined]  # noqa: SLF001  (torch's name)
    return call
