"""Metrics of the processes of one server: what Prometheus' clients tell of their own process, of each of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from prometheus_client import CollectorRegistry, Metric, ProcessCollector
from prometheus_client.registry import Collector


class Processes(Collector):
    """Memory, processor time and open files of processes, with their names as the label ``process``."""

    def __init__(self, pids: Callable[[], Mapping[str, int]], registry: CollectorRegistry) -> None:
        self._pids = pids
        registry.register(self)

    def collect(self) -> Iterator[Metric]:
        """The metrics of those that there are now."""
        found: dict[str, Metric] = {}
        for name, pid in self._pids().items():
            # What has ended meanwhile has none.
            for metric in ProcessCollector(pid=lambda pid=pid: pid, registry=None).collect():  # type: ignore[misc]
                samples = [sample._replace(labels={"process": name}) for sample in metric.samples]
                found.setdefault(metric.name, Metric(metric.name, metric.documentation, metric.type)).samples += samples
        yield from found.values()
