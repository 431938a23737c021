"""TLS: the certificate of the server, and the authority of its clients."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import grpc
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from gradwire_server.configuration.settings import Settings, StartError, is_loopback
from gradwire_server.service.security.files import File, UnusableError, Watched


def credentials(settings: Settings) -> grpc.ServerCredentials | None:
    """Credentials of the port, which follow their files: each new connection has the newest; None for plaintext.

    Raises:
        StartError: Files are missing or cannot be used, or other machines would be served in plaintext.
    """
    if settings.tls_cert is None or settings.tls_key is None:
        if not settings.tls_cert == settings.tls_key == settings.tls_client_ca:
            raise StartError("TLS needs both a certificate and its key (--tls-cert, --tls-key)")
        if not is_loopback(settings.host) and not settings.insecure:
            secret = "" if settings.tokens_file is None else ", tokens too,"
            raise StartError(
                f"other machines reach {settings.host} (--host), and what they send{secret} would not be encrypted: "
                "give a certificate (--tls-cert, --tls-key), or say --insecure (GRADWIRE_INSECURE=true) where the "
                "network is to be trusted"
            )
        return None
    files = [File(settings.tls_cert, "--tls-cert"), File(settings.tls_key, "--tls-key", is_secret=True)]
    if settings.tls_client_ca is not None:
        files.append(File(settings.tls_client_ca, "--tls-client-ca"))

    def parse(contents: Sequence[bytes]) -> grpc.ServerCertificateConfiguration:
        certificate, key, *authority = contents
        _check_pair(certificate, key, *files[:2])
        if authority:
            _certificates(authority[0], files[2])
        return grpc.ssl_server_certificate_configuration([(key, certificate)], *authority)

    watched = Watched("certificate", files, parse)
    given = initial = watched.get()

    def newer() -> grpc.ServerCertificateConfiguration | None:
        nonlocal given
        latest = watched.get()
        if latest is given:
            return None
        given = latest
        return latest

    return grpc.dynamic_ssl_server_credentials(
        initial,
        newer,  # type: ignore[arg-type]  # None is for no change
        require_client_authentication=settings.tls_client_ca is not None,
    )


def _check_pair(certificate: bytes, key: bytes, certificate_file: File, key_file: File) -> None:
    leaf = _certificates(certificate, certificate_file)[0]
    try:
        private = load_pem_private_key(key, None)
    except TypeError:
        raise UnusableError(f"the key in {key_file} is encrypted; expected one without a passphrase") from None
    except (ValueError, UnsupportedAlgorithm):
        raise UnusableError(f"{key_file} holds no private key in PEM") from None
    if private.public_key() != leaf.public_key():
        raise UnusableError(f"the key in {key_file} does not fit the certificate in {certificate_file}")
    now = datetime.now(UTC)
    if leaf.not_valid_after_utc < now:
        raise UnusableError(f"the certificate in {certificate_file} expired at {leaf.not_valid_after_utc:%F %T} UTC")
    if leaf.not_valid_before_utc > now:
        raise UnusableError(
            f"the certificate in {certificate_file} is not valid before {leaf.not_valid_before_utc:%F %T} UTC; it is "
            f"{now:%F %T} here"
        )


def _certificates(pem: bytes, file: File) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(pem)
    except ValueError:
        raise UnusableError(f"{file} holds no certificate in PEM") from None
