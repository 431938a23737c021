"""What tests of several folders take."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

# Ray reads it when it is imported: its processes find each other on the loopback interface, as on a machine of which no
# other one is to know.
os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"

# What jsonschema would check addresses in documents with, and does without where it is not installed: each process that
# imports it builds a grammar, for seconds.
sys.modules["rfc3987_syntax"] = None  # type: ignore[assignment]


@pytest.fixture
def double_precision() -> Iterator[None]:
    """JAX computes in float64 meanwhile, and as it would by itself in other tests."""
    import jax  # noqa: PLC0415  (most tests need none)

    with jax.enable_x64(True):
        yield


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[Any]:
    """A cluster of Ray with two CPUs, which this process has joined; it stays for all tests that need one."""
    import ray  # noqa: PLC0415  (it takes a second)
    from ray.cluster_utils import Cluster  # noqa: PLC0415

    with tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp") as folder, pytest.MonkeyPatch.context() as patch:
        # jsonschema, which all processes of Ray import, builds a grammar with it, for two seconds.
        (Path(folder) / "rfc3987_syntax.py").write_text("raise ImportError")
        patch.setenv("PYTHONPATH", folder)
        patch.setenv("RAY_TMPDIR", folder)
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        head = {"num_cpus": 2, "object_store_memory": 100 << 20, "no_monitor": True, "include_log_monitor": False}
        cluster = Cluster(initialize_head=True, head_node_args={**head, "include_dashboard": False})
        try:
            ray.init(address=cluster.address, log_to_driver=False, logging_level="error")
            yield cluster
        finally:
            ray.shutdown()
            cluster.shutdown()
