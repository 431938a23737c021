"""Metrics of several workers, which each of them writes into files, as one page."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector


class Sums(Collector):
    """What the workers count, summed, from the files in a folder."""

    def __init__(self, folder: str, registry: CollectorRegistry) -> None:
        self._folder = Path(folder)
        registry.register(self)

    def collect(self) -> Iterator[Metric]:
        """What prometheus-client's own collector gives, which fails at a file that is new and still empty."""
        files = []
        for file in self._folder.glob("*.db"):
            # It may be gone, with its worker.
            with suppress(FileNotFoundError):
                if file.stat().st_size:
                    files.append(str(file))
        yield from MultiProcessCollector.merge(files)  # type: ignore[no-untyped-call]  # it has no annotations
