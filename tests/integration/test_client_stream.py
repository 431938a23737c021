"""Streams of the SDK: many calls in a row."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import pytest

import gradwire as gw
from gradwire._calls.stream import MAX_PENDING
from tests.integration.server_process import ServerProcess
from tests.losses import hinge, hinge_by_hand, perceptron, sum_of_squares


@contextmanager
def suspended(server: ServerProcess) -> Iterator[None]:
    """While the server's process stands still."""
    server.process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        server.process.send_signal(signal.SIGCONT)


def test_a_training_loop(client: gw.Client) -> None:
    case = hinge(examples=50)
    with client.stream(case.loss) as stream:
        w = case.arrays["w"]
        for _ in range(20):
            _, gradients = stream(**case.arrays | {"w": w})
            np.testing.assert_allclose(
                gradients["w"], hinge_by_hand(**case.arrays | {"w": w})[1].mean(axis=0), rtol=1e-12
            )
            w = w - 0.1 * gradients["w"]


def test_requests_under_way_together_are_answered_each_with_its_own(client: gw.Client) -> None:
    w = gw.parameter("w")
    with client.stream(w * w) as stream:
        futures = [stream.submit(w=float(i)) for i in range(300)]
        assert [future.result().loss for future in futures] == [i * i for i in range(300)]


@pytest.mark.parametrize("size", [5, 200_000])
def test_arrays_may_change_while_their_request_travels(client: gw.Client, size: int) -> None:
    w = np.zeros(size)
    futures = []
    with client.stream(gw.sum(gw.parameter("w", shape=(size,)))) as stream:
        for i in range(20):
            w[:] = i
            futures.append(stream.submit(w=w))
        assert [future.result().loss / size for future in futures] == list(range(20))


LARGE = """
import sys
from resource import RUSAGE_SELF, getrusage
import numpy as np
import gradwire as gw

w = gw.parameter("w", shape=(5_000_000,))
values = np.ones(5_000_000)
with gw.connect(sys.argv[1]) as client, client.stream(gw.dot(w, w)) as stream:
    for calls in (2, 6):
        before = getrusage(RUSAGE_SELF).ru_minflt
        for _ in range(calls):
            stream(w=values)
print((getrusage(RUSAGE_SELF).ru_minflt - before) / calls)
"""
"""Calls of 40 MB there and back, and how many pages of memory each of them had made anew."""


def test_memory_of_frames_is_used_again(server: ServerProcess) -> None:
    told = subprocess.run((sys.executable, "-c", LARGE, server.address), check=True, capture_output=True, text=True)
    # Those of the result, unless the system makes large ones of them; but none of frames.
    assert float(told.stdout) < 1.25 * 40_000_000 / 4096


def test_threads_may_share_a_stream(client: gw.Client) -> None:
    w = gw.parameter("w")
    with client.stream(w * w) as stream, ThreadPoolExecutor(8) as pool:
        values = pool.map(lambda i: stream(w=float(i))[0], range(200))
        assert list(values) == [i * i for i in range(200)]


def test_an_error_of_one_request_leaves_the_others_alone(client: gw.Client) -> None:
    case = sum_of_squares(300_000)
    with client.stream(case.loss) as stream:
        good = stream.submit(**case.arrays)
        bad = stream.submit(w=np.ones(400_000))
        after = stream.submit(**case.arrays)
        assert good.result().loss == after.result().loss
        with pytest.raises(gw.InvalidRequestError, match=r"\(400000,\).*\(300000,\)") as raised:
            bad.result()
        assert raised.value.node == "w"


def test_large_tensors_travel_in_frames(client: gw.Client) -> None:
    case = sum_of_squares(3_000_000)
    with client.stream(case.loss) as stream:
        for _ in range(2):
            value, gradients = stream(**case.arrays)
            assert value == np.sum(case.arrays["w"] ** 2)
            np.testing.assert_array_equal(gradients["w"], 2 * case.arrays["w"])


def test_closing_waits_for_what_is_under_way(client: gw.Client) -> None:
    case = perceptron(20_000)
    with client.stream(case.loss) as stream:
        futures = [stream.submit(**case.arrays) for _ in range(5)]
    assert all(future.done() for future in futures)
    assert len({float(future.result().loss) for future in futures}) == 1


def test_a_closed_stream_says_so(client: gw.Client) -> None:
    with client.stream(gw.parameter("w")) as stream:
        stream(w=1.0)
    with pytest.raises(gw.UsageError, match="closed"):
        stream(w=1.0)


def test_a_stream_that_is_given_up_gives_up_its_requests(server: ServerProcess) -> None:
    case = perceptron(300_000)
    with gw.connect(server.address) as client:
        stream = client.stream(case.loss)
        futures = [stream.submit(**case.arrays) for _ in range(8)]
        stream.close(cancel=True)
        with pytest.raises(gw.CancelledError, match="closed"):
            futures[-1].result()


def test_a_timeout_is_of_one_request_and_the_stream_goes_on(server: ServerProcess) -> None:
    case, few = perceptron(300_000), perceptron(10)
    with gw.connect(server.address) as client, client.stream(case.loss) as stream:
        stream(**few.arrays)
        with pytest.raises(gw.DeadlineExceededError):
            stream(**case.arrays, timeout=0.001)
        assert stream(**few.arrays)[0] > 0


def test_a_timeout_holds_in_the_process_too() -> None:
    case = perceptron(2_000_000)
    with gw.connect("local") as client, client.stream(case.loss) as stream, pytest.raises(gw.DeadlineExceededError):
        stream(**case.arrays, timeout=0.05)


def test_a_timeout_holds_whatever_the_stream_waits_for() -> None:
    case = sum_of_squares(300_000)
    with ServerProcess() as server, gw.connect(server.address) as client:
        known = client.stream(case.loss)
        known(**case.arrays)
        with suspended(server):
            with client.stream(gw.parameter("w") ** 3) as unknown, pytest.raises(gw.DeadlineExceededError):
                unknown(w=2.0, timeout=0.1)
            for _ in range(MAX_PENDING):
                known.submit(**case.arrays)
            with pytest.raises(gw.DeadlineExceededError):
                known.submit(**case.arrays, timeout=0.1)
            with pytest.raises(gw.DeadlineExceededError):
                known(**case.arrays, timeout=0.1)
            known.close(cancel=True)


def test_a_stream_does_not_wait_for_what_nobody_waits_for() -> None:
    case = sum_of_squares(300_000)
    with ServerProcess() as server, gw.connect(server.address) as client, client.stream(case.loss) as stream:
        stream(**case.arrays)
        with suspended(server):
            with pytest.raises(gw.DeadlineExceededError):
                stream(**case.arrays, timeout=0.1)
            stream.close()
