"""Numbers that are counted, in memory or in a file that another process reads, and how Prometheus is told of them.

To count takes a fifth of what it takes with the metrics of prometheus-client, which a small call notices.
"""

from __future__ import annotations

import json
import mmap
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from threading import Lock
from time import time
from types import MappingProxyType
from typing import Any, NamedTuple

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar
from prometheus_client.utils import floatToGoString

SECONDS = (1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 60)
"""Bounds of the buckets of every duration, from 100 us to a minute."""

NO_LABELS: Mapping[str, str] = MappingProxyType({})

_BOUNDS: list[str] = [floatToGoString(bound) for bound in (*SECONDS, float("inf"))]  # type: ignore[no-untyped-call]  # it has no annotations

_TOTAL = len(_BOUNDS)
"""Where the sum of durations is, behind their buckets."""


class Kind(StrEnum):
    """What a metric is."""

    COUNTER = "counter"
    GAUGE = "gauge"
    """Several processes have the sum; one that has gone counts no more."""
    CONSTANT = "constant"
    """A gauge that is the same in all processes."""
    DURATION = "duration"


class Count:
    """A number that is counted, or set."""

    __slots__ = ("_numbers", "_place")

    def __init__(self, numbers: Numbers, place: int) -> None:
        self._numbers, self._place = numbers, place

    def inc(self, amount: float = 1) -> None:
        """Count so many more."""
        numbers = self._numbers
        with numbers.lock:
            numbers.cells[self._place] += amount

    def add(self, amount: float = 1) -> None:
        """Count so many more, for whoever has the lock."""
        self._numbers.cells[self._place] += amount

    def set(self, value: float) -> None:
        """Have it be this."""
        numbers = self._numbers
        with numbers.lock:
            numbers.cells[self._place] = value


class Duration:
    """Durations, counted by how long they are."""

    __slots__ = ("_numbers", "_place", "exemplars")

    def __init__(self, numbers: Numbers, place: int) -> None:
        self._numbers, self._place = numbers, place
        self.exemplars: dict[int, Exemplar] = {}
        """What leads from a bucket to a trace, by the number of the bucket."""

    def observe(self, seconds: float, exemplar: dict[str, str] | None = None) -> None:
        """Count a duration."""
        with self._numbers.lock:
            self.add(seconds, exemplar)

    def add(self, seconds: float, exemplar: dict[str, str] | None = None) -> None:
        """Count a duration, for whoever has the lock."""
        cells, bucket = self._numbers.cells, bisect_left(SECONDS, seconds)
        cells[self._place + bucket] += 1
        cells[self._place + _TOTAL] += seconds
        if exemplar is not None:
            self.exemplars[bucket] = Exemplar(exemplar, seconds, time())


class _Family(NamedTuple):
    """A metric: what is said of it, and where the numbers of each of its series begin."""

    name: str
    documentation: str
    kind: Kind
    labels: tuple[str, ...]
    places: dict[tuple[str, ...], int]

    def metric(self, cells: Sequence[Sequence[float]], exemplars: Mapping[int, Mapping[int, Exemplar]]) -> Metric:
        """The metric as Prometheus has it, over the numbers of all processes."""
        family: Any = _METRICS[self.kind](self.name, self.documentation, labels=self.labels)
        gather = max if self.kind is Kind.CONSTANT else sum
        for values, place in self.places.items():
            if self.kind is not Kind.DURATION:
                family.add_metric(values, gather(own[place] for own in cells))
                continue
            total, buckets = 0.0, []
            known = exemplars.get(place, {})
            for number, bound in enumerate(_BOUNDS):
                total += sum(own[place + number] for own in cells)
                buckets.append((bound, total, known[number]) if number in known else (bound, total))
            family.add_metric(values, buckets, sum(own[place + _TOTAL] for own in cells))
        metric: Metric = family
        return metric


_METRICS = {
    Kind.COUNTER: CounterMetricFamily,
    Kind.GAUGE: GaugeMetricFamily,
    Kind.CONSTANT: GaugeMetricFamily,
    Kind.DURATION: HistogramMetricFamily,
}


class Numbers(Collector):
    """All numbers of this process. Safe to share among threads."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.lock = Lock()
        self.cells: array[float] | memoryview[float] = array("d")
        self._families: dict[str, _Family] = {}
        self._durations: list[Duration] = []
        registry.register(self)

    def count(
        self, name: str, documentation: str, labels: Mapping[str, str] = NO_LABELS, kind: Kind = Kind.COUNTER
    ) -> Count:
        """The series of a metric that has these labels."""
        return Count(self, self._place(name, documentation, kind, labels))

    def duration(self, name: str, documentation: str, labels: Mapping[str, str] = NO_LABELS) -> Duration:
        """The series of a metric of durations that has these labels."""
        series = Duration(self, self._place(name, documentation, Kind.DURATION, labels))
        self._durations.append(series)
        return series

    def _place(self, name: str, documentation: str, kind: Kind, labels: Mapping[str, str]) -> int:
        family = self._families.setdefault(name, _Family(name, documentation, kind, tuple(labels), {}))
        place = family.places[tuple(labels.values())] = len(self.cells)
        self.cells.extend([0.0] * (_TOTAL + 1 if kind is Kind.DURATION else 1))  # type: ignore[union-attr]  # it is shared later
        return place

    def collect(self) -> Iterator[Metric]:
        """What Prometheus asks for."""
        exemplars = {series._place: series.exemplars for series in self._durations}  # noqa: SLF001  (of this file)
        for family in self._families.values():
            yield family.metric([self.cells], exemplars)

    def share(self, path: Path) -> None:
        """Have all numbers in a file from now on, before anything is counted.

        Counters go on from where a process before this one left them there.

        Raises:
            OSError: There is no room for the file.
        """
        head = json.dumps([[*family[:4], list(family.places.items())] for family in self._families.values()]).encode()
        head += b" " * (-len(head) % 8)
        old, own = _read(path), self.cells
        if old is None or old[0] != head or len(old[1]) != len(own):
            # Whole at once, for whoever reads it.
            new = path.with_suffix(".new")
            try:
                new.write_bytes(len(head).to_bytes(8, "little") + head + bytes(8 * len(own)))
                new.replace(path)
            finally:
                new.unlink(missing_ok=True)
        with path.open("r+b") as file:
            self.cells = memoryview(mmap.mmap(file.fileno(), 0))[8 + len(head) :].cast("d")
        for family in self._families.values():
            if family.kind in (Kind.GAUGE, Kind.CONSTANT):
                for place in family.places.values():
                    self.cells[place] = own[place]


def _read(path: Path) -> tuple[bytes, array[float]] | None:
    """What a file says of its numbers, and they; None if there is no such file, or nothing in it."""
    with suppress(OSError):
        content = path.read_bytes()
        begin = 8 + int.from_bytes(content[:8], "little")
        if 8 < begin < len(content):
            return content[8:begin], array("d", content[begin:])
    return None


class Sums(Collector):
    """The numbers of several processes, summed, from the files in a folder."""

    def __init__(self, folder: Path, registry: CollectorRegistry) -> None:
        self._folder = folder
        registry.register(self)

    def collect(self) -> Iterator[Metric]:
        """What Prometheus asks for."""
        found = [content for path in sorted(self._folder.glob("*.numbers")) if (content := _read(path)) is not None]
        if found:
            # Those of another version say other things.
            head, _ = found[-1]
            for family in _families(head):
                yield family.metric([cells for own, cells in found if own == head], {})

    def forget(self, number: int) -> None:
        """What a process of this number has now it has no more, as it has ended; what it counted stays."""
        path = file_of(self._folder, number)
        content = _read(path)
        if content is None:
            return
        with suppress(OSError), path.open("r+b") as file:
            for family in _families(content[0]):
                if family.kind is Kind.GAUGE:
                    for place in family.places.values():
                        file.seek(8 + len(content[0]) + 8 * place)
                        file.write(bytes(8))


def file_of(folder: Path, number: int) -> Path:
    """Where the process of this number has its numbers."""
    return folder / f"{number}.numbers"


def _families(head: bytes) -> Iterable[_Family]:
    for name, documentation, kind, labels, places in json.loads(head):
        own = {tuple(values): place for values, place in places}
        yield _Family(name, documentation, Kind(kind), tuple(labels), own)
