"""What a replica counts, told to Ray, which tells Prometheus beside its own metrics."""

from __future__ import annotations

import asyncio
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.samples import Sample
from ray.serve import metrics

SECONDS = 5.0
"""Between two times that Ray is told."""

Series = tuple[str, tuple[tuple[str, str], ...]]
"""Name and labels."""


class Telling:
    """Tells Ray what has changed in a registry: its numbers have Ray's prefix there, and labels that name the replica.

    Ray has no histograms that are counted already. Those here become counters, of buckets, sum and count.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self._told: dict[Series, float] = {}
        self._metrics: dict[str, Any] = {}

    async def run(self) -> None:
        """Tell again and again, until cancelled."""
        while True:
            await asyncio.sleep(SECONDS)
            self.tell()

    def tell(self) -> None:
        """Tell what has changed since it was told."""
        for family in self._registry.collect():
            for sample in family.samples:
                series = sample.name, tuple(sample.labels.items())
                change = sample.value - self._told.get(series, 0)
                if change:
                    self._told[series] = sample.value
                    if family.type == "gauge":
                        self._of(metrics.Gauge, sample, family.documentation).set(sample.value, dict(sample.labels))
                    else:
                        self._of(metrics.Counter, sample, family.documentation).inc(change, dict(sample.labels))

    def _of(self, kind: type[metrics.Gauge | metrics.Counter], sample: Sample, documentation: str) -> Any:  # noqa: ANN401  (of either kind)
        """The metric of Ray for a sample, which adds ``_total`` to the names of counters by itself."""
        name = sample.name.removesuffix("_total")
        if name not in self._metrics:
            labels: Any = tuple(sample.labels)
            self._metrics[name] = kind(name, description=documentation, tag_keys=labels)
        return self._metrics[name]
