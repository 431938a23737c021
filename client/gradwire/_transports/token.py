"""The bearer token that goes with a call: given, read from a file, or asked for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from gradwire._errors import UsageError

Token: TypeAlias = str | Path | Callable[[], str]
"""A token, the file that holds one, or what returns one."""


def token_source(token: Token) -> Callable[[], str]:
    """What tells the token of a call that begins now; it raises UsageError where there is none.

    Raises:
        UsageError: A token that is given is none.
    """
    if isinstance(token, Path):
        return lambda: _read(token)
    if callable(token):
        return lambda: _asked(token)
    checked = _checked(token, "token=")
    return lambda: checked


def _read(path: Path) -> str:
    try:
        text = path.read_text("ascii")
    except OSError as error:
        raise UsageError(f"cannot read the token in {path}: {error.strerror}") from error
    except ValueError:
        raise UsageError(f"{path} holds no token; expected printable ASCII characters") from None
    return _checked(text.strip(), str(path))


def _asked(source: Callable[[], str]) -> str:
    try:
        token = source()
    except Exception as error:
        raise UsageError(f"the function given as token= raised {type(error).__name__}") from error
    return _checked(token, "what the function given as token= returned")


def _checked(token: object, where: str) -> str:
    # It is a secret, and not shown.
    if isinstance(token, str) and token.isascii() and token.isprintable() and token != "":
        return token
    raise UsageError(f"{where} is no token; expected a non-empty string of printable ASCII characters")
