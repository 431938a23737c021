"""Certificates and keys in files, as an operator has them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import trustme

NOW = datetime(*datetime.now().timetuple()[:6])  # noqa: DTZ001, DTZ005  (trustme takes naive ones)


@dataclass(frozen=True, slots=True)
class Pair:
    """The files of a certificate and its key."""

    certificate: Path
    key: Path

    @property
    def of_server(self) -> tuple[str, ...]:
        """As options of ``gradwire serve``."""
        return f"--tls-cert={self.certificate}", f"--tls-key={self.key}"

    @property
    def of_client(self) -> dict[str, Path]:
        """As options of ``gw.connect``."""
        return {"certificate": self.certificate, "key": self.key}


def pair(folder: Path, authority: trustme.CA, name: str = "127.0.0.1", *, days: int = 1) -> Pair:
    """Files, written over if they are there, of a certificate that is valid for so many days from yesterday on."""
    issued = authority.issue_cert(name, not_before=NOW - timedelta(days=30), not_after=NOW + timedelta(days=days))
    written = Pair(folder / "tls.crt", folder / "tls.key")
    folder.mkdir(exist_ok=True)
    written.certificate.write_bytes(b"".join(pem.bytes() for pem in issued.cert_chain_pems))
    written.key.write_bytes(issued.private_key_pem.bytes())
    return written


def authority_file(path: Path, authority: trustme.CA) -> Path:
    """The file of an authority's certificate."""
    path.write_bytes(authority.cert_pem.bytes())
    return path
