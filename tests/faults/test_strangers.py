"""Callers without the right certificate or token, and those who speak in the clear to a server that does not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trustme

import gradwire as gw
from tests.faults.conftest import Tell
from tests.integration.server_process import ServerProcess
from tests.pem import authority_file, pair

TOKEN = "right"  # noqa: S105  (of the tests)


def test_a_stranger_is_told_the_cause(tmp_path: Path, tell: Tell) -> None:
    ours, theirs = trustme.CA(), trustme.CA()
    ca, other = authority_file(tmp_path / "ca.pem", ours), authority_file(tmp_path / "other.pem", theirs)
    tokens = tmp_path / "tokens"
    tokens.write_text(f"{TOKEN}\n")
    good: dict[str, Any] = {"tls": True, "ca": ca, "token": TOKEN}
    worker = pair(tmp_path / "worker", ours, "worker")
    good |= worker.of_client
    bare = {key: value for key, value in good.items() if key not in ("certificate", "key")}
    expired = pair(tmp_path / "expired", ours, "worker", days=-1).of_client
    strangers: list[tuple[str, dict[str, Any], type[gw.GradwireError], str]] = [
        ("server's certificate of another CA", good | {"ca": other}, gw.TLSError, "authority"),
        ("client's certificate of another CA", good | pair(tmp_path / "theirs", theirs, "worker").of_client,
            gw.TLSError, "certificate"),
        ("client's certificate expired", good | expired, gw.TLSError, "expired"),
        ("no certificate of the client", bare, gw.TLSError, "certificate"),
        ("plaintext to TLS", {"token": TOKEN}, gw.UnavailableError, "tls=True"),
        ("no token", good | {"token": None}, gw.GradwireError, "token"),
        ("wrong token", good | {"token": "wrong"}, gw.GradwireError, "token"),
    ]  # fmt: skip
    flags = (*pair(tmp_path / "server", ours).of_server, f"--tls-client-ca={ca}", f"--tokens-file={tokens}")
    with ServerProcess(flags=flags) as server:

        def info(**options: Any) -> str:
            with gw.connect(server.address, max_attempts=1, **options) as client:
                return client.info().version

        for name, options, kind, word in strangers:
            tell(name, _told(lambda: info(**options), kind, word))  # noqa: B023  (called at once)
        assert info(**good)


def _told(call: Callable[[], object], kind: type[gw.GradwireError], word: str) -> str:
    with pytest.raises(kind, match=word) as raised:
        call()
    return str(raised.value).split("; gRPC says")[0]
