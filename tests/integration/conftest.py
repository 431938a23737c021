from __future__ import annotations

from collections.abc import Iterator

import pytest

import gradwire as gw
from tests.integration.server_process import ServerProcess


@pytest.fixture(scope="session")
def server() -> Iterator[ServerProcess]:
    """A server that many tests share; none of them may change what the others see."""
    with ServerProcess() as process:
        yield process


@pytest.fixture(params=["local", "server"])
def client(request: pytest.FixtureRequest) -> Iterator[gw.Client]:
    """A client of each kind: what holds for the one holds for the other."""
    kind: str = request.param
    target = kind if kind == "local" else request.getfixturevalue("server").address
    with gw.connect(target) as client:
        yield client
