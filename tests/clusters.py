"""Clusters of Ray on this machine."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest


@contextmanager
def head_node() -> Iterator[Any]:
    """A cluster of one node with two CPUs, which nobody has joined."""
    from ray.cluster_utils import Cluster  # noqa: PLC0415  (Ray takes a second to import)

    with tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp") as folder, pytest.MonkeyPatch.context() as patch:
        # jsonschema, which all processes of Ray import, builds a grammar with it, for two seconds.
        (Path(folder) / "rfc3987_syntax.py").write_text("raise ImportError")
        patch.setenv("PYTHONPATH", folder)
        patch.setenv("RAY_TMPDIR", folder)
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        head = {"num_cpus": 2, "object_store_memory": 100 << 20, "no_monitor": True, "include_log_monitor": False}
        cluster = Cluster(initialize_head=True, head_node_args={**head, "include_dashboard": False})
        try:
            yield cluster
        finally:
            cluster.shutdown()
