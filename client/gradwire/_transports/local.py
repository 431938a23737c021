"""The engine in this process, which the server's distribution brings."""

from __future__ import annotations

from gradwire._errors import UsageError
from gradwire._transports.base import Transport


def local_transport() -> Transport:
    """What calls the engine in this process.

    Raises:
        UsageError: The engine, or what it needs, is not installed.
    """
    try:
        from gradwire_server.local import LocalTransport  # noqa: PLC0415  (it is optional)
    except ImportError as error:
        raise UsageError(f"connect(\"local\") needs {error.name}: pip install 'gradwire[server]'") from error
    return LocalTransport()
