"""Request ids: by which a caller's error and the server's log find each other."""

from __future__ import annotations

import re
from collections.abc import Iterable
from random import getrandbits

KEY = "x-request-id"
"""Name of the metadata, of the request and of the trailers."""

_SANE = re.compile(r"[!-~]{1,128}")


def request_id(metadata: Iterable[tuple[str, str | bytes]] | None) -> str:
    """The id that the caller gave, if it is one, or a new one."""
    for key, value in metadata or ():
        if key == KEY and isinstance(value, str) and _SANE.fullmatch(value):
            return value
    # In a third of the time of formatting the number.
    return getrandbits(128).to_bytes(16).hex()
