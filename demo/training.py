"""Subgradient descent, by the textbook."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from demo.problem import REGULARIZATION, Floats
from demo.workers import Workers

OFFSET = 20
"""Keeps the first steps, 1 / (lambda (t + OFFSET)), from being as long as a hundred."""


@dataclass(frozen=True, slots=True)
class Training:
    """What came of it."""

    w: Floats
    losses: list[float]
    """TrainLoss before each step, and of w at the end."""


def descend(workers: Workers, features: int, steps: int, console: Console) -> Training:
    """w <- w - step gradient, from 0, with steps that decrease as 1 / t: right for a strongly convex loss."""
    w = np.zeros(features)
    losses = []
    bar = Progress(
        TextColumn("training"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("TrainLoss {task.fields[loss]:.6f}"),
        TimeElapsedColumn(),
        console=console,
    )
    with bar:
        task = bar.add_task("training", total=steps, loss=float("nan"))
        for t in range(steps):
            loss, gradient = workers.train_loss(w)
            losses.append(loss)
            w = w - gradient / (REGULARIZATION * (t + OFFSET))
            bar.update(task, advance=1, loss=loss)
        losses.append(workers.train_loss(w)[0])
        bar.update(task, loss=losses[-1])
    return Training(w, losses)
