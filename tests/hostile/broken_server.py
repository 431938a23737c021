"""A server with a fault inside, as ``python -m gradwire_server``: every evaluation raises."""

from __future__ import annotations

from typing import Any

from gradwire_server import __main__
from gradwire_server.service.requests.logic import Prepared

SECRET = "the-value-of-w-is-98765.4321"  # noqa: S105  (of no use to anybody)


def _fail(*_: Any) -> Any:
    raise ZeroDivisionError(SECRET)


if __name__ == "__main__":
    setattr(Prepared, "evaluate", _fail)  # noqa: B010  (types know that it is no evaluation)
    __main__.main()
