"""What the fuzzer found, played again: scripts that reach every corner, and those that something was wrong with."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from random import Random

import grpc
import pytest

from gradwire.v1 import gradient_service_pb2 as pb
from tests.fuzzing import targets
from tests.fuzzing.mutation import mutate
from tests.fuzzing.script import STREAM, Script, script_of
from tests.hostile import broken_server
from tests.hostile.messages import valid
from tests.integration.raw import channel
from tests.integration.server_process import ServerProcess

CORPUS = sorted((Path(__file__).parent / "corpus").iterdir())


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    with ServerProcess(flags=targets.FLAGS) as server:
        yield server
        assert "internal error" not in server.log


@pytest.fixture(scope="module")
def opened(server: ServerProcess) -> Iterator[grpc.Channel]:
    with channel(server.address) as opened:
        yield opened


@pytest.mark.parametrize("file", CORPUS, ids=[file.name for file in CORPUS])
def test_a_script_is_refused_or_computed_as_the_reference_does(file: Path) -> None:
    targets.decode(file.read_bytes())


@pytest.mark.parametrize("file", CORPUS, ids=[file.name for file in CORPUS])
def test_a_server_answers_a_script(server: ServerProcess, opened: grpc.Channel, file: Path) -> None:
    targets.play(opened, file.read_bytes(), server.log_of)


@pytest.mark.parametrize("method", ["ComputeGradients", "StreamGradients"])
def test_a_fault_of_the_server_is_shown_with_its_trace(method: str) -> None:
    request = pb.ComputeGradientsRequest.FromString(valid())
    frames = {"frames": [pb.StreamGradientsRequest(head=pb.StreamRequestHead(request=request))]}
    script = Script(calls=[{"GetServerInfo": {}}, {method: frames if method == STREAM else request}])
    with ServerProcess(module=broken_server.__name__) as server, channel(server.address) as opened:
        with pytest.raises(AssertionError, match="INTERNAL") as raised:
            targets.play(opened, script.SerializeToString(), server.log_of)
        [note] = raised.value.__notes__
    assert note.startswith(method)
    assert "\nZeroDivisionError: " in note
    assert "GetServerInfo" not in note


def test_mutations_are_scripts_that_say_something_else() -> None:
    random = Random(0)  # noqa: S311  (not for secrets)
    seen = set()
    for file in CORPUS:
        script = script_of(file.read_bytes())
        for _ in range(20):
            mutate(script, random)
            seen.add(script.SerializeToString(deterministic=True))
            assert Script.FromString(script.SerializeToString()) == script
    assert len(seen) > 10 * len(CORPUS)
