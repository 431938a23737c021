"""Watching training: progress, norms of gradients by parameter, and warnings of those that went astray."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from math import inf, isfinite
from typing import Any

import numpy as np

from gradwire._calls.stream import Stream
from gradwire._client import ValueAndGrad
from gradwire._errors import UsageError
from gradwire._numbers import real, whole


class GradientWarning(UserWarning):
    """A gradient that vanished, exploded, or never was anything but 0."""


@dataclass(frozen=True, slots=True)
class Watched:
    """One call that was watched."""

    call: int
    """Counted from 1."""
    loss: Any
    norms: dict[str, float]
    """Euclidean norm of the gradient in each array, by its name, such as ``params.layers.0.w``."""


def watch(
    step: ValueAndGrad | Stream,
    callback: Callable[[Watched], object] | None = None,
    *,
    patience: int = 10,
    vanished: float = 1e-6,
    exploded: float = 1e3,
) -> Callable[..., tuple[Any, Any]]:
    """A callable like ``step`` that warns by name of each gradient that vanishes, explodes or is never reached.

    ::

        bar = tqdm(total=1000)
        step = gw.watch(client.value_and_grad(loss), lambda seen: (bar.update(), bar.set_postfix(loss=seen.loss)))

    Args:
        step: Made by ``client.value_and_grad`` or ``client.stream``.
        callback: Called after every call, with what was seen.
        patience: Calls before a warning. A gradient is never reached if the first ``patience`` calls have exact zeros.
        vanished: A gradient has vanished if its norm is below this share of the largest, ``patience`` times in a row.
        exploded: A gradient explodes if its norm is so many times its mean, over ``patience`` calls or more, or is not
            finite.

    Returns:
        What takes and returns what ``step`` does. Its warnings are ``GradientWarning``, once for each array.

    Raises:
        UsageError: The arguments make no sense.
    """
    if not isinstance(step, ValueAndGrad | Stream):
        raise UsageError(f"watch takes what client.value_and_grad or client.stream made; found {type(step).__name__}")
    if (whole(patience) or 0) < 1:
        raise UsageError(f"patience={patience!r:.64}; expected a number of calls, at least 1")
    for name, factor in (("vanished", vanished), ("exploded", exploded)):
        if not (real(factor) or 0) > 0:
            raise UsageError(f"{name}={factor!r:.64}; expected a number above 0")
    if callback is not None and not callable(callback):
        raise UsageError(f"callback={callback!r:.64} cannot be called")
    seen = _Seen(patience, vanished, exploded)

    def watched(*arrays: Any, timeout: float | None = None, **named: Any) -> tuple[Any, Any]:
        result = step.evaluate(*arrays, timeout=timeout, **named)
        norms = {name: float(np.linalg.norm(gradient.ravel())) for name, gradient in result.by_name.items()}
        for name, message in seen.astray(norms):
            warnings.warn(f'gradient in "{name}" {message}', GradientWarning, stacklevel=2)
        if callback is not None:
            callback(Watched(seen.calls, result.loss, norms))
        return step._computation.answer(result)  # noqa: SLF001  (of this package)

    return watched


class _Seen:
    """What was seen of the norms, and of which arrays it was told."""

    def __init__(self, patience: int, vanished: float, exploded: float) -> None:
        self.calls = 0
        self._patience, self._vanished, self._exploded = patience, vanished, exploded
        self._sums: dict[str, float] = {}
        self._small: dict[str, int] = {}
        """Calls in a row in which a norm was very small."""
        self._told: set[str] = set()

    def astray(self, norms: dict[str, float]) -> list[tuple[str, str]]:
        """Names with what is wrong with them, as far as nobody was told."""
        self.calls += 1
        largest = max((norm for norm in norms.values() if isfinite(norm)), default=0.0)
        found = []
        for name, norm in norms.items():
            message = self._wrong(name, norm, largest)
            if message and name not in self._told:
                self._told.add(name)
                found.append((name, message))
        return found

    def _wrong(self, name: str, norm: float, largest: float) -> str | None:
        before, total = self.calls - 1, self._sums.get(name, 0.0)
        self._sums[name] = total + norm if isfinite(norm) else inf
        self._small[name] = self._small.get(name, 0) + 1 if norm < self._vanished * largest else 0
        if not isfinite(norm):
            return f"exploded: its norm is {norm} at call {self.calls}; see the result's non_finite for the node"
        if before >= self._patience and norm * before > self._exploded * total > 0:
            return f"exploded: its norm is {norm:.3g} at call {self.calls}, and was {total / before:.3g} on average"
        if self._sums[name] == 0:
            reached = self.calls < self._patience
            return None if reached else f"was 0 in all of {self.calls} calls; does the loss depend on it?"
        if self._small[name] >= self._patience:
            return f"vanished: its norm is {norm:.3g} at call {self.calls}, beside {largest:.3g} of the largest"
        return None
