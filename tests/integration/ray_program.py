"""Gradient descent on files, on the cluster of RAY_ADDRESS; goes on where it was left.

``python -m tests.integration.ray_program FILES KEPT``: before each step it says the process of its actor, and waits for
a line; then it reads the parameters, says when the step has begun, and keeps them when it has ended.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import ray

import gradwire as gw
import gradwire.ray

STEPS = 8
RATE = 0.5


def logistic(w: Any, x: Any, y: Any) -> gw.Expression:
    """The loss of one example."""
    return gw.softplus(-y * gw.dot(w, x))


def begun_path(kept: Path) -> np.ndarray[Any, Any]:
    """The parameters before each step, as far as it was taken."""
    found: np.ndarray[Any, Any] = np.load(kept) if kept.exists() else np.zeros((1, 4))
    return found


def main() -> None:
    """Do the steps that are left."""
    files, kept = sys.argv[1], Path(sys.argv[2])
    wait = ray.wait

    def noticed(*arguments: Any, **named: Any) -> Any:
        sys.stdout.write("begun\n")
        sys.stdout.flush()
        ray.wait = wait
        return wait(*arguments, **named)

    with gradwire.ray.value_and_grad(logistic, files, per_example=("x", "y"), actors=1) as step:
        step(np.zeros(4))
        while len(begun_path(kept)) <= STEPS:
            [actor] = step._actors  # noqa: SLF001
            sys.stdout.write(f"{ray.get(actor.__ray_call__.remote(lambda _: os.getpid()))}\n")
            sys.stdout.flush()
            sys.stdin.readline()
            path = begun_path(kept)
            ray.wait = noticed
            _, slope = step(path[-1])
            np.save(kept.with_name("next.npy"), np.vstack([path, path[-1] - RATE * slope]))
            kept.with_name("next.npy").replace(kept)


if __name__ == "__main__":
    main()
