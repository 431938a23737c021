"""Clusters of Ray on this machine."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest


def without(folder: Path, *modules: str) -> str:
    """A path for Python whose processes find none of these modules.

    All processes of Ray import ``rfc3987_syntax``, by jsonschema, which builds a grammar with it, and those of Serve
    ``pandas``: a second or two of each, of modules that they do without.
    """
    for module in modules:
        (folder / f"{module}.py").write_text(f"raise ImportError({module!r})")
    return str(folder)


@contextmanager
def head_node() -> Iterator[Any]:
    """A cluster of one node with two CPUs, which nobody has joined."""
    from ray.cluster_utils import Cluster  # noqa: PLC0415  (Ray takes a second to import)

    with tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp") as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", without(Path(folder), "rfc3987_syntax"))
        patch.setenv("RAY_TMPDIR", folder)
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        head = {"num_cpus": 2, "object_store_memory": 100 << 20, "no_monitor": True, "include_log_monitor": False}
        cluster = Cluster(initialize_head=True, head_node_args={**head, "include_dashboard": False})
        try:
            yield cluster
        finally:
            cluster.shutdown()
