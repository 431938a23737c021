"""The version of the running distribution."""

from __future__ import annotations

from importlib.metadata import version

VERSION = version("gradwire-server")
