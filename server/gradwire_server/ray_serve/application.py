"""The application that a configuration of Serve names."""

from __future__ import annotations

from typing import Any

from ray import serve

from gradwire_server.ray_serve.deployment import Gradients
from gradwire_server.ray_serve.options import settings_of


def app(args: dict[str, Any]) -> serve.Application:
    """The application, with one deployment, ``gradwire``.

    Args:
        args: Options of ``gradwire serve`` by name, such as ``max_requests``. They may also stand in the environment of
            the application, as GRADWIRE_MAX_REQUESTS.

    Raises:
        StartError: An option is none, is wrong, or is for Serve to say.
    """
    settings = settings_of(args)
    # What is too much gradwire turns away itself, and tells clients why and when to try again.
    deployment = serve.deployment(name="gradwire", max_ongoing_requests=2 * settings.max_calls)(Gradients)
    return deployment.bind(settings)
