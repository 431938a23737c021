"""The reference: each op alone, rules of meaning, and random graphs against other libraries."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import autograd
import numpy as np
import pytest
from hypothesis import given, settings

from gradwire_server.engine.graph.graph import Ties
from gradwire_server.engine.graph.opcodes import ELEMENTWISE, SOURCES, Opcode
from gradwire_server.engine.graph.ops import OPS
from gradwire_server.engine.reference import batches, elementwise
from gradwire_server.engine.reference.rule import Facts, Part
from gradwire_server.engine.reference.table import RULES
from gradwire_server.errors import Reason, Refusal
from tests.unit.engine import test_random_graphs as random
from tests.unit.engine.building import Builder
from tests.unit.engine.interpreting import Answer, checked, interpreted

INF, NAN = np.inf, np.nan
NOTHING: dict[str, Any] = {}
AXES = [{"axes": axes, "keepdims": keep} for axes in ((), (0,), (1,), (0, 2), (0, 1, 2)) for keep in (False, True)]


class Sample(NamedTuple):
    """Shapes of operands, or arrays of indices, and facts."""

    operands: Sequence[Any]
    number: float = NAN
    attributes: dict[str, Any] = NOTHING


UNARY = [Sample([shape]) for shape in ((), (3,), (2, 0), (2, 3))]
NARY = [
    Sample(shapes)
    for shapes in ([()], [(2, 3)], [(2, 3), (3,)], [(), (2, 1), (2, 3)], [(3,)] * 7, [(1, 3), (2, 1), (), (2, 3), (3,)])
]
REDUCED = [Sample([(2, 3, 2)], attributes=attributes) for attributes in AXES] + [
    Sample([()], attributes={"axes": (), "keepdims": False})
]
SAMPLES: dict[Opcode, list[Sample]] = {
    Opcode.ADD: NARY,
    Opcode.MUL: NARY,
    Opcode.MAX: NARY,
    Opcode.SIGMOID: UNARY,
    Opcode.EXP: UNARY,
    Opcode.LOG: UNARY,
    Opcode.TANH: UNARY,
    Opcode.SOFTPLUS: UNARY,
    Opcode.POWER: [Sample([(2, 3)], p) for p in (0, 1, 2, 3, -1, -2, 0.5, 1.7, -0.3)],
    Opcode.SUM: [*REDUCED, Sample([(0, 2)], attributes={"axes": (0,), "keepdims": False})],
    Opcode.REDUCE_MAX: REDUCED,
    Opcode.LOGSUMEXP: REDUCED,
    Opcode.MATMUL: [
        Sample(shapes)
        for shapes in (
            [(3,), (3,)],
            [(2, 3), (3,)],
            [(3,), (3, 2)],
            [(2, 3), (3, 4)],
            [(2, 0), (0, 3)],
            [(5, 2, 3), (3, 4)],
            [(3,), (5, 3, 2)],
            [(4, 1, 2, 3), (5, 3, 2)],
            [(1, 2, 3), (5, 3, 1)],
            [(5, 2, 3), (3,)],
        )
    ],
    Opcode.RESHAPE: [Sample([(2, 3)], attributes={"shape": shape}) for shape in ((6,), (3, 1, 2))],
    Opcode.TRANSPOSE: [Sample([(2, 3, 4)], attributes={"axes": axes}) for axes in ((2, 0, 1), (0, 2, 1))],
    Opcode.TAKE: [
        Sample([shape, np.array(rows, np.int64)])
        for shape in ((4,), (4, 2))
        for rows in (2, -1, [], [0, -4, 3], [[1, 1], [-3, 0]])
    ]
    + [
        Sample([(3, 4, 2), np.array(rows, np.int64)], attributes={"axis": 1})
        for rows in (2, -1, [], [0, -4, 0], [[1, 1], [-3, 0]])
    ],
    **dict.fromkeys((Opcode.SIN, Opcode.COS, Opcode.LOG1P, Opcode.EXPM1, Opcode.ERF), UNARY),
    Opcode.LESS: NARY[2:3],
    Opcode.EQUAL: NARY[2:3],
    Opcode.SELECT: [Sample(shapes) for shapes in ([()] * 3, [(2, 3), (3,), (2, 1)], [(3,), (2, 3), ()], [(2, 0)] * 3)],
    Opcode.CUMSUM: [
        Sample([shape], attributes={"axis": axis})
        for shape, axis in (((3,), 0), ((2, 3), 0), ((0, 2), 0), ((2, 3, 2), 1), ((2, 3, 2), 2))
    ],
    Opcode.CONCATENATE: [
        Sample(shapes, attributes={"axis": axis})
        for shapes, axis in (([(3,)], 0), ([(3,), (0,), (2,)], 0), ([(2, 3), (2, 1)], 1), ([(2, 1, 2)] * 3, 1))
    ],
    Opcode.SLICE: [
        Sample([(4, 3)], attributes={"starts": starts, "sizes": sizes, "steps": steps})
        for starts, sizes, steps in (
            ((0, 0), (4, 3), (1, 1)),
            ((1, 2), (2, 1), (2, 1)),
            ((3, 2), (4, 2), (-1, -2)),
            ((2, 0), (1, 0), (1, 1)),
        )
    ]
    + [Sample([()], attributes={"starts": (), "sizes": (), "steps": ()})],
    Opcode.SCATTER_ADD: [
        Sample([shape, np.array(rows, np.int64)], attributes={"axis": axis, "size": 4})
        for shape, rows, axis in (
            ((), 2, 0),
            ((3, 2), [0, -4, 0], 0),
            ((2, 2, 2), [[1, 1], [-3, 0]], 0),
            ((2, 2, 2), [[1, 1], [-3, 0]], 1),
            ((3, 2), [3, 3], 1),
            ((3, 2), -1, 2),
            ((2, 0), [], 1),
        )
    ],
    Opcode.STOP_GRADIENT: UNARY,
    Opcode.ELEMENT: [Sample([(2, 3)], 4), Sample([(3,)], 0)],
    Opcode.STACK: [Sample([(3,)])],
}


def test_every_op_has_a_rule_and_samples() -> None:
    assert set(RULES) == set(SAMPLES) == {op.opcode for op in OPS.values()} | {Opcode.ELEMENT, Opcode.STACK}
    assert not set(RULES) & SOURCES
    assert set(elementwise.ELEMENTWISE) == ELEMENTWISE


CASES = [(opcode, sample) for opcode, samples in SAMPLES.items() for sample in samples]


@pytest.mark.parametrize(("opcode", "sample"), CASES, ids=[f"{opcode.name}-{i}" for i, (opcode, _) in enumerate(CASES)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("monkeyed", [False, True])
def test_a_vjp_is_that_of_finite_differences(
    opcode: Opcode, sample: Sample, dtype: type, *, monkeyed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if monkeyed:
        # Large products and stacks go another way.
        monkeypatch.setattr("gradwire_server.engine.reference.products.SMALL", 0)
        monkeypatch.setattr("gradwire_server.engine.reference.products.AT_ONCE", 1)
    random = np.random.default_rng(0)
    facts, rule = Facts(sample.number, sample.attributes, Ties.ZERO), RULES[opcode]
    operands: list[Any] = [
        o if isinstance(o, np.ndarray) else np.asarray(random.uniform(0.5, 2, o), dtype) for o in sample.operands
    ]
    out = np.asarray(rule.value(facts, operands))
    g: Any = np.asarray(random.uniform(-1, 1, out.shape), dtype)
    contributions = list(rule.vjp(facts, g, operands, out))
    assert out.dtype == dtype
    assert len(contributions) == len(operands)
    wide: list[Any] = [o if o.dtype == np.int64 else np.array(o, np.float64) for o in operands]
    for operand, exact, contribution in zip(operands, wide, contributions, strict=True):
        if operand.dtype == np.int64:
            assert contribution is None
            continue
        slopes = np.zeros(operand.shape)
        # What stops gradients has none, though its value moves.
        for place in () if opcode is Opcode.STOP_GRADIENT else np.ndindex(operand.shape):
            moved = []
            for step in (1e-6, -1e-6):
                at = exact[place]
                exact[place] = at + step
                moved.append(np.sum(g * rule.value(facts, wide)))
                exact[place] = at
            slopes[place] = (moved[0] - moved[1]) / 2e-6
        full = dense(contribution, operand)
        assert (full.shape, full.dtype) == (operand.shape, dtype)
        rtol = 1e-4 if dtype is np.float32 else 1e-7
        np.testing.assert_allclose(full, slopes, rtol=rtol, atol=rtol)


def dense(contribution: Any, operand: Any) -> Any:
    """The contribution, whole."""
    if not isinstance(contribution, Part):
        return contribution
    full = np.zeros_like(operand)
    np.add.at(full.reshape(-1), contribution.places, contribution.numbers)
    return full


def of(op: str, *arrays: Any, ties: Ties = Ties.ZERO, weights: Any = 1.0, **attributes: Any) -> Answer:
    """An op of parameters a, b, ..., times weights, summed."""
    builder = Builder()
    operands = [builder.parameter("abcdefgh"[i], np.shape(array)) for i, array in enumerate(arrays)]
    node = builder.op(op, *operands, **attributes)
    builder.op("sum", builder.op("mul", node, builder.constant(weights)))
    return interpreted(checked(builder, ties=ties), dict(zip("abcdefgh", arrays, strict=False)))


def gradients(answer: Answer) -> list[Any]:
    """In their order."""
    return [gradient.tolist() for gradient in answer.gradients.values()]


class TestZeroGradientsStop:
    def test_a_square_root_that_a_max_masks(self) -> None:
        builder = Builder()
        x, y = builder.parameter("x"), builder.parameter("y")
        squares = [builder.op("mul", source, source) for source in (x, y)]
        root = builder.op("power", builder.op("add", *squares), exponent=0.5)
        builder.op("max", root, builder.constant(1e-10))
        assert gradients(interpreted(checked(builder), {"x": 0, "y": 0})) == [0, 0]

    def test_the_square_of_a_norm_at_0(self) -> None:
        builder = Builder()
        x = builder.parameter("x", (3,))
        root = builder.op("power", builder.op("sum", builder.op("mul", x, x)), exponent=0.5)
        builder.op("power", root, exponent=2.0)
        assert gradients(interpreted(checked(builder), {"x": [0, 0, 0]})) == [[0, 0, 0]]

    def test_a_quotient_by_0_that_is_not_taken(self) -> None:
        builder = Builder()
        quotient = builder.op("mul", builder.parameter("x", (2,)), builder.constant([INF, 1.0]))
        builder.op("take", quotient, builder.constant(np.array(1)))
        assert gradients(interpreted(checked(builder), {"x": [1, 1]})) == [[0, 1]]

    @pytest.mark.parametrize(
        ("op", "arrays", "attributes"),
        [
            ("exp", [[INF, 0.0]], {}),
            ("log", [[0.0, 1.0]], {}),
            ("power", [[0.0, 1.0]], {"exponent": -1.0}),
            ("power", [[0.0, 1.0]], {"exponent": 0.5}),
            ("mul", [[NAN, 2.0], [1.0, 3.0]], {}),
            ("mul", [[INF, 2.0], [1.0, 3.0], [2.0, 1.0]], {}),
            ("logsumexp", [[[INF], [1.0]]], {"axes": (1,)}),
        ],
    )
    def test_by_selection_and_only_where_it_is_0(self, op: str, arrays: list[Any], attributes: dict[str, Any]) -> None:
        for gradient in of(op, *arrays, weights=[0.0, 1.0], **attributes).gradients.values():
            assert np.ravel(gradient)[0] == 0
            assert np.isfinite(gradient).all()
            assert np.ravel(gradient)[1] != 0

    @pytest.mark.parametrize("bad", [INF, NAN])
    def test_terms_of_a_product_of_matrices(self, bad: float) -> None:
        a, b = np.array([[1.0, 2.0], [bad, 4.0]]), np.array([[5.0, bad], [7.0, 8.0]])
        # The gradient of the product is [[1, 0], [0, 0]]: b's bad element and a's meet nothing else than 0.
        assert gradients(of("matmul", a, b, weights=[[1.0, 0.0], [0.0, 0.0]])) == [
            [[5, 7], [0, 0]],
            [[1, 0], [2, 0]],
        ]


def test_an_infinite_gradient_times_0_is_nan() -> None:
    builder = Builder()
    product = builder.op("mul", builder.parameter("x"), builder.constant(0.0))
    builder.op("power", product, exponent=0.5)
    assert np.isnan(interpreted(checked(builder), {"x": 1}).gradients["x"])


class TestTies:
    @pytest.mark.parametrize("number", [1.0, -0.0, INF, -INF])
    @pytest.mark.parametrize(("ties", "share"), [(Ties.ZERO, 0), (Ties.SPLIT, 1)])
    def test_of_two_of_three(self, number: float, ties: Ties, share: float) -> None:
        other = 0.0 if number == 0 else number
        loser = -5.0 if number != -INF else number
        losing = share / 3 if number == -INF else 0
        each = share / 3 if number == -INF else share / 2
        assert gradients(of("max", number, loser, other, ties=ties)) == [each, losing, each]
        assert gradients(of("reduce_max", [number, loser, other], ties=ties)) == [[each, losing, each]]

    @pytest.mark.parametrize("ties", list(Ties))
    def test_losers_get_0_whatever_comes_and_nobody_wins_against_nan(self, ties: Ties) -> None:
        assert gradients(of("max", 1.0, 2.0, ties=ties, weights=INF)) == [0, INF]
        assert gradients(of("reduce_max", [1.0, 2.0], ties=ties, weights=NAN))[0][0] == 0
        assert gradients(of("max", 1.0, NAN, ties=ties)) == [0, 0]
        assert gradients(of("reduce_max", [1.0, NAN], ties=ties)) == [[0, 0]]

    @pytest.mark.parametrize(("ties", "gradient"), [(Ties.ZERO, 0), (Ties.SPLIT, 1)])
    def test_a_node_listed_twice_ties_with_itself(self, ties: Ties, gradient: float) -> None:
        builder = Builder()
        x = builder.parameter("x")
        builder.op("max", x, x)
        assert gradients(interpreted(checked(builder, ties=ties), {"x": 3})) == [gradient]

    @pytest.mark.parametrize("axes", [(0,), (1,)])
    def test_of_a_reduction_over_an_axis(self, axes: tuple[int, ...]) -> None:
        x = np.array([[1.0, 1.0], [3.0, 1.0]])
        split: dict[Any, Any] = {(0,): [[0, 0.5], [1, 0.5]], (1,): [[0.5, 0.5], [1, 0]]}
        zero: dict[Any, Any] = {(0,): [[0, 0], [1, 0]], (1,): [[0, 0], [1, 0]]}
        assert gradients(of("reduce_max", x, axes=axes, ties=Ties.SPLIT)) == [split[axes]]
        assert gradients(of("reduce_max", x, axes=axes)) == [zero[axes]]


@pytest.mark.parametrize("op", ["add", "mul", "max"])
@pytest.mark.parametrize("number", [0.0, 2.0, NAN])
def test_one_operand_is_itself(op: str, number: float) -> None:
    answer = of(op, [number, 3.0], weights=[2.0, 3.0])
    np.testing.assert_equal(answer.loss, 2 * number + 9)
    assert gradients(answer) == [[2, 3]]


class TestElementwise:
    @pytest.mark.parametrize(
        ("exponent", "x", "value", "gradient"),
        [
            (0, 0, 1, 0),
            (0, INF, 1, 0),
            (0, NAN, 1, 0),
            (1, 0, 0, 1),
            (1, INF, INF, 1),
            (2, -3, 9, -6),
            (-1, 2, 0.5, -0.25),
            (-1, 1e-160, 1e160, -INF),
            (-1, 1e170, 1e-170, 0),
            (0.5, 0, 0, INF),
            (0.5, 4, 2, 0.25),
            (0.5, -1, NAN, NAN),
            (3, -2, -8, 12),
        ],
    )
    def test_power(self, exponent: float, x: float, value: float, gradient: float) -> None:
        answer = of("power", x, exponent=exponent)
        np.testing.assert_allclose(answer.loss, value, rtol=1e-15)
        np.testing.assert_allclose(gradients(answer), [gradient], rtol=1e-15)

    def test_a_reciprocal_whose_square_leaves_the_range_of_floats(self) -> None:
        np.testing.assert_allclose(gradients(of("power", 1e-160, exponent=-1.0, weights=1e-200)), [-1e120], rtol=1e-14)

    @pytest.mark.parametrize(
        ("factors", "slopes"),
        [
            ([0.0, 3.0], [3, 0]),
            ([0.0, 3.0, 5.0], [15, 0, 0]),
            ([0.0, 3.0, 0.0], [0, 0, 0]),
            ([2.0, 3.0, 5.0, 7.0], [105, 70, 42, 30]),
        ],
    )
    def test_factors_that_are_0(self, factors: list[float], slopes: list[float]) -> None:
        assert gradients(of("mul", *factors)) == slopes

    @pytest.mark.parametrize("count", [*range(1, 12), 100])
    def test_products_of_many(self, count: int) -> None:
        builder = Builder()
        builder.op("mul", *(builder.parameter(f"p{i:03}") for i in range(count)))
        numbers = np.arange(1, count + 1) ** (1 / 64)
        answer = interpreted(checked(builder), {f"p{i:03}": number for i, number in enumerate(numbers)})
        np.testing.assert_allclose(gradients(answer), np.prod(numbers) / numbers, rtol=1e-13)

    def test_sums_and_products_go_from_left_to_right(self) -> None:
        assert of("add", 1e16, 1.0, -1e16, 1.0).loss == 1
        assert of("mul", 1e200, 1e200, 1e-300).loss == INF

    def test_tails(self) -> None:
        assert of("sigmoid", [1000.0, -1000.0]).values[1].tolist() == [1, 0]
        assert of("softplus", [1000.0, -1000.0]).values[1].tolist() == [1000, 0]
        assert gradients(of("softplus", [1000.0, -1000.0, 0.0])) == [[1, 0, 0.5]]
        np.testing.assert_allclose(gradients(of("tanh", 10.0)), [8.244614546e-9], rtol=1e-7)


class TestReductions:
    @pytest.mark.parametrize("masked", [[-INF], [-INF, -INF]])
    def test_logsumexp_of_minus_infinity_alone(self, masked: list[float]) -> None:
        answer = of("logsumexp", masked)
        assert (answer.loss, gradients(answer)) == (-INF, [[0] * len(masked)])

    def test_logsumexp(self) -> None:
        answer = of("logsumexp", [[1e4, 1e4], [-INF, 3.0], [-INF, -INF]], axes=(1,), weights=[1.0, 1.0, 0.0])
        assert answer.values[1].tolist() == [1e4 + np.log(2), 3, -INF]
        assert gradients(answer) == [[[0.5, 0.5], [0, 1], [0, 0]]]
        assert of("logsumexp", [INF, 1.0]).loss == INF
        assert np.isnan(of("logsumexp", [NAN, -INF]).loss)

    def test_a_sum_over_an_empty_axis_is_0(self) -> None:
        answer = of("sum", np.zeros((0, 2)), axes=(0,))
        assert answer.values[1].tolist() == [0, 0]

    def test_sums_of_float32_are_taken_in_float64(self) -> None:
        builder = Builder()
        builder.op("sum", builder.parameter("x", (3,)))
        assert interpreted(checked(builder), {"x": [1e8, 1, -1e8]}, np.float32).loss == 1
        builder = Builder()
        rows = builder.op("take", builder.parameter("x", (1,)), builder.constant(np.zeros(3, np.int64)))
        builder.op("sum", builder.op("mul", rows, builder.constant([1e8, 1, -1e8])))
        assert interpreted(checked(builder), {"x": [1]}, np.float32).gradients["x"] == 1


class TestTake:
    def test_rows_that_are_negative_or_repeated(self) -> None:
        builder = Builder()
        taken = builder.op("take", builder.parameter("x", (3,)), builder.constant(np.array([-1, 0, 2, 2])))
        builder.op("sum", builder.op("mul", taken, builder.constant([1.0, 2.0, 4.0, 8.0])))
        answer = interpreted(checked(builder), {"x": [5, 6, 7]})
        assert answer.values[taken].tolist() == [7, 5, 7, 7]
        assert gradients(answer) == [[2, 0, 13]]

    @pytest.mark.parametrize("index", [3, -4])
    def test_rows_out_of_range(self, index: int) -> None:
        builder = Builder()
        rows = builder.input("i", (2, 2), integer=True)
        builder.op("sum", builder.op("take", builder.parameter("x", (3,)), rows, name="rows"))
        with pytest.raises(Refusal) as raised:
            interpreted(checked(builder), {"x": [5, 6, 7], "i": [[0, 1], [index, 9]]})
        assert raised.value.reason is Reason.INDEX_OUT_OF_RANGE
        text = f'node "rows" (nodes[2]): index {index} of "i" at position (1, 0) is out of range for 3 rows'
        assert raised.value.message == text
        assert raised.value.findings[0].path == "graph.nodes[2]"

    def test_a_scalar_index(self) -> None:
        builder = Builder()
        builder.op("take", builder.parameter("x", (3,)), builder.input("i", integer=True))
        answer = interpreted(checked(builder), {"x": [5, 6, 7], "i": -2})
        assert (answer.loss, gradients(answer)) == (6, [[0, 1, 0]])


def test_checkpoints_are_passed_inside_long_steps() -> None:
    passed: list[int] = []
    facts = Facts(NAN, {}, Ties.ZERO, lambda: passed.append(1))
    for opcode in (Opcode.ADD, Opcode.MUL, Opcode.MAX):
        operands = [np.ones(2)] * 1000
        out = RULES[opcode].value(facts, operands)
        before = len(passed)
        assert before > 60
        assert len(list(RULES[opcode].vjp(facts, np.ones(2), operands, out))) == 1000
        assert len(passed) > before + 60
        passed.clear()
    square = np.ones((1000, 1000))
    RULES[Opcode.MATMUL].value(facts, [square, square])
    assert len(passed) >= 3


def test_a_swarm_of_scalars_gives_what_its_operations_give_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    builder = Builder()
    nodes = [builder.parameter(f"p{i:02}") for i in range(20)]
    for _ in range(2000):
        op = str(random.choice(["add", "mul", "max", "tanh", "sigmoid", "power"]))
        own = [int(random.choice(nodes)) for _ in range(random.integers(1, 4) if op in ("add", "mul", "max") else 1)]
        attributes: dict[str, Any] = {"exponent": float(random.choice([0, 1, 2]))} if op == "power" else {}
        nodes.append(builder.op(op, *own, **attributes))
        if random.random() < 0.5:
            nodes.append(builder.op("tanh", nodes[-1]))
    builder.op("tanh", builder.op("add", *nodes[-50:]))
    program = checked(builder)
    arrays = {f"p{i:02}": random.normal() for i in range(20)}
    together = interpreted(program, arrays)

    def one_by_one(program: Any, needed: Any, *, backward: bool = False) -> Any:
        order = np.flatnonzero(needed & (program.graph.opcodes > Opcode.CONSTANT)).tolist()
        return (batches.single(program, node) for node in (order[::-1] if backward else order))

    monkeypatch.setattr("gradwire_server.engine.reference.interpreter.batches", one_by_one)
    alone = interpreted(program, arrays)
    np.testing.assert_array_equal(together.values.scalars, alone.values.scalars)
    np.testing.assert_allclose(gradients(together), gradients(alone), rtol=1e-12, atol=1e-15)


@settings(random.SETTINGS, max_examples=100)
@given(random.graphs(smooth=False))
def test_values_and_gradients_are_those_of_torch_and_autograd(case: tuple[random.Drawn, dict[str, Any]]) -> None:
    drawn, arrays = case
    program = checked(random.engine_graph(drawn), ties=Ties.SPLIT)
    names = [name for name, _, _ in drawn.sources]
    for sources in random.by_example(drawn, arrays):
        answer = interpreted(program, dict(zip(names, sources, strict=True)))
        loss, slopes, largest = random.slopes_of_torch(drawn, sources)
        np.testing.assert_allclose(answer.loss, loss, rtol=1e-9, atol=1e-9 * min(largest, random.MODERATE))
        if not np.isfinite(largest) or largest > random.MODERATE:
            continue
        with np.errstate(all="ignore"):
            again = autograd.grad(lambda *s: random.loss_in(random.NUMPY, drawn, s)[0], tuple(range(len(sources))))(
                *sources
            )
        for name, slope, other in zip(names, slopes, again, strict=True):
            scale = max(1.0, largest, float(np.abs(answer.gradients[name]).max(initial=0)))
            np.testing.assert_allclose(answer.gradients[name], slope.numpy(), rtol=1e-9, atol=1e-11 * scale)
            np.testing.assert_allclose(answer.gradients[name], other, rtol=1e-9, atol=1e-11 * scale)
