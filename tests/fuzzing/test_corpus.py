"""What the fuzzer found, played again: scripts that reach every corner, and those that something was wrong with."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from random import Random

import grpc
import pytest

from tests.fuzzing import targets
from tests.fuzzing.mutation import mutate
from tests.fuzzing.script import Script, script_of
from tests.integration.raw import channel
from tests.integration.server_process import ServerProcess

CORPUS = sorted((Path(__file__).parent / "corpus").iterdir())


@pytest.fixture(scope="module")
def opened() -> Iterator[grpc.Channel]:
    with ServerProcess(flags=targets.FLAGS) as server, channel(server.address) as opened:
        yield opened
        assert "internal error" not in server.log


@pytest.mark.parametrize("file", CORPUS, ids=[file.name for file in CORPUS])
def test_a_script_is_refused_or_computed_as_numpy_does(file: Path) -> None:
    targets.decode(file.read_bytes())


@pytest.mark.parametrize("file", CORPUS, ids=[file.name for file in CORPUS])
def test_a_server_answers_a_script(opened: grpc.Channel, file: Path) -> None:
    targets.play(opened, file.read_bytes())


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
