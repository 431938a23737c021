"""The hinge loss as a formula in NumPy."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from tests.benchmarks.timing import Call
from tests.benchmarks.workloads import Make


def hinge(w: Any, phi: Any, y: Any) -> tuple[Any, Any]:
    """The mean of the losses, and its gradient in w: the mean of -I(margin < 1) phi y."""
    margin = phi @ w * y
    return np.maximum(0, 1 - margin).mean(), -((margin < 1) * y) @ phi / len(y)


def contestant(make: Make) -> Call:
    """Value and gradient, from arrays to arrays."""
    return partial(hinge, **make().arrays)
