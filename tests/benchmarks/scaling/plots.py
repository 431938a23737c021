"""Pictures of docs/scaling.md: what a step takes, and how right the model is."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from tests.benchmarks.scaling.fitting import call_terms, size_of, work_terms
from tests.benchmarks.scaling.model import Model
from tests.benchmarks.scaling.points import Point

NUMBERS = tuple(round(10 ** (power / 4)) for power in range(21))


def draw(model: Model, measurements: Mapping[str, Any], works: Mapping[str, Point], path: Path) -> None:
    """A step against N for each kind of work, and predictions against measurements."""
    # The same numbers give the same file.
    with mpl.rc_context({"svg.hashsalt": "gradwire", "font.size": 9}):
        figure, panels = plt.subplots(1, len(works) + 1, figsize=(15, 4.4), layout="constrained")
        for axes, (name, point) in zip(panels, works.items(), strict=False):
            _steps(axes, model, point, name)
        panels[0].legend(frameon=False, fontsize=7)
        _right(panels[-1], model, measurements)
        figure.savefig(path, metadata={"Date": None, "Creator": None})
        plt.close(figure)


def _steps(axes: Axes, model: Model, point: Point, name: str) -> None:
    for layout, cost in model.layouts().items():
        if layout == "replicas, examples sent":
            continue
        costs = [cost(workers, point.size) for workers in NUMBERS]
        [line] = axes.plot(NUMBERS, [each.seconds for each in costs], label=layout)
        broken = [number for number, each in zip(NUMBERS, costs, strict=True) if each.broken]
        if broken:
            axes.plot(broken[:1], [cost(broken[0], point.size).seconds], "x", color=line.get_color())
    axes.set(xscale="log", yscale="log", xlabel="workers", ylabel="seconds a step")
    axes.set_title(name, fontsize=9)
    axes.grid(visible=True, which="major", alpha=0.3)


def _right(axes: Axes, model: Model, measurements: Mapping[str, Any]) -> None:
    fits = model.fits
    for held, marker, label in ((False, ".", "in the fit"), (True, "x", "held out")):
        rows = [row for row in measurements["calls"] if row["held"] == held]
        measured = [row["client_seconds"] + row["server_seconds"] for row in rows]
        said = []
        for row in rows:
            work = work_terms(size_of(row))
            if row["way"] == "local":
                said.append(fits.local.seconds({"call": 1.0, **work}))
            else:
                terms = call_terms(row["bytes_in"], row["bytes_out"])
                said.append(fits.client.seconds(terms) + fits.server.seconds(terms) + fits.work(size_of(row)))
        axes.plot(measured, said, marker, label=label)
    low, high = 5e-5, 0.2
    axes.plot([low, high], [low, high], color="grey", linewidth=0.5)
    axes.set(xscale="log", yscale="log", xlabel="measured, processor seconds of a call", ylabel="the model's")
    axes.set_title("The model and what was measured", fontsize=9)
    axes.legend(frameon=False, fontsize=7)
