"""Storage that evaluations take one after another: none reads what another wrote, and little of it is kept."""

from __future__ import annotations

import gc
import tracemalloc
import weakref
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from gradwire_server.engine.graph.graph import Reduction
from gradwire_server.engine.run.evaluation import Evaluation, run
from gradwire_server.engine.run.idle import IDLE_ROOMS, IdleRooms
from gradwire_server.engine.run.job import bind
from gradwire_server.engine.run.program import Program
from gradwire_server.engine.run.query import Query
from gradwire_server.errors import Refusal
from tests.losses import hinge
from tests.unit.engine.building import LIMITS, Builder, nothing
from tests.unit.engine.test_hinge import program as hinge_program


def mixed() -> Program:
    """Products, elementwise operations and rows of a table, of what examples share and of what they have."""
    b = Builder()
    hidden = b.op("tanh", b.op("matmul", b.parameter("W", (6, 5)), b.input("x", (5,), per_example=True)))
    own = b.op("sum", b.op("take", b.parameter("table", (4, 6)), b.input("row", per_example=True, integer=True)))
    shared = b.op("exp", b.op("sum", b.parameter("b", (3,))))
    b.op("mul", b.op("add", b.op("sum", hidden), own), shared)
    return b.program()


def arrays_of(seed: int, examples: int, dtype: Any = np.float64) -> dict[str, Any]:
    random = np.random.default_rng(seed)
    shapes = {"W": (6, 5), "x": (examples, 5), "table": (4, 6), "b": (3,)}
    arrays = {name: random.normal(size=shape).astype(dtype) for name, shape in shapes.items()}
    return arrays | {"row": random.integers(0, 4, examples)}


def of(program: Program, arrays: dict[str, Any], **query: Any) -> Evaluation:
    return run(bind(program, Query(arrays=arrays, dtype=arrays["W"].dtype, **query), LIMITS), nothing)


def bytes_of(result: Evaluation) -> list[bytes]:
    return [array.tobytes() for array in (result.loss, *result.gradients.values(), *result.outputs.values())]


@pytest.mark.parametrize("reduction", list(Reduction))
def test_results_do_not_depend_on_what_was_evaluated_before_and_stay_as_they_are(reduction: Reduction) -> None:
    program = mixed()
    asked: list[dict[str, Any]] = [
        {"arrays": arrays_of(seed, examples, dtype), "reduction": reduction, "outputs": outputs, "wrt": wrt}
        for seed, (examples, dtype, outputs, wrt) in enumerate(
            [
                (7, np.float64, (), None),
                (7, np.float64, (), None),
                (3, np.float64, (), None),
                (7, np.float32, (), None),
                (7, np.float32, (2, 6, 8), ("x", "b")),
                (9, np.float32, (2, 6, 8), ("x", "b")),
                (7, np.float64, (), None),
            ]
        )
    ]
    alone = [bytes_of(of(mixed(), **query)) for query in asked]
    results = [of(program, **query) for query in asked]
    assert [bytes_of(result) for result in results] == alone


def test_evaluations_at_the_same_time_do_not_share_storage() -> None:
    program = mixed()
    asked = [arrays_of(seed, 200) for seed in range(8)]
    alone = [bytes_of(of(mixed(), arrays)) for arrays in asked]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(20):
            assert list(pool.map(lambda arrays: bytes_of(of(program, arrays)), asked)) == alone


def test_an_evaluation_that_failed_leaves_nothing_to_the_next() -> None:
    program = mixed()
    arrays = arrays_of(0, 7)
    of(program, arrays)
    with pytest.raises(Refusal, match="out of range"):
        of(program, arrays | {"row": np.full(7, 4)})
    nan = of(program, arrays | {"b": np.array([1, np.nan, 1])})
    assert nan.non_finite is not None
    assert nan.non_finite.name == "b"
    result = of(program, arrays)
    assert result.non_finite is None
    assert bytes_of(result) == bytes_of(of(mixed(), arrays))


@pytest.mark.parametrize("reduction", list(Reduction))
def test_what_a_request_brought_is_not_kept(reduction: Reduction) -> None:
    program = mixed()
    arrays = arrays_of(0, 7)
    result = of(program, arrays, reduction=reduction, wrt=("W", "x"))
    assert rooms_of(program) == 1
    kept = [weakref.ref(array) for array in (*arrays.values(), result.loss, *result.gradients.values())]
    del arrays, result
    gc.collect()
    assert [ref() for ref in kept] == [None] * len(kept)


def rooms_of(program: Program) -> int:
    """How many rooms are kept."""
    return sum(len(bound.rooms) for bound in program.bounds.values())


def test_rooms_of_all_programs_take_no_more_than_idle_rooms_may() -> None:
    programs = [hinge_program(features) for features in range(20, 40)]
    rooms = IdleRooms(1 << 20)
    tracemalloc.start()
    for program in programs:
        arrays = hinge(2000, program.sources[0].shape[0]).arrays
        for reduction in Reduction:
            bound = bind(program, Query(arrays=arrays, dtype=np.dtype(np.float64), reduction=reduction), LIMITS).bound
            taken = [rooms.take(bound) for _ in range(3)]
            for room in taken:
                rooms.keep(bound, room)
            del taken, room
    bounds = [bound for program in programs for bound in program.bounds.values()]
    kept = [len(bound.rooms) for bound in bounds]
    before = tracemalloc.get_traced_memory()[0]
    rooms.clear()
    freed = before - tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    # Those that were used last are kept.
    assert kept[-1] == 3
    assert kept[0] == 0
    assert kept == sorted(kept)
    assert 1 << 19 < freed <= 1 << 20
    assert not any(bound.rooms for bound in bounds)


def test_a_room_that_is_kept_is_the_one_that_is_taken() -> None:
    program = hinge_program(20)
    bound = bind(program, Query(arrays=hinge(10, 20).arrays, dtype=np.dtype(np.float64)), LIMITS).bound
    rooms = IdleRooms(1 << 20)
    room = rooms.take(bound)
    rooms.keep(bound, room)
    assert rooms.take(bound) is room
    assert rooms.take(bound) is not room
    small = IdleRooms(room.nbytes - 1)
    small.keep(bound, room)
    assert small.take(bound) is not room


@pytest.mark.parametrize("nodes", [100, 5000, 20_000])
def test_a_swarm_keeps_no_more_storage_than_is_counted(nodes: int) -> None:
    def chain() -> Program:
        b = Builder()
        last = [b.parameter("x"), b.parameter("y")]
        for i in range(nodes):
            last.append(b.op(("mul", "add")[i % 2], last[-1], last[i // 2]))
        return b.program()

    arrays = {"x": np.array(0.5), "y": np.array(0.25)}
    query = Query(arrays=arrays, dtype=np.dtype(np.float64))
    run(bind(chain(), query, LIMITS), nothing)
    IDLE_ROOMS.clear()
    gc.collect()
    tracemalloc.start()
    program = chain()
    for wrt in (None, ("x",), ("y",), ()):
        for dtype in (np.float64, np.float32):
            given: dict[str, Any] = {name: array.astype(dtype) for name, array in arrays.items()}
            asked = Query(arrays=given, dtype=np.dtype(dtype), wrt=wrt)
            run(bind(program, asked, LIMITS), nothing)
    IDLE_ROOMS.clear()
    gc.collect()
    kept = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert kept <= program.nbytes
