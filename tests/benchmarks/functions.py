"""The kernel's exp, log and sigmoid over a million doubles, on one thread."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from numba import njit
from scipy import special

from gradwire_server.engine.machine import functions
from tests.benchmarks.table import Row, rows
from tests.benchmarks.timing import interleave

ELEMENTS = 1_000_000


def _over(function: Any) -> Callable[[Any, Any], None]:
    """The function in a loop of a kernel."""

    @njit(nogil=True, error_model="numpy")
    def loop(x: Any, out: Any) -> None:
        for i in range(len(x)):
            out[i] = function(x[i])

    return loop  # type: ignore[no-any-return]  # Numba has no types


def compare() -> Iterator[Row]:
    """Against PyTorch, and NumPy or SciPy; all write into an array that is there."""
    random = np.random.default_rng(0)
    signed = 3 * random.normal(size=ELEMENTS)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for name, ours, theirs, numpy, x in (
            ("sigmoid", functions.sigmoid, torch.sigmoid, special.expit, signed),
            ("exp", functions.exp, torch.exp, np.exp, signed),
            ("log", functions.log, torch.log, np.log, np.abs(signed)),
        ):
            yield from _compare(name, _over(ours), theirs, numpy, x)
    finally:
        torch.set_num_threads(threads)


def _compare(name: str, ours: Callable[..., Any], theirs: Any, numpy: Any, x: Any) -> Iterator[Row]:
    out, tensor = np.empty_like(x), torch.from_numpy(x)
    into = torch.empty_like(tensor)
    library = "SciPy" if numpy is special.expit else "NumPy"
    timings = interleave(
        {
            "kernel": lambda: ours(x, out),
            "torch": lambda: theirs(tensor, out=into),
            library: lambda: numpy(x, out=into.numpy()),
        },
        seconds=4,
    )
    np.testing.assert_allclose(out, numpy(x), rtol=1e-15)
    yield from rows(f"{name} of {ELEMENTS:,} doubles, one thread", timings, "kernel", {"torch": 1.5, library: None})
