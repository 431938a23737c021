"""What ``import gradwire`` imports: what every program needs, and no more."""

from __future__ import annotations

import subprocess
import sys

import pytest

import gradwire as gw

ONLY_SOME = {
    "gradwire._async_client",
    "gradwire._pictures.saving",
    "gradwire._transports.base_asyncio",
    "gradwire._transports.channel",
    "gradwire._transports.grpc_asyncio",
    "gradwire._transports.grpc_blocking",
    "gradwire._transports.local",
    "gradwire._transports.local_asyncio",
    "gradwire._transports.loops",
    "gradwire.v1.gradient_service_pb2_grpc",
    *("asyncio", "concurrent.futures", "difflib", "grpc", "json", "logging", "ssl", "uuid"),
    *("gradwire_pictures", "gradwire_server", "igraph", "matplotlib", "numba", "optree", "pandas", "torch"),
}
"""What some programs need, or calls that not every program makes."""


def imported(program: str) -> set[str]:
    """The modules that a program imports, beyond those of NumPy."""
    lines = f"import sys, numpy\nbefore = set(sys.modules)\n{program}\nprint(*set(sys.modules) - before)"
    done = subprocess.run([sys.executable, "-c", lines], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_what_only_some_programs_need_is_imported_there() -> None:
    found = imported("import gradwire")
    assert "gradwire._client" in found
    assert found & ONLY_SOME == set()


def test_a_loss_is_written_without_grpc() -> None:
    program = "import gradwire as gw; w = gw.parameter('w', shape=(3,)); gw.graph(gw.sum(w * w)).ByteSize()"
    assert not {"grpc", "asyncio"} & imported(program)


def test_the_engine_in_the_process_and_pictures_are_no_part_of_a_remote_client() -> None:
    found = imported("import gradwire; gradwire.connect('localhost:1').close()")
    assert "gradwire._transports.grpc_blocking" in found
    assert not {"gradwire_server", "gradwire._transports.local", "gradwire_pictures", "difflib"} & found


def test_what_is_imported_later_is_there_all_the_same() -> None:
    assert set(gw.__all__) <= set(dir(gw))
    assert [gw.AsyncClient.__name__, gw.save_picture.__name__] == ["AsyncClient", "save_picture"]
    program = "from gradwire import *; AsyncClient, AsyncStream, AsyncValueAndGrad, save_picture"
    assert {"gradwire._async_client", "gradwire._pictures.saving"} <= imported(program)
    with pytest.raises(AttributeError, match=r"'value_and_grad'; it is a method of a client: gw\.connect\(target\)"):
        _ = gw.value_and_grad  # type: ignore[attr-defined]  # the mistake
    with pytest.raises(AttributeError, match=r"module 'gradwire' has no attribute 'AsyncClients'$"):
        gw.AsyncClients  # type: ignore[attr-defined]  # noqa: B018  (the mistake)
