from __future__ import annotations

import pytest

from gradwire_server.engine import warm


@pytest.fixture(scope="session", autouse=True)
def _kernels() -> None:
    """Compiled before the first test that measures what it takes."""
    warm()
