"""The real Prometheus, in a process of its own."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import ProxyHandler, build_opener

from tests.integration.server_process import DEADLINE

READY = "Server is ready to receive web requests"
LISTENING = re.compile(r'msg="Listening on" address=(\S+)')


@dataclass(frozen=True)
class Prometheus:
    """Its HTTP API."""

    address: str

    def get(self, path: str, **parameters: str) -> Any:
        """The data that it answers.

        Raises:
            urllib.error.HTTPError: It does not like the request.
        """
        url = f"http://{self.address}/api/v1/{path}?{urlencode(parameters)}"
        with build_opener(ProxyHandler({})).open(url, timeout=DEADLINE) as response:
            return json.load(response)["data"]

    def values(self, query: str) -> list[float]:
        """What a query gives now, of each series."""
        return [float(found["value"][1]) for found in self.get("query", query=query)["result"]]


@contextmanager
def prometheus(config: Path) -> Iterator[Prometheus]:
    """A Prometheus on a free port of the loopback, with its data beside its configuration; it ends with the block."""
    command = [
        str(Path(sys.executable).parent / "prometheus"),
        f"--config.file={config}",
        f"--storage.tsdb.path={config.parent / 'data'}",
        "--web.listen-address=127.0.0.1:0",
    ]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield Prometheus(_address(process))
        finally:
            process.terminate()
            process.communicate(timeout=DEADLINE)


def _address(process: subprocess.Popen[str]) -> str:
    assert process.stderr is not None
    log = ""
    for line in process.stderr:
        log += line
        if READY in log and (found := LISTENING.search(log)):  # it says the two in either order
            return found[1]
    raise AssertionError(f"Prometheus does not serve: {log}")
