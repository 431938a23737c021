"""Ids of calls, by which the log of a server and an error find each other."""

from __future__ import annotations

import random
import subprocess
import sys

from gradwire._transports.channel import new_request_id

FORKED = """
import os
from gradwire._transports.channel import new_request_id

reader, writer = os.pipe()
if os.fork() == 0:
    os.write(writer, new_request_id().encode())
    os._exit(0)
os.wait()
print(new_request_id(), os.read(reader, 100).decode())
"""


def test_no_id_comes_twice() -> None:
    assert len({new_request_id() for _ in range(1000)}) == 1000


def test_ids_have_nothing_to_do_with_numbers_that_a_user_draws() -> None:
    random.seed(1)
    first, drawn = new_request_id(), random.getrandbits(32)
    random.seed(1)
    assert new_request_id() != first
    assert random.getrandbits(32) == drawn


def test_a_process_that_was_forked_has_others() -> None:
    told = subprocess.run((sys.executable, "-c", FORKED), check=True, capture_output=True, text=True)
    own, forked = told.stdout.split()
    assert own != forked
