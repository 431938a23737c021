"""Encrypted connections, and what a client says of one that fails."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path
from typing import Any

import pytest
import trustme

import gradwire as gw
from gradwire_server.version import VERSION
from tests.integration.proxy import proxy, tls_proxy
from tests.integration.server_process import ServerProcess
from tests.pem import pair

AUTHORITY = trustme.CA()


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """PEM files of an authority, of another one, and of a client."""
    paths = {name: tmp_path / f"{name}.pem" for name in ("ca", "other", "certificate", "key")}
    AUTHORITY.cert_pem.write_to_path(str(paths["ca"]))
    trustme.CA().cert_pem.write_to_path(str(paths["other"]))
    identity = AUTHORITY.issue_cert("worker")
    identity.cert_chain_pems[0].write_to_path(str(paths["certificate"]))
    identity.private_key_pem.write_to_path(str(paths["key"]))
    return paths


async def info(port: int, **options: Any) -> gw.ServerInfo:
    """What the server says through the proxy, to a client that asks once."""
    with gw.connect(f"127.0.0.1:{port}", max_attempts=1, **options) as client:
        return await asyncio.to_thread(client.info)


async def test_an_encrypted_call(server: ServerProcess, files: dict[str, Path]) -> None:
    async with tls_proxy(server.address, AUTHORITY) as port:
        assert (await info(port, tls=True, ca=files["ca"], token="secret")).version == VERSION  # noqa: S106  (no secret)
        async with gw.AsyncClient(f"127.0.0.1:{port}", tls=True, ca=files["ca"]) as client:
            value, _ = await client.value_and_grad(gw.parameter("w"))(w=2.0)
            assert value == 2


async def test_a_client_shows_its_certificate(server: ServerProcess, files: dict[str, Path]) -> None:
    async with tls_proxy(server.address, AUTHORITY, ask=True) as port:
        pair = {"certificate": files["certificate"], "key": files["key"]}
        assert (await info(port, tls=True, ca=files["ca"], **pair)).version == VERSION
        with pytest.raises(gw.UnavailableError):
            await info(port, tls=True, ca=files["ca"])


async def test_a_server_of_another_authority_is_not_trusted(server: ServerProcess, files: dict[str, Path]) -> None:
    async with tls_proxy(server.address, AUTHORITY) as port:
        with pytest.raises(gw.UnavailableError, match=r"CERTIFICATE_VERIFY_FAILED"):
            await info(port, tls=True, ca=files["other"])


async def test_a_server_whose_certificate_has_expired_is_not_trusted(
    server: ServerProcess, files: dict[str, Path], tmp_path: Path
) -> None:
    expired = pair(tmp_path / "expired", AUTHORITY, days=-1)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.set_alpn_protocols(["h2"])
    context.load_cert_chain(expired.certificate, expired.key)
    async with proxy(server.address, tls=context) as port:
        with pytest.raises(gw.TLSError, match="the certificate of the server has expired"):
            await info(port, tls=True, ca=files["ca"])


async def test_plaintext_to_tls_and_tls_to_plaintext_fail(server: ServerProcess, files: dict[str, Path]) -> None:
    async with tls_proxy(server.address, AUTHORITY) as port:
        with pytest.raises(gw.UnavailableError, match=r"tls=True"):
            await info(port)
    with pytest.raises(gw.UnavailableError, match=r"without tls=True"):
        await info(server.port, tls=True, ca=files["ca"])
