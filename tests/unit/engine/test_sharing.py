"""What is equal is computed once, and what depends on constants alone is kept; no bit of a result tells.

Each graph is compared with one that can share nothing: the same nodes, but with a bound that no value reaches, another
one each time; or with inputs in place of constants.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from gradwire_server.engine import (
    Evaluation,
    Phase,
    Program,
    Query,
    Reduction,
    Ties,
    bind,
    trace,
)
from gradwire_server.engine.lowering import Run, Schedule
from gradwire_server.engine.plan import Plan
from tests.unit.engine.graphs import LIMITS, Builder, evaluate, nothing

EXAMPLES = 70
DTYPES = [np.float32, np.float64]
UNARY = ["exp", "sigmoid", "tanh", "softplus", "log", "square", "reciprocal"]


def floor(k: int, *, alike: bool) -> float:
    """A bound far below all values: the same for all k, or not."""
    return -1e30 if alike else -1e30 * (k + 1)


def unary(b: Builder, op: str, x: int) -> int:
    if op == "square":
        return b.op("power", x, exponent=2.0)
    if op == "reciprocal":
        return b.op("power", b.op("exp", x), exponent=-1.0)
    return b.op(op, b.op("softplus", x) if op == "log" else x)


def random_graph(seed: int, *, alike: bool, ties: Ties = Ties.ZERO) -> Program:
    """Chains of operations on three versions of each source, on tensors and on scalars."""
    random = np.random.default_rng(seed)
    b = Builder()
    sources = [b.parameter("w", (4,)), b.parameter("v", (4,)), b.input("x", (4,), per_example=True)]
    sources += [b.input("rows", (4, 4), per_example=True), b.parameter("m", (4, 4))]
    rows = b.constant(np.array([3, 0, 0, 1]))
    vectors = [b.op("max", s, b.constant(floor(k, alike=alike))) for s in sources[:3] for k in range(3)]
    matrices = [b.op("max", s, b.constant(floor(k, alike=alike))) for s in sources[3:] for k in range(3)]
    scalars = [b.op("sum", b.op("tanh", v), axes=(0,)) for v in vectors]
    for _ in range(60):
        pool = vectors if random.random() < 0.5 else scalars
        kind = random.integers(6)
        if kind == 0:
            pool.append(b.op("tanh", unary(b, str(random.choice(UNARY)), b.op("tanh", int(random.choice(pool))))))
        elif kind == 1:
            op = str(random.choice(["add", "mul", "max"]))
            picked = [int(n) for n in random.choice(pool, size=random.integers(2, 5))]
            pool.append(b.op("tanh", b.op(op, *picked)))
        elif kind == 2:
            product = b.op("matmul", int(random.choice(matrices)), int(random.choice(vectors)))
            vectors.append(b.op("tanh", product))
        elif kind == 3:
            dot = b.op("mul", int(random.choice(vectors)), int(random.choice(vectors)))
            scalars.append(b.op("tanh", b.op("sum", dot, axes=(0,))))
        elif kind == 4:
            vectors.append(b.op("mul", int(random.choice(vectors)), b.op("exp", int(random.choice(scalars)))))
        else:
            vectors.append(b.op("take", int(random.choice(vectors)), rows))
    b.op("add", b.op("sum", b.op("add", *vectors), axes=(0,)), *scalars)
    return b.program(ties=ties)


def arrays_of(program: Program) -> dict[str, Any]:
    random = np.random.default_rng(7)
    return {
        source.name: random.normal(size=(*((EXAMPLES,) if source.per_example else ()), *source.shape))
        for source in program.sources
    }


def same(a: Evaluation, b: Evaluation) -> None:
    np.testing.assert_array_equal(a.loss, b.loss)
    assert a.gradients.keys() == b.gradients.keys()
    for name, gradient in a.gradients.items():
        np.testing.assert_array_equal(gradient, b.gradients[name], err_msg=name)
    assert a.outputs.keys() == b.outputs.keys()
    for node, value in a.outputs.items():
        np.testing.assert_array_equal(value, b.outputs[node], err_msg=str(node))
    assert a.blocks == b.blocks


def rows_of(schedule: Schedule) -> int:
    return sum(len(step.rows) if isinstance(step, Run) else 1 for step in schedule.forward)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("reduction", list(Reduction))
@pytest.mark.parametrize("seed", range(8))
def test_no_bit_tells_what_was_shared(seed: int, reduction: Reduction, dtype: type) -> None:
    ties = list(Ties)[seed % len(Ties)]
    shared, apart = (random_graph(seed, alike=alike, ties=ties) for alike in (True, False))
    arrays = arrays_of(shared)
    # Nodes other than the bounds.
    outputs = tuple(n for n in range(len(shared.shapes)) if shared.instructions[n] is not None)[::5]
    query = {"reduction": reduction, "wrt": ("w", "v", "x", "m", "rows"), "outputs": outputs}
    same(evaluate(shared, arrays, dtype, **query), evaluate(apart, arrays, dtype, **query))
    query["outputs"] = ()
    same(evaluate(shared, arrays, dtype, **query), evaluate(apart, arrays, dtype, **query))


def plan_of(program: Program, arrays: Mapping[str, Any], dtype: type = np.float64, **query: Any) -> Plan:
    given: dict[str, Any] = {name: np.asarray(array, dtype) for name, array in arrays.items()}
    return bind(program, Query(arrays=given, dtype=np.dtype(dtype), **query), LIMITS).plan


def test_fewer_steps_run_forward_and_as_many_back() -> None:
    shared, apart = (random_graph(0, alike=alike) for alike in (True, False))
    arrays = arrays_of(shared)
    ours, theirs = plan_of(shared, arrays), plan_of(apart, arrays)
    for few, many in ((ours.shared, theirs.shared), (ours.lanes, theirs.lanes)):
        assert rows_of(few.schedule) < rows_of(many.schedule)
        assert few.values.elements < many.values.elements
        assert few.schedule.whole == many.schedule.whole
        assert few.adjoints.places.keys() == many.adjoints.places.keys()
        assert len(few.backward) == len(many.backward)


@pytest.mark.parametrize("per_example", [True, False])
def test_both_nodes_have_their_value_and_their_gradient(*, per_example: bool) -> None:
    b = Builder()
    x = b.input("x", (3,), per_example=per_example)
    one, other = b.op("exp", x), b.op("exp", x)
    total = b.op("add", b.op("mul", one, b.constant(2)), b.op("mul", other, b.constant(3)))
    b.op("sum", total, axes=(0,))
    program = b.program()
    values = np.array([0.5, -1.0, 2.0])
    arrays = {"x": values[np.newaxis] if per_example else values}
    plan = plan_of(program, arrays)
    stage = plan.lanes if per_example else plan.shared
    assert stage.values.places[one] == stage.values.places[other]
    result = evaluate(program, arrays, wrt=("x",), outputs=(one, other))
    np.testing.assert_allclose(result.outputs[one].ravel(), np.exp(values), rtol=1e-15)
    np.testing.assert_array_equal(result.outputs[one], result.outputs[other])
    np.testing.assert_allclose(result.gradients["x"].ravel(), 5 * np.exp(values), rtol=1e-14)
    traced = trace(program, {"x": values}, np.dtype(np.float64), LIMITS, nothing)
    for node, gradient in ((one, 2), (other, 3)):
        np.testing.assert_allclose(traced.nodes[node].value, np.exp(values), rtol=1e-15)
        np.testing.assert_array_equal(traced.nodes[node].gradient, [gradient] * 3)


def test_what_only_looks_alike_is_computed_on_its_own() -> None:
    b = Builder()
    x = b.parameter("x", (2, 2))
    y = b.parameter("y", (2, 2))
    nodes = [
        b.op("power", x, exponent=3.0),
        b.op("power", x, exponent=4.0),
        b.op("sum", x, axes=(0,)),
        b.op("sum", x, axes=(1,)),
        b.op("sum", x, axes=(0,), keepdims=True),
        b.op("matmul", x, y),
        b.op("matmul", y, x),
        b.op("max", x, b.constant(0.0)),
        b.op("mul", x, b.constant(-0.0)),
        b.op("mul", x, b.constant(0.0)),
        b.op("take", x, b.constant(np.array([0]))),
        b.op("take", x, b.constant(np.array([1]))),
    ]
    b.op("sum", b.op("add", nodes[0], nodes[1]), axes=())
    program = b.program()
    given = {"x": np.array([[1.0, 2.0], [3.0, 4.0]]), "y": np.array([[5.0, 6.0], [7.0, 8.0]])}
    places = plan_of(program, given, outputs=tuple(nodes)).shared.values.places
    assert len({places[n][0] for n in nodes}) == len(nodes)
    outputs = evaluate(program, given, outputs=tuple(nodes)).outputs
    assert list(np.signbit(outputs[nodes[8]]).ravel()) == [True] * 4
    assert list(np.signbit(outputs[nodes[9]]).ravel()) == [False] * 4


@pytest.mark.parametrize("reduction", list(Reduction))
@pytest.mark.parametrize(("first", "phase", "bad"), [("exp", Phase.VALUE, 800.0), ("log", Phase.GRADIENT, 1e-320)])
def test_the_report_is_on_the_first_node(first: str, phase: Phase, bad: float, reduction: Reduction) -> None:
    reports = []
    for alike in (True, False):
        b = Builder()
        x = b.input("x", (2,), per_example=True)
        bounded = [b.op("max", x, b.constant(floor(k, alike=alike))) for k in range(2)]
        nodes = [b.op(first, node) for node in bounded]
        b.op("sum", b.op("add", *nodes), axes=(0,))
        program = b.program()
        rows = np.ones((5, 2))
        rows[3, 1] = bad
        report = evaluate(program, {"x": rows}, reduction=reduction, wrt=("x",)).non_finite
        assert report is not None
        assert (report.phase, report.node) == (phase, nodes[0] if phase is Phase.VALUE else nodes[1])
        assert (report.example, report.position) == (3, (1,))
        reports.append(report)
    assert reports[0] == reports[1]


# Constants.


def constant_graph(*, folded: bool, size: int = 5) -> tuple[Program, dict[str, Any]]:
    """Operations on constants among others, or on inputs in their place."""
    b = Builder()
    random = np.random.default_rng(3)
    given: dict[str, Any] = {}

    def constant(name: str, value: Any) -> int:
        given[name] = value
        return b.constant(value) if folded else b.input(name, value.shape)

    w, u, x = b.parameter("w", (size,)), b.parameter("u"), b.input("x", (size,), per_example=True)
    c, d = constant("c", random.normal(size=size)), constant("d", random.normal(size=size))
    m = constant("m", random.normal(size=(size, size)))
    few = [constant(f"s{k}", random.normal(size=())) for k in range(6)]
    chain = c
    for op in UNARY:
        chain = b.op("tanh", unary(b, op, chain))
    product = b.op("matmul", b.op("transpose", m), b.op("add", chain, d, c))
    norm = b.op("sum", b.op("mul", product, d), axes=(0,))
    scalars = [b.op("sigmoid", b.op("mul", k, n)) for k, n in zip(few, [*few[1:], norm], strict=True)]
    mixed = [b.op("mul", b.op("sigmoid", b.op("add", u, k)), n) for k, n in zip(scalars, reversed(few), strict=True)]
    shared = b.op("mul", b.op("exp", w), product)
    total = b.op("add", *mixed, b.op("sum", b.op("mul", b.op("tanh", b.op("mul", shared, x)), chain), axes=(0,)))
    b.op("mul", total, norm)
    given |= {"w": random.normal(size=size), "u": random.normal(), "x": random.normal(size=(EXAMPLES, size))}
    program = b.program()
    return program, {source.name: given[source.name] for source in program.sources}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("reduction", list(Reduction))
@pytest.mark.parametrize("wrt", [("w", "u", "x"), ("x",)])
def test_no_bit_tells_what_was_kept(wrt: tuple[str, ...], reduction: Reduction, dtype: type) -> None:
    (ours, few), (theirs, many) = constant_graph(folded=True), constant_graph(folded=False)
    outputs = tuple(n for n in range(len(ours.shapes)) if ours.instructions[n] is not None)
    for asked in ((), outputs):
        query = {"reduction": reduction, "wrt": wrt, "outputs": asked}
        expected = evaluate(theirs, many, dtype, **query)
        for _ in range(2):
            same(evaluate(ours, few, dtype, **query), expected)
        assert np.dtype(dtype) in plan_of(ours, few, dtype, **query).folded


def test_what_depends_on_constants_has_no_steps_left() -> None:
    (ours, few), (theirs, many) = constant_graph(folded=True), constant_graph(folded=False)
    kept, computed = (plan_of(program, arrays).shared for program, arrays in ((ours, few), (theirs, many)))
    assert rows_of(kept.schedule) < rows_of(computed.schedule)
    assert kept.resident == tuple(n for n in computed.resident if ours.kind(n) == "parameter")
    assert not computed.schedule.constant
    assert computed.schedule.folded == 0


@pytest.mark.parametrize(("value", "good"), [(100.0, [np.float64]), (1000.0, []), (1.0, DTYPES)])
def test_what_is_not_finite_is_reported_each_time(value: float, good: list[type]) -> None:
    b = Builder()
    x = b.input("x", (2,), per_example=True)
    one = b.op("exp", b.constant([1.0, value]))
    b.op("sum", b.op("mul", x, one), axes=(0,))
    program = b.program()
    for dtype in DTYPES:
        for _ in range(3):
            report = evaluate(program, {"x": np.ones((3, 2))}, dtype).non_finite
            if dtype in good:
                assert report is None
                continue
            assert report is not None
            assert (report.phase, report.node, report.example, report.position) == (Phase.VALUE, one, None, (1,))
            assert report.operands[0].value == value


def test_nothing_huge_is_kept() -> None:
    b = Builder()
    x = b.parameter("x")
    few = b.op("tanh", b.constant(0.5))
    large = [b.op("tanh", b.constant(np.full((300, 300), 0.5))) for _ in range(3)]
    total = b.op("add", *(b.op("sum", n, axes=()) for n in large), few)
    b.op("mul", x, total)
    program = b.program()
    plan = plan_of(program, {"x": np.array(1.0)})
    assert plan.shared.schedule.folded < 100
    for _ in range(2):
        loss = evaluate(program, {"x": 1.0}).loss
        np.testing.assert_allclose(loss, (3 * 90000 + 1) * np.tanh(0.5), rtol=1e-12)


def test_what_is_kept_is_counted() -> None:
    sizes = []
    for count in (1, 1001):
        b = Builder()
        b.op("mul", b.parameter("x"), b.op("sum", b.op("exp", b.constant(np.ones(count))), axes=(0,)))
        program = b.program()
        evaluate(program, {"x": 1.0})
        evaluate(program, {"x": 1.0}, np.float32)
        kept = sum(array.nbytes for array in plan_of(program, {"x": 1.0}).folded.values())
        assert kept > 2 * 12 * count
        sizes.append(program.nbytes)
    # The constant itself in either dtype, and for each of sixteen plans the constant and its exponential; of all that
    # a quarter more, for storage between requests.
    assert sizes[1] - sizes[0] == pytest.approx(1000 * 12 * (1 + 16 * 2) * 5 / 4, abs=2)
