"""The two pictures of the demo."""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure

import gradwire as gw
from demo.problem import hinge_loss


def draw_hinge(client: gw.Client, path: Path) -> None:
    """The hinge loss of one example with its gradients."""
    # A score of 0.5 for a label of -1: the margin is below 1, so the gradient is -phi y.
    trace = client.trace(hinge_loss(2), w=[0.5, 1.0], phi=[3.0, -1.0], y=-1.0)
    trace.save(path, title="max(0, 1 − (w · φ(x)) y)")


def draw_losses(losses: list[float], optimum: float, path: Path) -> None:
    """TrainLoss over the steps, and the optimum it goes to."""
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    axes.plot(losses, linewidth=1, label="TrainLoss(w) of the workers")
    axes.axhline(optimum, color="black", linestyle="--", linewidth=1, label=f"scikit-learn's optimum, {optimum:.5f}")
    axes.set(xlabel="step", ylabel="TrainLoss", xscale="symlog", yscale="log", xlim=(0, len(losses)))
    axes.grid(visible=True, alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=150)
