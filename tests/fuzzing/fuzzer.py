"""The fuzzer's loop around a target."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from contextlib import redirect_stdout
from functools import partial
from pathlib import Path
from random import Random
from select import select
from threading import Thread
from typing import TYPE_CHECKING

import atheris
import grpc

from gradwire_server import codec, engine, logs
from gradwire_server.configuration.settings import Settings
from gradwire_server.service.process.server import Server
from tests.fuzzing import targets
from tests.fuzzing.mutation import mutate
from tests.fuzzing.script import script_of

if TYPE_CHECKING:
    from collections.abc import Callable

CORPUS = Path(__file__).parent / "corpus"
CACHE = Path(".cache/fuzz")

LONGEST = 16 << 10
"""Bytes of a script."""

CALLS = 12
"""Calls of a script, at most."""

STARTED = 60.0
"""Seconds that the server may take until it serves."""

MEGABYTES = 1500
"""Of memory, beyond which the fuzzer's process, and the server in it, counts as growing without end."""


def main() -> None:
    """Fuzz one target for a while; ends with an error where it finds one, and leaves its bytes in a file."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzzing", description=main.__doc__)
    parser.add_argument("target", choices=("decode", "serve"))
    parser.add_argument("--seconds", type=int, default=60)
    arguments = parser.parse_args()
    if arguments.target == "decode":
        target: Callable[[bytes], object] = targets.decode
    else:
        target = partial(targets.play, grpc.insecure_channel(serve()), log_of=lambda _: "its log is above")
    engine.warm(further=codec.warm)  # compiling takes longer than a script may
    kept = CACHE / arguments.target
    kept.mkdir(parents=True, exist_ok=True)
    options = [
        *(f"-max_total_time={arguments.seconds}", f"-max_len={LONGEST}", f"-rss_limit_mb={MEGABYTES}"),
        *(f"-timeout={int(targets.SECONDS)}", f"-artifact_prefix={kept}-", "-print_final_stats=1"),
    ]
    atheris.Setup([sys.argv[0], *options, str(kept), str(CORPUS)], target, custom_mutator=mutated)
    atheris.Fuzz()


def mutated(data: bytes, max_size: int, seed: int) -> bytes:
    """Other bytes: mostly of a mutated script, now and then just other ones."""
    random = Random(seed)  # noqa: S311  (not for secrets)
    if random.random() < 0.05:
        return bytes(atheris.Mutate(data, min(max_size, len(data) + 64)))
    script = script_of(data)
    mutate(script, random)
    del script.calls[CALLS:]
    result: bytes = script.SerializeToString()
    return result if len(result) <= max_size else data


def serve() -> str:
    """Start the server, whole, in a thread of this process, where the fuzzer sees its lines; gives its address."""
    settings = Settings(port=0, metrics_port=0, log_level="error", threads=1, **targets.LIMITS.model_dump())
    logs.configure(settings.log_level)

    async def run() -> None:
        # Signals are the fuzzer's.
        asyncio.get_running_loop().add_signal_handler = lambda *_: None  # type: ignore[method-assign]
        await Server(settings).run()

    # The server writes to the file that stdout is.
    reading, writing = os.pipe()
    with os.fdopen(reading) as lines, os.fdopen(writing, "w") as ready, redirect_stdout(ready):
        Thread(target=asyncio.run, args=(run(),), daemon=True).start()
        assert select([lines], [], [], STARTED)[0], "the server has not started"
        return lines.readline().split()[3].rstrip(",")
