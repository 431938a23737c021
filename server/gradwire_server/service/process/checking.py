"""What can be known of a server before it starts: ``gradwire serve --check``."""

from __future__ import annotations

from gradwire_server.configuration.settings import Settings
from gradwire_server.service.process.addresses import check_addresses
from gradwire_server.service.security.tls import credentials
from gradwire_server.service.security.tokens import Tokens
from gradwire_server.service.telemetry.otel import Tracing


def check(settings: Settings) -> None:
    """Check addresses, files, certificates, tokens and traces, and start nothing.

    Whether an address is free is not looked at: where one asks, a server may run already.

    Raises:
        StartError: A server could not start.
    """
    check_addresses(settings)
    credentials(settings)
    if settings.tokens_file is not None:
        Tokens(settings.tokens_file)
    with Tracing():
        pass
