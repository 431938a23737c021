"""Very many requests that a fuzzer makes up, from several callers at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random
from time import perf_counter

import pytest

from tests.faults.conftest import Tell
from tests.fuzzing import targets
from tests.fuzzing.mutation import mutate
from tests.fuzzing.script import script_of
from tests.hostile.memory import resident
from tests.hostile.messages import valid
from tests.integration.raw import channel, send
from tests.integration.server_process import ServerProcess

CALLERS = 4
PROMPTLY = 60.0
CORPUS = [file.read_bytes() for file in sorted((Path(targets.__file__).parent / "corpus").iterdir())]


def scripts(seed: int) -> Iterator[bytes]:
    """Mutations of the corpus, and mutations of those."""
    random = Random(seed)  # noqa: S311  (not for secrets)
    while True:
        script = script_of(random.choice(CORPUS))
        for _ in range(random.randrange(1, 8)):
            mutate(script, random)
            del script.calls[8:]
            raw: bytes = script.SerializeToString()
            yield raw if random.random() < 0.95 else raw[: random.randrange(len(raw) + 1)]


@pytest.mark.timeout(1800)
def test_hostile_requests_are_refused_and_leave_nothing(full: bool, tell: Tell, tmp_path: Path) -> None:
    count = 100_000 if full else 2000
    with ServerProcess(flags=(*targets.FLAGS, "--log-level=warning")) as server:
        before = resident(server.process.pid)

        def caller(seed: int) -> Counter[str]:
            codes: Counter[str] = Counter()
            with channel(server.address) as opened:
                for script in scripts(seed):
                    try:
                        codes.update(code.name for code in targets.play(opened, script, server.log_of))
                    except AssertionError as error:
                        found = tmp_path / f"found-{seed}"
                        found.write_bytes(script)
                        error.add_note(f"{found} has the script, for the corpus of the fuzzer")
                        raise
                    if codes.total() >= count // CALLERS:
                        return codes
            raise AssertionError

        start = perf_counter()
        with ThreadPoolExecutor(CALLERS) as pool:
            codes = sum(pool.map(caller, range(CALLERS)), Counter())
        seconds = perf_counter() - start
        with channel(server.address) as opened:
            begun = perf_counter()
            assert isinstance(send(opened, "ComputeGradients", valid(), timeout=PROMPTLY), bytes)
            next_good = perf_counter() - begun
        grown = resident(server.process.pid) - before
        assert grown < 128 << 20
        assert "gradwire_requests_in_flight 0.0" in server.metrics()
        assert [line for line in server.log.splitlines() if "internal error" in line] == []
    assert codes["OK"] > count // 20
    assert codes["INVALID_ARGUMENT"] > count // 4
    told = ", ".join(f"{number:,} {code}" for code, number in codes.most_common())
    tell(
        f"{codes.total():,} hostile requests",
        f"{told}; {seconds:.0f} s; the next good one after {1000 * next_good:.0f} ms; {grown >> 20} MiB more memory",
    )
