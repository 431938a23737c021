"""What tests of several folders take."""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture
def double_precision() -> Iterator[None]:
    """JAX computes in float64 meanwhile, and as it would by itself in other tests."""
    import jax  # noqa: PLC0415  (most tests need none)

    with jax.enable_x64(True):
        yield
