"""The page that Prometheus reads, as numbers, and what happened between two of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from http.client import HTTPException
from time import time
from typing import TypeAlias
from urllib.error import URLError
from urllib.parse import urlsplit
from urllib.request import ProxyHandler, build_opener

from prometheus_client.parser import text_string_to_metric_families

import gradwire as gw
from gradwire._transports.address import is_loopback

TIMEOUT = 5.0
"""Seconds that a page may take."""
MAX_BYTES = 16 << 20
"""Bytes that a page may have."""

Labels: TypeAlias = frozenset[tuple[str, str]]


@dataclass(frozen=True)
class Page:
    """Samples by name and labels, and when they were read."""

    at: float
    samples: Mapping[str, Mapping[Labels, float]]

    def total(self, name: str, **labels: str) -> float:
        """The sum of all series of a metric that have these labels."""
        return sum(value for found, value in self.samples.get(name, {}).items() if labels.items() <= found)

    def values(self, name: str, label: str) -> Iterator[str]:
        """What a label has in the series of a metric."""
        yield from sorted({dict(found)[label] for found in self.samples.get(name, {}) if label in dict(found)})

    def since(self, before: Page) -> Page:
        """What was counted since an earlier page; a server that was restarted in between counts from 0."""
        samples = {
            name: {
                labels: value - old if value >= (old := before.samples.get(name, {}).get(labels, 0.0)) else value
                for labels, value in series.items()
            }
            for name, series in self.samples.items()
        }
        return Page(self.at - before.at, samples)


def read(url: str) -> Page:
    """The page at an address.

    Raises:
        GradwireError: Nothing answers there, or something else does.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise gw.UsageError(f"{url!r} is no address of a page; expected one such as http://localhost:9464/metrics")
    # To this machine no proxy leads.
    direct = [ProxyHandler({})] if is_loopback(parts.netloc) or parts.hostname == "localhost" else []
    try:
        with build_opener(*direct).open(url, timeout=TIMEOUT) as response:
            text = response.read(MAX_BYTES).decode()
        samples: dict[str, dict[Labels, float]] = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                samples.setdefault(sample.name, {})[frozenset(sample.labels.items())] = sample.value
    except (OSError, HTTPException) as error:
        reason = error.reason if isinstance(error, URLError) else error
        raise gw.UnavailableError(f"no page at {url}: {reason}") from None
    except (ValueError, IndexError, KeyError) as error:
        raise gw.ServerError(f"what answers at {url} is no page of metrics: {error}") from None
    if "gradwire_build_info" not in samples:
        raise gw.ServerError(f"the page at {url} is of no gradwire server: it has no gradwire_build_info")
    return Page(time(), samples)


def quantile(fraction: float, page: Page, name: str, **labels: str) -> float | None:
    """The value below which this fraction of what a histogram counted is, as Prometheus tells it; None of nothing.

    It is interpolated in the bucket where it is; in the last one, which has no end, it is where that begins.
    """
    buckets: dict[float, float] = {}
    for found, count in page.samples.get(f"{name}_bucket", {}).items():
        own = dict(found)
        if labels.items() <= own.items():
            bound = float(own["le"])
            buckets[bound] = buckets.get(bound, 0.0) + count
    bounds = sorted(buckets)
    total = buckets[bounds[-1]] if bounds else 0.0
    if not total:
        return None
    return _interpolated(fraction * total, bounds, [buckets[bound] for bound in bounds])


def _interpolated(rank: float, bounds: Sequence[float], counts: Sequence[float]) -> float:
    at = next(index for index, count in enumerate(counts) if count >= rank)
    low, below = (bounds[at - 1], counts[at - 1]) if at else (0.0, 0.0)
    if at == len(bounds) - 1:
        return low
    return low + (bounds[at] - low) * (rank - below) / (counts[at] - below)
