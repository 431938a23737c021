"""What tests of several folders take."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests.clusters import head_node

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

    with head_node() as cluster:
        try:
            ray.init(address=cluster.address, log_to_driver=False, logging_level="error")
            yield cluster
        finally:
            ray.shutdown()
