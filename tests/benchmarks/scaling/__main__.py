"""``python -m tests.benchmarks.scaling``: measure, and write docs/scaling.md; or one of both; or ask the model."""

from __future__ import annotations

import argparse

from rich.console import Console

from tests.benchmarks.scaling import kept, page
from tests.benchmarks.scaling.assumptions import Assumptions
from tests.benchmarks.scaling.fitting import fit
from tests.benchmarks.scaling.model import Model
from tests.benchmarks.scaling.points import Point


def main() -> None:
    """Do what the arguments say."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.scaling", description=__doc__)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    commands.add_parser("measure", help="measure, in some minutes, and keep it in measurements.json")
    commands.add_parser("page", help="write the tables and pictures of docs/scaling.md from what was measured")
    ask = commands.add_parser("ask", help="what a step of yours takes, in every layout")
    ask.add_argument("--workers", type=int, nargs="+", default=[1, 10, 1000, 100_000], help="default: %(default)s")
    ask.add_argument("--widths", type=int, nargs="+", default=[784, 256, 1], help="of the layers; default: %(default)s")
    ask.add_argument("--examples", type=int, default=256, help="of a worker in a step; default: %(default)s")
    for name, field in Assumptions.model_fields.items():
        kind = int if isinstance(field.default, int) else float
        text = f"{field.description} Default: {field.default:g}"
        ask.add_argument(f"--{name.replace('_', '-')}", type=kind, default=field.default, help=text)
    arguments = parser.parse_args()
    if arguments.command in (None, "measure"):
        from tests.benchmarks.scaling import measuring  # noqa: PLC0415  (it alone needs Ray)

        kept.write(measuring.measure())
    if arguments.command in (None, "page"):
        page.write(kept.read())
    if arguments.command == "ask":
        given = Assumptions(**{name: getattr(arguments, name) for name in Assumptions.model_fields})
        model = Model(fit(kept.read()), given)
        point = Point(tuple(arguments.widths), arguments.examples)
        Console().print(page.layouts(model, point, arguments.workers), markup=False, soft_wrap=True)


if __name__ == "__main__":
    main()
