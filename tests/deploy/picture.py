"""``python -m tests.deploy.picture FILE``: the dashboard, laid out as in Grafana, of a real server called for a minute.

Panels, queries, units and legends are those of the dashboard's file, and the numbers are those of a real Prometheus;
only the drawing is Matplotlib's.
"""

from __future__ import annotations

import asyncio
import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event, Thread
from time import time
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FuncFormatter, MaxNLocator
from PIL import Image

import gradwire as gw
from tests.deploy.prometheus_process import Prometheus
from tests.deploy.test_monitoring import DASHBOARD, monitored, traffic
from tests.integration.server_process import ServerProcess
from tests.losses import hinge, perceptron

SECONDS = 60
WINDOW = "10s"
"""In the place of ``$__rate_interval``, which goes by how often Prometheus looks."""

PANEL, CHARACTER, HANDLE = 3.6, 0.06, 0.4
"""Inches that a panel is wide, and that a letter and the line beside an entry take of its legend."""

PREFIXES: dict[str, list[tuple[float, str]]] = {
    "s": [(1, " s"), (1e-3, " ms"), (1e-6, " µs")],
    "bytes": [(2**30, " GiB"), (2**20, " MiB"), (2**10, " KiB")],
}
SUFFIXES = {"reqps": " req/s", "cps": " c/s", "Bps": "B/s", "percentunit": "%", "short": "", "s": " s", "bytes": " B"}


def formatted(value: float, unit: str) -> str:
    """A number with its unit, about as Grafana writes it."""
    if unit == "percentunit":
        return f"{value * 100:.3g}%"
    large = [(1e9, " G"), (1e6, " M"), (1e3, " k")] if unit == "Bps" else [(1e9, " Bil"), (1e6, " Mil"), (1e3, " K")]
    for factor, prefix in PREFIXES.get(unit, large):
        if abs(value) >= factor:
            return f"{value / factor:.3g}{prefix}{'' if unit in PREFIXES else SUFFIXES[unit]}"
    return f"{value:.3g}{' ' if unit == 'Bps' else ''}{SUFFIXES[unit]}"


SMALL, LARGE = hinge(examples=64), perceptron(20_000)


def train(client: gw.Client, stop: Event) -> None:
    """A worker that sends its examples."""
    step = client.value_and_grad(SMALL.loss)
    while not stop.wait(0.01):
        step(**SMALL.arrays)


def train_on_kept(client: gw.Client, stop: Event) -> None:
    """A worker whose examples the server keeps, other ones every few seconds."""
    step, random = client.value_and_grad(SMALL.loss), np.random.default_rng()
    while not stop.is_set():
        data = client.examples(phi=random.normal(size=(10_000, 3)), y=np.ones(10_000))
        for start in range(0, len(data), 100):
            step(w=SMALL.arrays["w"], examples=data[start : start + 100])
            if stop.wait(0.03):
                return


def stream(client: gw.Client, stop: Event) -> None:
    """A worker with large batches."""
    with client.stream(LARGE.loss) as opened:
        while not stop.wait(0.05):
            opened.submit(**LARGE.arrays).result()


def look(client: gw.Client, stop: Event) -> None:
    """Somebody who looks into a trace now and then."""
    one = SMALL.arrays | {"phi": SMALL.arrays["phi"][0], "y": SMALL.arrays["y"][0]}
    while not stop.wait(0.5):
        client.trace(SMALL.loss, one)
        client.register(SMALL.loss * np.random.default_rng().random())


@contextmanager
def calls(server: ServerProcess) -> Iterator[None]:
    """All of these."""
    stop = Event()

    def work(what: Callable[[gw.Client, Event], None]) -> None:
        with gw.connect(server.address) as client:
            what(client, stop)

    threads = [Thread(target=work, args=(what,)) for what in (train, train_on_kept, stream, look)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def draw(axes: Axes, panel: dict[str, Any], found: Prometheus, start: float, end: float) -> None:
    """A panel."""
    defaults = panel["fieldConfig"]["defaults"]
    lines = []
    for target in panel["targets"]:
        query = target["expr"].replace("$__rate_interval", WINDOW).replace("$instance", ".*")
        for series in found.get("query_range", query=query, start=str(start), end=str(end), step="1")["result"]:
            legend = target["legendFormat"]
            for name, value in series["metric"].items():
                legend = legend.replace("{{" + name + "}}", value)
            lines.append((legend, {float(when): float(value) for when, value in series["values"]}))
    times = np.arange(math.ceil(start), end)
    stacked = np.zeros(len(times))
    for legend, points in sorted(lines, key=lambda line: line[0]):
        values = np.interp(times, list(points), list(points.values()), left=np.nan, right=np.nan)
        below = np.zeros(len(times))
        if defaults["custom"].get("stacking"):
            below, stacked = stacked, stacked + np.nan_to_num(values)
            values = stacked
        [line] = axes.plot(times - start, values, linewidth=1.2, label=legend)
        axes.fill_between(times - start, below, values, color=line.get_color(), alpha=0.1)
    axes.set_title(panel["title"], loc="left", fontsize=8, fontweight="bold")
    axes.set_ylim(0, max(axes.get_ylim()[1], 1 if defaults.get("decimals") == 0 else 0))
    axes.set_xlim(0, end - start)
    axes.yaxis.set_major_locator(MaxNLocator(4, integer=defaults.get("decimals") == 0))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: formatted(value, defaults["unit"])))
    axes.tick_params(labelsize=7)
    axes.grid(visible=True, alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    if not lines:
        axes.text(0.5, 0.5, "No data", transform=axes.transAxes, ha="center")
        return
    # As many columns as the panel has room for; it grows by the rows that this takes.
    widest = CHARACTER * max(len(legend) for legend, _ in lines) + HANDLE
    axes.legend(
        loc="upper left", bbox_to_anchor=(0, -0.1), ncols=max(1, int(PANEL / widest)), fontsize=6.5, frameon=False
    )


def dashboard(found: Prometheus, start: float, end: float) -> Figure:
    """All panels, where the dashboard has them."""
    tops = sorted({panel["gridPos"]["y"] for panel in DASHBOARD["panels"]})
    rows = {panel["gridPos"]["y"]: panel["title"] for panel in DASHBOARD["panels"] if panel["type"] == "row"}
    heights = [0.12 if top in rows else 1.0 for top in tops]
    figure = Figure(
        figsize=(13, 2.4 * sum(heights)), layout=ConstrainedLayoutEngine(h_pad=0.2, rect=(0, 0.015, 1, 0.985))
    )
    grid = figure.add_gridspec(len(tops), 3, height_ratios=heights)
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        line = tops.index(place["y"])
        if panel["type"] == "row":
            axes = figure.add_subplot(grid[line, :])
            axes.axis("off")
            axes.text(0, 0.5, panel["title"], fontsize=12, fontweight="bold", va="center")
        else:
            draw(figure.add_subplot(grid[line, place["x"] // 8]), panel, found, start, end)
    return figure


async def main(file: Path) -> None:
    """Call a server, and draw what its dashboard shows of it."""
    with TemporaryDirectory() as folder:
        async with monitored(Path(folder)) as (server, found):
            start = time()
            # One after the other: the first needs all calls that the server takes at a time.
            with traffic(server):
                await asyncio.sleep(SECONDS / 4)
            with calls(server):
                await asyncio.sleep(SECONDS * 3 / 4)
            figure = dashboard(found, start + 2, time())
    figure.savefig(file, dpi=90)
    Image.open(file).quantize(128).save(file, optimize=True)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
