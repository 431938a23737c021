"""The parts of docs/scaling.md that numbers are in, made from what was measured."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.benchmarks.scaling import checks, plots, studies
from tests.benchmarks.scaling.fitting import Fit, Fits, fit
from tests.benchmarks.scaling.model import Cost, Model
from tests.benchmarks.scaling.points import Point

PAGE = Path("docs/scaling.md")
PICTURE = Path("docs/images/scaling.svg")
MADE = re.compile(r"(<!-- made: (\w+) -->\n\n).*?(\n\n<!-- end -->)", re.DOTALL)

NUMBERS = (1, 10, 1_000, 100_000)
WORKS: Mapping[str, Point] = {
    "A small step: logistic regression, 31 parameters, 256 examples of 31 numbers": Point((30, 1), 256),
    "A perceptron 784-256-1: 201,217 parameters, 256 examples of 785 numbers": Point((784, 256, 1), 256),
    "Much data: logistic regression, 101 parameters, 50,000 examples of 101 numbers": Point((100, 1), 50_000),
}
"""What the page asks about: what a worker does in a step."""

PREFIXES = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""), (1e-3, "m"), (1e-6, "u"), (1e-9, "n"))
UNITS = {
    "call": ("us", 1e6, "a call"),
    "framed": ("us", 1e6, "a call whose message is over 1 MiB and travels in frames"),
    "byte in": ("ns", 1e9, "a byte to the server"),
    "byte out": ("ns", 1e9, "a byte back"),
    "parameter": ("ns", 1e9, "a parameter"),
    "unit": ("ns", 1e9, "an example and function such as tanh"),
    "number": ("ns", 1e9, "an example and number of it"),
    "product": ("ns", 1e9, "an example and multiplication with its addition"),
    "passing byte": ("ns", 1e9, "a byte that passes, either way"),
    "step": ("us", 1e6, "a step"),
    "actor": ("us", 1e6, "an actor in a step"),
    "stored byte": ("ns", 1e9, "a byte of the parameters"),
    "gathered byte": ("ns", 1e9, "a byte of all gradients"),
}


def write(measurements: Mapping[str, Any], page: Path = PAGE, picture: Path = PICTURE) -> None:
    """Put the numbers into the page, and draw its picture."""
    page.write_text(filled(page.read_text(), measurements))
    plots.draw(Model(fit(measurements)), measurements, titles(), picture)


def titles() -> dict[str, Point]:
    """The works by what stands before the colon of their names."""
    return {name.partition(":")[0]: point for name, point in WORKS.items()}


def filled(text: str, measurements: Mapping[str, Any]) -> str:
    """The page with all that is made, made anew."""
    fits = fit(measurements)
    model = Model(fits)
    makers: Mapping[str, Callable[[], str]] = {
        "measured": lambda: measured(measurements),
        "winners": lambda: winners(model),
        "assumptions": lambda: assumptions(model),
        "coefficients": lambda: coefficients(fits),
        "layouts": lambda: every_layout(model),
        "full": lambda: full(model),
        "checks": lambda: compared([*checks.servers(measurements), *checks.actors(measurements, fits)]),
        "chance": lambda: chance(model),
        "stragglers": lambda: stragglers(measurements),
        "losses": losses,
        "start": lambda: start(measurements),
    }
    return MADE.sub(lambda found: found[1] + makers[found[2]]() + found[3], text)


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table of Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def amount(value: float, unit: str = "s") -> str:
    """A number with two digits and the prefix that it takes."""
    if value == 0:
        return "0"
    fitting = [each for each in PREFIXES if each[0] <= abs(value) / 0.9995 and (each[0] <= 1 or unit != "s")]
    factor, prefix = fitting[0] if fitting else PREFIXES[-1]
    return f"{digits(value / factor)} {prefix}{unit}"


def digits(value: float) -> str:
    """Two digits, and all of those before the point."""
    return f"{value:,.0f}" if abs(value) >= 9.95 else f"{float(f'{value:.2g}'):g}"


def measured(measurements: Mapping[str, Any]) -> str:
    before, after = measurements["load"]
    busy = max(before, after) > measurements["cores"] / 2
    warning = (
        " **The machine was busy with other work**: processor time is higher than on a quiet one, times by the clock "
        "say little; the comparisons with the simulation below are off by what the other work took."
    )
    return (
        f"Measured on {measurements['machine']}. The system's load was {digits(before)} when it began and "
        f"{digits(after)} when it ended, on {measurements['cores']} cores; it took {digits(measurements['seconds'])} s."
        f"{warning if busy else ''}"
    )


def every_layout(model: Model) -> str:
    """A table for each kind of work."""
    return "\n\n".join(f"**{name}**\n\n{layouts(model, point, NUMBERS)}" for name, point in WORKS.items())


def layouts(model: Model, point: Point, numbers: Sequence[int]) -> str:
    """A row for each layout: seconds, processor time and bytes of a step of N workers."""
    rows = []
    found = {name: [cost(workers, point.size) for workers in numbers] for name, cost in model.layouts().items()}
    for name, costs in found.items():
        cells = []
        for index, cost in enumerate(costs):
            whole = [each[index].seconds for each in found.values() if not each[index].broken]
            cells.append(
                _cell(cost, best=not cost.broken and cost.seconds == min(whole), alike=name.startswith("replicas"))
            )
        rows.append([name, *cells])
    return table(["layout", *(f"N = {workers:,}" for workers in numbers)], rows)


def _cell(cost: Cost, *, best: bool, alike: bool) -> str:
    if cost.replicas == 1 and alike:
        return "one server is enough"
    if cost.broken:
        return f"over its {', '.join(cost.broken)}"
    seconds = f"**{amount(cost.seconds)}**" if best else amount(cost.seconds)
    many = f", {cost.replicas:,} servers, {cost.balancers:,} balancer{'s' if cost.balancers > 1 else ''}"
    servers = many if cost.replicas > 1 else ""
    spent = f"{amount(cost.core_seconds)} of cores, {amount(cost.busiest_bytes, 'B')}"
    return f"{seconds}, {cost.waits_for}; {spent}{servers}"


def winners(model: Model) -> str:
    """Who is first, in time and in processor time."""
    rows = []
    for name, point in titles().items():
        for workers in NUMBERS:
            costs = {layout: cost(workers, point.size) for layout, cost in model.layouts().items()}
            whole = {layout: cost for layout, cost in costs.items() if not cost.broken}
            others = {layout: cost for layout, cost in whole.items() if layout != "in process"}
            rows.append([name, f"{workers:,}", *(_first(group) for group in (whole, others)), _cheapest(others)])
    head = ["work of a worker", "N", "fastest", "fastest of the others", "least processor time of those"]
    return table(head, rows)


def _first(costs: Mapping[str, Cost]) -> str:
    name = min(costs, key=lambda layout: (costs[layout].seconds, costs[layout].cores))
    return f"{name}, {amount(costs[name].seconds)}"


def _cheapest(costs: Mapping[str, Cost]) -> str:
    name = min(costs, key=lambda layout: costs[layout].core_seconds)
    return f"{name}, {amount(costs[name].core_seconds)}"


def assumptions(model: Model) -> str:
    fields = type(model.given).model_fields
    rows = [(f"`{name}`", f"{getattr(model.given, name):g}", field.description) for name, field in fields.items()]
    return table(["name", "value", "meaning"], rows)


def coefficients(fits: Fits) -> str:
    """A row for each coefficient; errors beside the first one of each fit."""
    named: Mapping[str, Fit] = {
        "engine and client in process, processor": fits.local,
        "client of a server, processor": fits.client,
        "server beside the engine, processor": fits.server,
        "its event loop beside the engine, processor": fits.loop,
        "a call alone on loopback beside the engine, clock": fits.wall,
        "balancer (Envoy), processor": fits.balancer,
        "Ray: driver, processor": fits.driver,
        "Ray: its processes and the actors' part, processor": fits.nodes,
        "Ray: a step that computes nothing, clock": fits.step,
    }
    rows: list[Sequence[object]] = []
    for name, found in named.items():
        for coefficient, seconds in found.coefficients.items():
            unit, scale, meaning = UNITS[coefficient]
            error = "" if rows and rows[-1][4] == name else f"{found.typical:.0%}, at most {found.worst:.0%}"
            rows.append([name, f"{float(f'{seconds * scale:.2g}'):g} {unit}", meaning, error, name])
    shown = [[row[0] if row[3] else "", *row[1:4]] for row in rows]
    shown += [
        ["a busy server, processor", amount(fits.busy_call), "a call, beside its bytes and the engine", ""],
        [
            "its event loop",
            amount(fits.busy_loop),
            f"a call: at most {digits(1 / fits.busy_loop)} a second of a process",
            "",
        ],
    ]
    return table(["of what", "coefficient", "for", "error on what was held out"], shown)


def full(model: Model) -> str:
    """The largest N of each layout, and what gives way then."""
    rows = []
    for layout, cost in model.layouts().items():
        if layout.startswith("replicas"):
            continue
        cells = []
        for point in WORKS.values():
            workers, over = model.full(cost, point.size)
            cells.append(f"{workers:,}: {over}" if over else f"more than {workers:,}")
        rows.append([layout, *cells])
    return table(["layout", *titles()], rows)


def compared(rows: Iterable[checks.Compared]) -> str:
    return table(
        ["what", "measured", "simulated", "off by"],
        [
            [row.what, amount(row.measured, row.unit), amount(row.simulated, row.unit), f"{row.error:+.0%}"]
            for row in rows
        ],
    )


def chance(model: Model) -> str:
    point = next(iter(WORKS.values()))
    rows = studies.bursts(model.fits, model.given, point.size, (10, 100, 1_000))
    first = table(
        ["callers of one server with 16 processes", "spread evenly", "spread by chance", "ratio"],
        [[f"{row[0]:,}", amount(float(str(row[1]))), amount(float(str(row[2]))), f"{row[3]:.2f}"] for row in rows],
    )
    second = table(
        ["64 workers that train together, 8 replicas", "a step, relative to an even spread", "the longest"],
        [[row[0], f"{row[1]:.2f}", f"{row[2]:.2f}"] for row in studies.balancers(64, 8)],
    )
    return f"{first}\n\n{second}"


def stragglers(measurements: Mapping[str, Any]) -> str:
    rows = studies.stragglers(studies.measured_gradients(measurements), NUMBERS)
    slow = f"{studies.SLOW_SHARE:.0%} take {studies.SLOW_FACTOR:g} times as long"
    head = ["actors", "as measured here, simulated", "by formula", f"{slow}, simulated", "by formula"]
    shown = [[f"{row[0]:,}", *("" if each is None else f"{each:.2f}" for each in row[1:])] for row in rows]
    return table(head, shown)


def losses() -> str:
    rows = studies.losses(64, (2, 4, 8, 16), 0.005)
    head = ["replicas", "a step before", "the step that is hit", "mean step while it is gone", "calls made again"]
    return table(head, [[row[0], *(amount(float(str(each))) for each in row[1:4]), row[4]] for row in rows])


def start(measurements: Mapping[str, Any]) -> str:
    found = measurements["start"]
    return (
        f"A cluster of one machine was there after {amount(found['init_seconds'])}; an actor takes "
        f"{amount(found['start_seconds'])} of a core until it answers, and {amount(found['actor_bytes'], 'B')} that it "
        f"shares with no other process: {amount(1e5 * found['start_seconds'] / 3600, 'core hours')} and "
        f"{amount(1e5 * found['actor_bytes'], 'B')} for 100,000 of them. A connection that rests takes "
        f"{amount(measurements['connection_bytes'], 'B')} of a server."
    )
