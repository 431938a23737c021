"""Bearer tokens: who may call."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Sequence
from hashlib import sha256
from hmac import compare_digest
from pathlib import Path

import structlog
from grpc_health.v1 import health

from gradwire_server.errors import Reason, Refusal, refuse
from gradwire_server.service.security.files import File, UnusableError, Watched

OPEN = f"/{health.SERVICE_NAME}/"
"""What methods begin with that need no token: orchestrators and load balancers, who ask for the health, have none."""

SHORT = 16
"""Characters below which a token could be guessed."""

_TOKEN = re.compile(rb"[!-~]+")
_BEARER = re.compile(r"bearer +(\S+) *", re.IGNORECASE)

Metadata = Iterable[tuple[str, str | bytes]]

_log = structlog.get_logger()


class Tokens:
    """The tokens of a file, one a line, which follow it; while it cannot be used, nobody may call.

    Raises:
        StartError: It cannot be used in the first place.
    """

    def __init__(self, path: Path) -> None:
        file = File(path, "--tokens-file", is_secret=True)

        def parse(contents: Sequence[bytes]) -> list[bytes]:
            return _digests(contents[0], file)

        self._digests: Watched[list[bytes]] = Watched("tokens", [file], parse, otherwise=[])
        self._reading: asyncio.Task[list[bytes]] | None = None

    @property
    def are_old(self) -> bool:
        """Whether the file has changed, so that it is to be read before a call is judged."""
        return self._digests.has_changed

    async def read(self) -> None:
        """Read the file, on a thread: a disk may keep it waiting. Calls that come meanwhile wait for the same."""
        if self._reading is None or self._reading.done():
            self._reading = asyncio.create_task(asyncio.to_thread(self._digests.get))
        await asyncio.shield(self._reading)

    def refusal(self, method: str, metadata: Metadata | None) -> Refusal | None:
        """Why a call of the method of this full name is refused; None if it may go on."""
        if method.startswith(OPEN):
            return None
        given = next((value for key, value in metadata or () if key == "authorization"), None)
        if given is None:
            return _refuse(
                "this server needs a token, and the call has none; send it as the metadata authorization: Bearer TOKEN "
                "(token= in the SDK)"
            )
        bearer = _BEARER.fullmatch(given) if isinstance(given, str) else None
        if bearer is None:
            return _refuse("the metadata authorization holds no bearer token; expected: Bearer TOKEN")
        digest = sha256(bearer[1].encode()).digest()
        # All of them, so that the time says nothing about which one is near.
        if not sum(compare_digest(digest, known) for known in self._digests.value):
            return _refuse("this server does not know the token that was sent; was it replaced?")
        return None


def _refuse(message: str) -> Refusal:
    return refuse(Reason.UNAUTHENTICATED, message)


def _digests(content: bytes, file: File) -> list[bytes]:
    digests, short = [], []
    for number, line in enumerate(content.splitlines(), 1):
        token = line.strip()
        if not token or token.startswith(b"#"):
            continue
        if not _TOKEN.fullmatch(token):
            raise UnusableError(
                f"line {number} of {file} is no token; expected printable ASCII without spaces, or a comment, which "
                "begins with #"
            )
        digests.append(sha256(token).digest())
        if len(token) < SHORT:
            short.append(number)
    if not digests:
        raise UnusableError(f"{file} holds no token; expected one a line")
    if short:
        _log.warning("tokens are short, and could be guessed", file=str(file), lines=short[:10], expected=SHORT)
    return digests
