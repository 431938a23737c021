"""Options of gradwire in a configuration of Serve: what it may say there, and what is for Serve itself to say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic_settings import SettingsError

from gradwire_server.configuration.settings import Access, Addresses, Operation, Settings, StartError

OWN = frozenset({"tokens_file", "threads", "max_arrival", "max_stall"})
"""Options of these sections that stay gradwire's, beside those of its log and its limits."""

OTHERS = frozenset(
    {*Addresses.model_fields, *Access.model_fields, *Operation.model_fields, "check", "max_connections"} - OWN
)
"""Serve listens, encrypts, starts processes and ends them."""


def settings_of(args: Mapping[str, Any]) -> Settings:
    """The settings of a replica, from options of ``gradwire serve`` by name.

    Raises:
        StartError: An option is none, is wrong, or is for Serve to say.
    """
    try:
        settings = Settings(**args)
    except SettingsError as error:
        raise StartError(f"args of the application: {error}") from None
    others = sorted(OTHERS & settings.model_fields_set)
    if others:
        raise StartError(
            f"{', '.join(others)}: that is for Serve to say, as grpc_options, num_replicas and "
            "graceful_shutdown_timeout_s; leave it out of args, and out of the environment of gradwire"
        )
    return settings
