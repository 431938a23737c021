"""Numbers are told as prometheus-client tells its own, and those of several processes are summed."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest

from gradwire_server.service.telemetry.numbers import SECONDS, Kind, Numbers, Sums, file_of


class Declared:
    """Some metrics of a process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.numbers = Numbers(self.registry)
        self.calls = {
            method: self.numbers.count("calls", "Calls.", {"method": method, "code": "OK"}) for method in ("a", "b")
        }
        self.open = self.numbers.count("open", "Open calls.", kind=Kind.GAUGE)
        self.build = self.numbers.count("build_info", "Always 1.", {"version": "1"}, Kind.CONSTANT)
        self.seconds = self.numbers.duration("call_seconds", "Time.", {"method": "a"})
        self.build.set(1)

    def told(self) -> bytes:
        return generate_latest(self.registry)


class Theirs:
    """The same metrics, of prometheus-client."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # it has no annotations
        self.registry = CollectorRegistry()
        calls = Counter("calls", "Calls.", ("method", "code"), registry=self.registry)
        self.calls = {method: calls.labels(method, "OK") for method in ("a", "b")}
        self.open = Gauge("open", "Open calls.", registry=self.registry)
        build = Gauge("build_info", "Always 1.", ("version",), registry=self.registry)
        build.labels("1").set(1)
        seconds = Histogram("call_seconds", "Time.", ("method",), buckets=SECONDS, registry=self.registry)
        self.seconds = seconds.labels("a")

    def told(self) -> bytes:
        return generate_latest(self.registry)


def count(chance: random.Random, *metrics: Any) -> None:
    for _ in range(200):
        method, amount = chance.choice("ab"), chance.choice([1, 1, 1000])
        # Sums of these are exact in any order; some are bounds of buckets.
        seconds = chance.choice([2**-15, 2**-13, 2**-9, 0.5, 1, 2, 2.5, 60, 70])
        for each in metrics:
            each.calls[method].inc(amount)
            each.seconds.observe(seconds)
    for each in metrics:
        each.open.set(7)


def test_numbers_are_told_as_prometheus_client_tells_its_own() -> None:
    ours, theirs = Declared(), Theirs()
    assert ours.told() == theirs.told()
    count(random.Random(0), ours, theirs)  # noqa: S311  (no secret)
    assert ours.told() == theirs.told()


def test_numbers_of_several_processes_are_summed_and_go_on_where_one_ended(tmp_path: Path) -> None:
    chance, theirs, registry = random.Random(1), Theirs(), CollectorRegistry()  # noqa: S311  (as above)
    sums = Sums(tmp_path, registry)
    assert generate_latest(registry) == b""
    processes = [Declared(), Declared()]
    for number, process in enumerate(processes):
        process.numbers.share(file_of(tmp_path, number))
    (tmp_path / "2.numbers").touch()
    (tmp_path / "3.numbers").write_bytes(bytes(100))
    for process in processes:
        count(chance, process, theirs)
    theirs.open.set(14)
    assert generate_latest(registry) == theirs.told()
    # One ends, and another takes its place.
    sums.forget(1)
    theirs.open.set(7)
    assert generate_latest(registry) == theirs.told()
    successor = Declared()
    successor.numbers.share(file_of(tmp_path, 1))
    assert generate_latest(registry) == theirs.told()
    count(chance, successor, theirs)
    theirs.open.set(14)
    assert generate_latest(registry) == theirs.told()
    sums.forget(9)
