"""Examples that stay with the server, through the SDK: the bits of calls that bring their rows, whatever happens."""

from __future__ import annotations

import asyncio
import copy
import pickle
import re
import signal
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import gradwire as gw
from tests.integration.envoy import DAMAGED, DROPPED, envoy
from tests.integration.server_process import ServerProcess
from tests.integration.waiting import eventually
from tests.losses import hinge, perceptron

MEBIBYTE = 1 << 20

CASE = hinge(60, 4)
W, PHI, Y = CASE.arrays["w"], CASE.arrays["phi"], CASE.arrays["y"]
LABELS = perceptron(60)
PARAMETERS = {name: LABELS.arrays[name] for name in ("W1", "b1", "W2")}
ROWS: dict[str, Any] = {
    "all": slice(None),
    "range": slice(3, 50),
    "from the end": slice(-7, None),
    "steps": slice(50, None, -3),
    "indices": np.array([5, 0, -1, 5]),
    "list": [1, 2],
    "unsigned": np.array([7, 3], np.uint8),
    "mask": Y > 0,
}


def equal(found: Any, expected: Any) -> None:
    """Two pairs of loss and gradients, bit by bit."""
    assert np.asarray(found[0]).tobytes() == np.asarray(expected[0]).tobytes()
    assert {name: array.tobytes() for name, array in found[1].items()} == {
        name: array.tobytes() for name, array in expected[1].items()
    }


def counted(server: ServerProcess, series: str) -> float:
    [found] = re.findall(rf"^{re.escape(series)} (\S+)$", server.metrics(), re.MULTILINE)
    return float(found)


def uploads(server: ServerProcess) -> int:
    return int(counted(server, "gradwire_stored_uploaded_total"))


@pytest.mark.parametrize("rows", ROWS.values(), ids=ROWS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_rows_of_examples_are_rows_of_the_arrays(client: gw.Client, dtype: str, rows: Any) -> None:
    w, phi, y, x = (array.astype(dtype) for array in (W, PHI, Y, LABELS.arrays["x"]))
    data = client.examples(phi=phi, y=y)
    own = phi[rows], y[rows]
    assert len(data[rows]) == len(own[0])
    for reduction in ("mean", "sum", "none"):
        call = client.value_and_grad(CASE.loss, reduction=reduction)
        equal(call(w=w, examples=data[rows]), call(w=w, phi=own[0], y=own[1]))
    alone = client.examples({"phi": phi, "not in the graph": y})
    equal(call(w=w, y=own[1], examples=alone[rows]), call(w=w, phi=own[0], y=own[1]))
    labels = client.examples(x=x, label=LABELS.arrays["label"])
    call = client.value_and_grad(LABELS.loss, dtype=dtype)
    expected = call(PARAMETERS, x=x[rows], label=LABELS.arrays["label"][rows])
    equal(call(PARAMETERS, examples=labels[rows]), expected)


@pytest.mark.parametrize("rows", [slice(8, 2), slice(3, 3), slice(70, 90), slice(2, 8, -1), []], ids=str)
def test_rows_may_be_none(client: gw.Client, rows: Any) -> None:
    data = client.examples(phi=PHI, y=Y)[10:50]
    call = client.value_and_grad(CASE.loss, reduction="sum")
    equal(call(w=W, examples=data[rows]), call(w=W, phi=PHI[:0], y=Y[:0]))


def test_a_copy_of_examples_has_arrays_of_its_own(client: gw.Client) -> None:
    phi = PHI.copy()
    data = client.examples(phi=phi, y=Y)[10:50]
    call = client.value_and_grad(CASE.loss)
    expected = call(w=W, examples=data)
    for other in (copy.deepcopy(data), pickle.loads(pickle.dumps(data))):  # noqa: S301  (our own bytes)
        phi[:] = 7
        equal(call(w=W, examples=other), expected)
        phi[:] = PHI


def test_rows_of_rows_are_rows(client: gw.Client) -> None:
    data, numbers = client.examples(phi=PHI, y=Y), np.arange(60)
    call = client.value_and_grad(CASE.loss)
    for first in ROWS.values():
        for second in (slice(1, 2), [0, 0], np.arange(len(numbers[first])) % 2 == 0, slice(None, None, -1)):
            own = numbers[first][second]
            equal(call(w=W, examples=data[first][second]), call(w=W, phi=PHI[own], y=Y[own]))
    assert repr(data[:5]) == "<5 examples of phi, y>"


def test_a_function_and_every_other_call_take_them_too(client: gw.Client) -> None:
    def loss(params: Any, batch: Any, scale: Any) -> gw.Expression:
        found: gw.Expression = gw.maximum(0, 1 - gw.dot(params["w"], batch["phi"]) * batch["y"]) * scale
        return found

    batch = {"phi": PHI, "y": Y.astype(np.int64)}
    data = client.examples(batch=batch, scale=Y * Y, weight=Y)
    own = {name: array[10:20] for name, array in batch.items()}
    step = client.value_and_grad(loss, per_example=("batch", "scale"))
    equal(step({"w": W}, examples=data[10:20]), step({"w": W}, batch=own, scale=np.ones(10)))
    equal(step({"w": W}, own, examples=client.examples(scale=Y * Y)[10:20]), step({"w": W}, own, scale=np.ones(10)))
    given: dict[str, Any] = {"phi": PHI[10:20], "y": Y[10:20]}
    part = client.examples(phi=PHI, y=Y)[10:20]
    product = client.vjp(CASE.loss)
    equal(product(np.arange(10.0), w=W, examples=part), product(np.arange(10.0), w=W, **given))
    jacobian = client.jacobian(CASE.loss)
    assert jacobian(w=W, examples=part)["w"].tobytes() == jacobian(w=W, **given)["w"].tobytes()
    assert client.check(CASE.loss, w=W, examples=part) == client.check(CASE.loss, w=W, **given)
    result = client.value_and_grad(CASE.loss, wrt=("w", "phi")).evaluate(w=W, examples=part)
    assert result.examples == 10
    assert result.gradients["phi"].shape == (10, 4)
    with client.stream(CASE.loss) as stream:
        futures = [stream.submit(w=W, examples=data_) for data_ in (part, part[[1, 2]])]
        assert futures[0].result().loss == stream(w=W, **given)[0]
        assert futures[1].result().loss == stream(w=W, phi=PHI[11:13], y=Y[11:13])[0]


@pytest.mark.parametrize("target", ["local", "server"])
async def test_and_from_asyncio(target: str, request: pytest.FixtureRequest) -> None:
    address = target if target == "local" else request.getfixturevalue("server").address
    async with gw.AsyncClient(address) as client:
        call, data = client.value_and_grad(CASE.loss), client.examples(phi=3 * PHI, y=Y)
        found = await asyncio.gather(*(call(w=W, examples=data[i : i + 9]) for i in range(50)))
        for i, each in enumerate(found):
            equal(each, await call(w=W, phi=3 * PHI[i : i + 9], y=Y[i : i + 9]))
        async with client.stream(CASE.loss) as stream:
            equal(await stream(w=W, examples=data), await call(w=W, phi=3 * PHI, y=Y))


FORMS: dict[str, Any] = {
    "pandas": pd.DataFrame(PHI),
    "polars": pl.DataFrame(PHI),
    "arrow": pa.FixedSizeListArray.from_arrays(pa.array(PHI.ravel()), 4),
    "big-endian": PHI.astype(">f8"),
    "columns first": np.asfortranarray(PHI),
    "every other": np.repeat(PHI, 2, axis=0)[::2],
    "nested lists": PHI.tolist(),
}


@pytest.mark.parametrize("phi", FORMS.values(), ids=FORMS)
def test_whatever_the_arrays_are_the_bits_are_those(client: gw.Client, phi: Any) -> None:
    call = client.value_and_grad(CASE.loss)
    data = client.examples(phi=phi, y=pd.Series(Y.astype(int)))
    equal(call(w=W, examples=data[[4, 2]]), call(w=W, phi=PHI[[4, 2]], y=Y[[4, 2]]))
    equal(call(w=W, examples=data), call(w=W, phi=PHI, y=Y))


TABLE, TOKENS = np.random.default_rng(5).normal(size=(5, 3)), np.random.default_rng(6).integers(0, 5, (60, 4))


def weighted(emb: Any, tok: Any) -> Any:
    """Integers pick rows, and are numbers."""
    return np.sum(emb[tok] * np.sqrt(tok + 1)[:, None])


def scaled(emb: Any, tok: Any) -> Any:
    """Integers are numbers alone."""
    return np.sum(emb[0]) * np.sum(tok * tok)


@pytest.mark.parametrize("rows", [slice(None), slice(3, 50), [5, 0, -1, 5]], ids=str)
@pytest.mark.parametrize("dtype", ["int8", "uint64", "int64"])
@pytest.mark.parametrize("loss", [weighted, scaled])
def test_integers_pick_rows_and_are_numbers(client: gw.Client, loss: Any, dtype: str, rows: Any) -> None:
    tokens = TOKENS.astype(dtype)
    own, data = tokens[rows], client.examples(tok=tokens, another=TOKENS)
    emb, tok = gw.parameter("emb", TABLE.shape), gw.input("tok", 4, per_example=True, dtype="int64")
    several: list[gw.Options] = [{}, {"reduction": "none"}, {"dtype": "float32"}]
    for options in several:
        call = client.value_and_grad(loss(emb, tok), **options)
        equal(call(emb=TABLE, examples=data[rows]), call(emb=TABLE, tok=own))
    value, slopes = client.value_and_grad(loss, per_example="tok")(TABLE, examples=data[rows])
    expected = client.value_and_grad(loss, per_example="tok")(TABLE, tok=own)
    assert (value, slopes.tobytes()) == (expected[0], expected[1].tobytes())
    np.testing.assert_allclose(value, np.mean([loss(TABLE, each.astype(int)) for each in own]), rtol=1e-12)
    product = client.vjp(loss(emb, tok))
    ones = np.ones(len(own))
    equal(product(ones, emb=TABLE, examples=data[rows]), product(ones, emb=TABLE, tok=own))
    with client.stream(loss(emb, tok)) as stream:
        equal(stream(emb=TABLE, examples=data[rows]), stream(emb=TABLE, tok=own))


def test_integers_that_were_forgotten_are_uploaded_again_in_both_forms() -> None:
    emb, tok = gw.parameter("emb", TABLE.shape), gw.input("tok", 4, per_example=True, dtype="int64")
    with ServerProcess() as server, gw.connect(server.address) as client:
        call, data = client.value_and_grad(weighted(emb, tok)), client.examples(tok=TOKENS)
        expected = call(emb=TABLE, tok=TOKENS[:9])
        equal(call(emb=TABLE, examples=data[:9]), expected)
        equal(call(emb=TABLE, examples=data[np.arange(9)]), expected)
        assert uploads(server) == 1
        server.stop(signal.SIGKILL)
        server.start()
        equal(call(emb=TABLE, examples=data[:9]), expected)
        assert uploads(server) == 1


def hidden(params: Any, phi: Any) -> gw.Expression:
    """A function whose argument ``phi`` nothing says is per example."""
    found: gw.Expression = gw.dot(params, phi)
    return found


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        (lambda c: c.examples(), ["at least one array"]),
        (lambda c: c.examples(phi=PHI, y=Y[:5]), ['"phi" has 60', '"y" has 5']),
        (lambda c: c.examples(phi=PHI, y=1.0), ['"y"', "one number"]),
        (lambda c: c.examples(phi=PHI, hard=True), ['"hard" is True', "with the call"]),
        (lambda c: c.examples(phi=np.array(["a"])), ['"phi"']),
        (lambda c: c.examples(phi=PHI)[3], ["data[3:4]"]),
        (lambda c: c.examples(phi=PHI)[[0, 60]], ["row 60", "60 examples"]),
        (lambda c: c.examples(phi=PHI)[-61:][[-61]], ["row -61"]),
        (lambda c: c.examples(phi=PHI)[[0.5]], ["integers", "float64"]),
        (lambda c: c.examples(phi=PHI)[[True]], ["mask of 1", "60 examples"]),
        (lambda c: c.examples(phi=PHI)["a":"b"], ["rows"]),
        (lambda c: c.value_and_grad(CASE.loss)(w=W, examples=c.examples(x=PHI)), ["<60 examples of x>", "phi, y"]),
        (lambda c: c.value_and_grad(CASE.loss)(w=W, examples=c.examples(phi=PHI)), ['"y"', "missing"]),
        (lambda c: c.value_and_grad(CASE.loss)(w=W, y=Y, examples=c.examples(phi=PHI, y=Y)), ['"y" is given twice']),
        (
            lambda c: c.value_and_grad(CASE.loss)(w=W, examples=c.examples(phi=PHI.astype("f4"), y=Y)),
            ["float32", "float64", "dtype="],
        ),
        (lambda c: c.value_and_grad(CASE.loss)(w=W, examples=c.examples(phi=PHI[:, :2], y=Y)), ["(60, 2)", "(N, 4)"]),
        (
            lambda c: c.value_and_grad(LABELS.loss)(PARAMETERS, examples=c.examples(x=LABELS.arrays["x"], label=Y)),
            ['"label"', "row indices are integers"],
        ),
        (lambda c: c.value_and_grad(hidden)(W, examples=c.examples(phi=PHI)), ['"phi"', "per_example="]),
        (lambda c: c.value_and_grad(hidden)(W, PHI, examples=c.examples(phi=PHI)), ['"phi"', "by position"]),
        (lambda c: c.value_and_grad(hidden)(W, examples=c.examples(y=Y)), ["takes none", "y"]),
    ],
)
def test_what_is_wrong_is_said_by_name(client: gw.Client, ask: Callable[[gw.Client], Any], words: list[str]) -> None:
    with pytest.raises(gw.InvalidRequestError) as raised:
        ask(client)
    assert [word for word in words if word not in str(raised.value)] == [], str(raised.value)


def test_an_array_of_that_name_is_an_array(client: gw.Client) -> None:
    loss = gw.sum(gw.parameter("w", shape=(2,)) * gw.input("examples", shape=(2,)))
    assert client.value_and_grad(loss)(w=np.ones(2), examples=np.array([1.0, 2.0]))[0] == 3.0


def test_a_mapped_file_is_read_as_it_travels_and_never_as_a_whole(tmp_path: Path) -> None:
    file = tmp_path / "phi"
    mapped = np.memmap(file, np.float32, "w+", shape=(400_000, 50))
    for start in range(0, len(mapped), 10_000):
        mapped[start : start + 10_000] = np.random.default_rng(start).normal(size=(10_000, 50))
    mapped.flush()
    case = hinge(3, 50)
    with ServerProcess() as server, gw.connect(server.address) as client:
        phi = np.memmap(file, np.float32, "r", shape=(400_000, 50))
        for dtype in ("float32", "float64"):
            call = client.value_and_grad(case.loss, dtype=dtype)
            tracemalloc.start()
            data = client.examples(phi=phi, y=np.ones(len(phi), np.int8))
            before = private_bytes()
            found = call(w=case.arrays["w"], examples=data[-1000:])
            # Of 80 MB, or 160 as float64: gRPC holds some frames on their way.
            assert tracemalloc.get_traced_memory()[1] < 30 * MEBIBYTE
            assert private_bytes() - before < 60 * MEBIBYTE
            tracemalloc.stop()
            equal(found, call(w=case.arrays["w"], phi=phi[-1000:], y=np.ones(1000)))
        assert uploads(server) == 2


def private_bytes() -> int:
    """Memory of this process that is no file."""
    [found] = re.findall(r"RssAnon:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(found) * 1024


def test_many_callers_upload_once(server: ServerProcess) -> None:
    rows = np.random.default_rng(7).normal(size=(50_000, 4)), np.ones(50_000)
    before = uploads(server)
    with gw.connect(server.address) as client, ThreadPoolExecutor(16) as pool:
        call, data = client.value_and_grad(CASE.loss), client.examples(phi=rows[0], y=rows[1])
        found = list(pool.map(lambda i: call(w=W, examples=data[i : i + 5]), range(100)))
    with gw.connect(server.address) as other:
        call, data = other.value_and_grad(CASE.loss), other.examples(phi=rows[0], y=rows[1])
        for i, each in enumerate(found):
            equal(each, call(w=W, examples=data[i : i + 5]))
    assert uploads(server) == before + 1


def test_what_was_forgotten_is_uploaded_again_and_what_is_too_large_is_told() -> None:
    flags = ("--max-stored-bytes=1000000",)
    case = hinge(20_000, 4)
    w, phi, y = (case.arrays[name] for name in ("w", "phi", "y"))
    with ServerProcess(flags=flags) as server, gw.connect(server.address) as client:
        call = client.value_and_grad(case.loss)
        data = [client.examples(phi=sign * phi, y=y) for sign in (1, -1)]
        expected = [call(w=w, phi=sign * phi, y=y) for sign in (1, -1)]
        with client.stream(case.loss) as stream:
            for _ in range(3):
                for own, each in zip(data, expected, strict=True):
                    equal(call(w=w, examples=own), each)
                    equal(stream(w=w, examples=own), each)
        assert uploads(server) == 6
        large = client.examples(phi=np.ones((100_000, 4)), y=np.ones(100_000))
        with pytest.raises(gw.LimitExceededError, match="max_stored_bytes"):
            call(w=w, examples=large)
        # A server that ends has forgotten all.
        server.stop(signal.SIGKILL)
        server.start()
        equal(call(w=w, examples=data[0]), expected[0])


@pytest.fixture(scope="module")
def replicas() -> Iterator[list[ServerProcess]]:
    with ExitStack() as stack, ThreadPoolExecutor(3) as pool:
        yield list(pool.map(stack.enter_context, [ServerProcess() for _ in range(3)]))


def test_each_worker_keeps_its_own_and_the_metrics_are_their_sum() -> None:
    with ServerProcess(flags=("--workers=2",)) as server:
        for seed in range(6):
            steps(server.address, *fresh(seed), count=3)
        assert counted(server, "gradwire_stored_sets") == uploads(server) == 6
        assert counted(server, "gradwire_stored_bytes") > 6 * 3000 * 40


def fresh(seed: int) -> tuple[Any, Any]:
    """Examples that no server has met."""
    return np.random.default_rng(seed).normal(size=(3000, 4)), np.ones(3000)


def steps(target: str, phi: Any, y: Any, count: int = 60) -> list[Any]:
    """Steps of one client, whose bits are compared with those of calls that bring their rows."""
    with gw.connect(target) as client:
        call, data = client.value_and_grad(CASE.loss), client.examples(phi=phi, y=y)
        found = []
        for i in range(count):
            rows = np.arange(i, i + 30)[:: 1 if i % 2 else -1]
            found.append(call(w=W, examples=data[rows] if i % 3 else data[i : i + 30]))
            own = rows if i % 3 else slice(i, i + 30)
            equal(found[-1], call(w=W, phi=phi[own], y=y[own]))
    return found


def all_uploads(servers: Sequence[ServerProcess]) -> list[int]:
    return [uploads(server) for server in servers]


def not_found(servers: Sequence[ServerProcess]) -> float:
    return sum(counted(server, 'gradwire_refused_total{reason="EXAMPLES_NOT_FOUND"}') for server in servers)


def test_of_several_addresses_one_replica_keeps_the_examples_of_a_client(replicas: list[ServerProcess]) -> None:
    target = "ipv4:" + ",".join(server.address for server in replicas)
    before, lacked = all_uploads(replicas), not_found(replicas)
    for seed in range(12):
        steps(target, *fresh(seed), count=3)
    grown = [now - then for now, then in zip(all_uploads(replicas), before, strict=True)]
    assert sum(grown) == 12
    assert not_found(replicas) == lacked
    # They choose by chance: with a fault they all choose the same, and by chance once in 200,000 times.
    assert sorted(grown)[1] > 0


def test_a_proxy_that_hashes_sends_calls_about_the_same_examples_to_one(
    replicas: list[ServerProcess], tmp_path: Path
) -> None:
    asyncio.run(_hashed(replicas, tmp_path))


async def _hashed(replicas: list[ServerProcess], folder: Path) -> None:
    with envoy(folder, replicas, hashes=True) as proxy:
        await eventually(lambda: proxy.healthy() == 3)
        before, lacked = all_uploads(replicas), not_found(replicas)
        for seed in (100, 101, 100, 101):
            await asyncio.to_thread(steps, proxy.address, *fresh(seed))
        assert sum(all_uploads(replicas)) - sum(before) == 2
        assert not_found(replicas) == lacked


@pytest.mark.parametrize("details", [[], DROPPED, DAMAGED], ids=["kept", "dropped", "damaged"])
async def test_a_proxy_that_does_not_costs_each_replica_one_upload(
    replicas: list[ServerProcess], tmp_path: Path, details: list[Any]
) -> None:
    with envoy(tmp_path, replicas, details) as proxy:
        await eventually(lambda: proxy.healthy() == 3)
        before, lacked = all_uploads(replicas), not_found(replicas)
        await asyncio.to_thread(steps, proxy.address, *fresh(200 + len(details) + len(str(details))))
        assert max(now - then for now, then in zip(all_uploads(replicas), before, strict=True)) == 1
        assert not_found(replicas) - lacked < 12


async def test_a_replica_that_is_killed_under_load_fails_no_call_and_changes_no_bit(
    replicas: list[ServerProcess],
) -> None:
    phi, y = fresh(300)
    before = all_uploads(replicas)
    with ExitStack() as stack, ThreadPoolExecutor(2) as pool:
        client = stack.enter_context(gw.connect("ipv4:" + ",".join(server.address for server in replicas)))
        call, data = client.value_and_grad(CASE.loss), client.examples(phi=phi, y=y)
        stream = stack.enter_context(client.stream(CASE.loss))
        expected = [call(w=W, phi=phi[i : i + 30], y=y[i : i + 30]) for i in range(50)]
        call(w=W, examples=data)
        [holder] = [server for server, then in zip(replicas, before, strict=True) if uploads(server) > then]
        others = [server for server in replicas if server is not holder]
        before = all_uploads(others)
        done = [0, 0]

        def work(number: int, ask: Any) -> None:
            for i in range(100):
                equal(ask(w=W, examples=data[i % 50 : i % 50 + 30]), expected[i % 50])
                done[number] += 1

        callers = [pool.submit(work, number, ask) for number, ask in enumerate((call, stream))]
        await eventually(lambda: min(done) > 10)
        holder.stop(signal.SIGKILL)
        for caller in callers:
            await asyncio.wrap_future(caller)
        assert done == [100, 100]
        assert sum(all_uploads(others)) == sum(before) + 1
    holder.start()
