"""The job of the small call as one writes it by hand in NumPy, for the peers that serve user code."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

EXAMPLES = 256
FEATURES = 32

Floats = NDArray[np.float64]


def data() -> dict[str, Floats]:
    """Parameters and examples by name, float64."""
    random = np.random.default_rng(0)
    return {
        "w": random.normal(size=FEATURES),
        "phi": random.normal(size=(EXAMPLES, FEATURES)),
        "y": np.where(random.random(EXAMPLES) < 0.5, -1.0, 1.0),
    }


def value_and_gradient(w: Floats, phi: Floats, y: Floats) -> tuple[Floats, Floats]:
    """The mean of max(0, 1 - (w . phi) y) over the examples, and its gradient in w."""
    margin = 1.0 - (phi @ w) * y
    value = np.maximum(margin, 0.0).mean()
    gradient = -((margin > 0.0) * y) @ phi / len(y)
    return np.asarray(value), gradient
