"""What a configuration of Ray Serve may say to gradwire."""

from __future__ import annotations

from typing import Any

import pytest

from gradwire_server.configuration.settings import Settings, StartError
from gradwire_server.ray_serve.options import OTHERS, OWN, settings_of


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"port": 50051}, "port: that is for Serve to say"),
        ({"workers": 2, "tls_cert": "a.pem", "max_calls": 5}, "tls_cert, workers: that is for Serve to say"),
        ({"max_requests": 0}, "args of the application: --max-requests: .* greater than 0"),
        ({"max_request": 5}, "args of the application: --max-request: Extra inputs"),
    ],
)
def test_what_is_wrong_or_for_serve_to_say_is_refused_by_name(args: dict[str, Any], message: str) -> None:
    with pytest.raises(StartError, match=message):
        settings_of(args)


def test_so_is_what_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRADWIRE_GRACE", "5")
    with pytest.raises(StartError, match="grace: that is for Serve to say"):
        settings_of({})


def test_the_rest_is_taken() -> None:
    settings = settings_of({"max_calls": 50, "log_level": "debug", "tokens_file": "tokens"})
    assert (settings.max_calls, settings.log_level, str(settings.tokens_file)) == (50, "debug", "tokens")


def test_every_setting_is_of_one_side() -> None:
    assert OTHERS.isdisjoint(OWN)
    assert Settings.model_fields.keys() >= OTHERS | OWN
