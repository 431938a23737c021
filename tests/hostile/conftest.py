from __future__ import annotations

from collections.abc import Iterator

import grpc
import pytest

from tests.integration.raw import channel
from tests.integration.server_process import ServerProcess


@pytest.fixture(scope="session")
def server() -> Iterator[ServerProcess]:
    """A server that many tests share; none of them may change what the others see."""
    with ServerProcess() as process:
        yield process


@pytest.fixture(scope="module")
def raw(server: ServerProcess) -> Iterator[grpc.Channel]:
    with channel(server.address) as opened:
        yield opened
