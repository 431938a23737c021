"""Reports of what is not finite, traces, and checks by finite differences, on the reference alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

from gradwire_server.engine.explain.check import SourceCheck, check_gradient, settings_of
from gradwire_server.engine.explain.nonfinite import NonFinite, Phase
from gradwire_server.engine.explain.report import bad_sum, explain_non_finite
from gradwire_server.engine.explain.trace import Trace, elements_of_trace, memory_of_trace, trace
from gradwire_server.engine.graph.graph import Array, Reduction, Ties
from gradwire_server.errors import Refusal
from tests.unit.engine import test_random_graphs as random
from tests.unit.engine.building import Builder, shown
from tests.unit.engine.interpreting import arrays_of, checked, interpreted
from tests.unit.engine.swarms import columns

INF, NAN = np.inf, np.nan
FLOAT64 = np.dtype(np.float64)


def explained(
    builder: Builder,
    arrays: Mapping[str, Any],
    *,
    wrt: Sequence[str] | None = None,
    outputs: Sequence[int] = (),
    loss: int = -1,
    **options: Any,
) -> NonFinite | None:
    program = checked(builder, loss)
    nodes = [s.node for s in program.sources if (s.parameter if wrt is None else s.name in wrt)]
    return explain_non_finite(program, arrays_of(program, arrays), FLOAT64, nodes, outputs, **options)


def reported(builder: Builder, arrays: Mapping[str, Any], **options: Any) -> NonFinite:
    report = explained(builder, arrays, **options)
    assert report is not None
    return report


def roots(**exponents: float) -> Builder:
    """The sum, times 0.5, of a power of each source, x or w; later ones have higher nodes."""
    builder = Builder()
    sources = {"w": builder.parameter("w"), "x": builder.input("x", per_example=True)}
    terms = []
    for name, exponent in exponents.items():
        root = builder.op("power", sources[name[0]], exponent=exponent, name=name)
        terms.append(builder.op("mul", root, builder.constant(0.5)))
    builder.op("add", *terms, builder.constant(0.0))
    return builder


class TestReports:
    def test_nothing(self) -> None:
        assert explained(roots(w_=0.5), {"w": 1, "x": 0}) is None

    def test_the_lowest_node(self) -> None:
        report = reported(roots(w_=-1, x_=-1), {"w": 0, "x": 0}, example=7)
        assert (report.phase, report.name, report.node, report.example) == (Phase.VALUE, "w_", 2, None)
        report = reported(roots(x_=-1, w_=-1), {"w": 0, "x": 0}, example=7)
        assert (report.name, report.example, report.value, shown(report)) == ("x_", 7, INF, {"x": 0})
        assert report.message == 'node "x_" has the value inf at position () of example 7 from x = 0'

    def test_the_highest_backward_step(self) -> None:
        report = reported(roots(w_=0.5, x_=0.5), {"w": 0, "x": 0}, wrt=("w", "x"), example=7)
        assert (report.phase, report.name, report.example, report.value) == (Phase.GRADIENT, "x_", 7, INF)
        assert report.message == (
            'the backward step of node "x_" gives a gradient of inf at position () of example 7 from x = 0'
        )
        report = reported(roots(w_=0.5, x_=0.5), {"w": 0, "x": 0}, example=7)
        assert (report.name, report.example) == ("w_", None)

    def test_values_go_before_gradients_and_sources_before_operations(self) -> None:
        builder = roots(w_=0.5, w__=-1)
        assert reported(builder, {"w": 0, "x": 0}).phase is Phase.VALUE
        assert reported(builder, {"w": NAN, "x": 0}).operands == ()
        assert reported(builder, {"w": NAN, "x": 0}).name == "w"

    def test_a_step_that_overflows_only_with_others(self) -> None:
        builder = Builder()
        w = builder.parameter("w")
        terms = [builder.op("mul", w, builder.constant(1e308), name=f"term{i}") for i in range(3)]
        builder.op("add", *terms)
        report = reported(builder, {"w": 0})
        assert (report.phase, report.name, shown(report)) == (Phase.GRADIENT, "term1", {"w": 0, "constant_3": 1e308})

    def test_only_what_is_needed(self) -> None:
        builder = Builder()
        w = builder.parameter("w")
        dead = builder.op("log", builder.op("mul", w, builder.constant(0.0)), name="dead")
        loss = builder.op("mul", w, w)
        assert explained(builder, {"w": 1}, loss=loss) is None
        assert reported(builder, {"w": 1}, loss=loss, outputs=(dead,)).name == "dead"

    def test_a_gradient_of_0_reports_nothing(self) -> None:
        builder = Builder()
        root = builder.op("power", builder.parameter("w"), exponent=0.5)
        builder.op("max", root, builder.constant(1.0))
        assert explained(builder, {"w": 0}) is None

    def test_a_sum_over_examples(self) -> None:
        builder = Builder()
        w = builder.parameter("w", (2,))
        builder.op("sum", w)
        program = checked(builder)
        assert bad_sum(program, w, np.ones(2)) is None
        report = bad_sum(program, w, np.array([1, INF]))
        assert report is not None
        assert report.message == 'the sum over examples at node "w" is inf at position (1,)'

    def test_checkpoints(self) -> None:
        passed: list[int] = []
        explained(roots(w_=0.5, x_=0.5), {"w": 0, "x": 0}, stop=lambda: passed.append(1))
        assert len(passed) >= 8


class TestOperandsOfReports:
    def test_of_a_broadcast_operand_they_are_those_of_the_term_that_is_not_finite(self) -> None:
        builder = Builder()
        a, c = builder.parameter("a", (3,)), builder.input("c", (2, 3))
        builder.op("mul", builder.op("sum", builder.op("mul", a, c, name="product")), builder.constant(1e300))
        report = reported(builder, {"a": [0, 1e-5, 2e-5], "c": [[1.0, 2.0, 1e10], [4.0, 1e10, 3.0]]})
        assert (report.phase, report.name, report.position) == (Phase.GRADIENT, "product", (1,))
        assert shown(report) == {"a": 1e-5, "c": 1e10}

    def test_of_a_sum_of_finite_terms_they_are_those_of_the_largest(self) -> None:
        builder = Builder()
        product = builder.op("mul", builder.parameter("a"), builder.input("c", (4,)))
        builder.op("mul", builder.op("sum", product), builder.constant(1e300))
        report = reported(builder, {"a": 0, "c": [1e7, 8e7, 1.5e8, 1e8]})
        assert (report.phase, shown(report)) == (Phase.GRADIENT, {"a": 0, "c": 1.5e8})

    @pytest.mark.parametrize(
        ("axes", "keepdims", "position"), [((1,), False, (1,)), ((1,), True, (1, 0)), ((0,), True, (0, 1))]
    )
    def test_of_a_reduction_they_are_among_those_it_read(
        self, axes: tuple[int, ...], keepdims: bool, position: tuple[int, ...]
    ) -> None:
        x = np.array([[1.7e308, -1.7e308, 3.0], [1e308, 1.2e308, 1.1e308]])
        x = x if axes == (1,) else x.T
        builder = Builder()
        builder.op("sum", builder.op("sum", builder.parameter("x", x.shape), axes=axes, keepdims=keepdims))
        report = reported(builder, {"x": x})
        assert (report.node, report.position, shown(report)) == (1, position, {"x": 1.2e308})

    def test_of_a_matrix_product_they_are_of_its_row_and_column(self) -> None:
        builder = Builder()
        a, b = builder.parameter("a", (2, 2)), builder.parameter("b", (2, 2))
        builder.op("sum", builder.op("matmul", a, b, name="product"))
        report = reported(builder, {"a": [[0, 1e200], [1e250, 0]], "b": [[1e40, -7], [0, 1e150]]})
        assert (report.name, report.position, shown(report)) == ("product", (0, 1), {"a": 1e200, "b": 1e150})

    def test_of_the_gradient_of_a_matrix_product_they_are_the_element_and_the_largest_of_the_other(self) -> None:
        builder = Builder()
        product = builder.op("matmul", builder.parameter("a", (2, 2)), builder.input("b", (2, 2)), name="product")
        builder.op("sum", builder.op("mul", product, builder.constant(1e300)))
        report = reported(builder, {"a": [[0, 1e-9], [9, 0]], "b": [[5, -7], [1, 1e10]]})
        assert (report.phase, report.name, report.position) == (Phase.GRADIENT, "product", (0, 1))
        assert shown(report) == {"a": 1e-9, "b": 1e10}

    def test_of_rows_that_are_taken(self) -> None:
        builder = Builder()
        rows = builder.op("take", builder.parameter("x", (3,)), builder.constant(np.array([1, 1, 0])), name="rows")
        builder.op("sum", builder.op("mul", rows, builder.constant([1e308, 1e308, 1.0])))
        report = reported(builder, {"x": [3, 0.5, 0]})
        assert (report.name, report.position, shown(report)) == ("rows", (1,), {"x": 0.5, "constant_1": 1})


class TestPacked:
    @pytest.mark.parametrize(
        ("operations", "results", "x", "inside", "phase", "position"),
        [
            ([("log", [0]), ("exp", [0])], [3, 2], -1, "operation 0 (position 2, log), log(-1),", Phase.VALUE, (1,)),
            ([("log", [0]), ("power", [2], 0.0)], [3], -1, "operation 0 (position 2, log), log(-1),", Phase.VALUE, ()),
            (
                [("exp", [1]), ("power", [0], 0.5)],
                [3],
                0,
                "operation 1 (position 3, power), power(0),",
                Phase.GRADIENT,
                (),
            ),
        ],
    )
    def test_a_report_names_the_operation(
        self, operations: Any, results: list[int], x: float, inside: str, phase: Phase, position: tuple[int, ...]
    ) -> None:
        builder = Builder()
        builder.constant(np.ones(3))
        source = builder.input("x", (2,), per_example=True)
        builder.op("sum", builder.op("scalars", source, name="it", **columns(operations, results)))
        report = reported(builder, {"x": [x, 0.0]}, wrt=("x",), example=5)
        assert (report.phase, report.node, report.example) == (phase, 2, 5)
        assert (report.inside, report.position, report.operands) == (inside, position, ())
        step = "the backward step of " if phase is Phase.GRADIENT else ""
        assert report.message == f'node "it": {step}{inside} gives {report.value:g} of example 5'

    def test_nobody_needs_the_logarithm(self) -> None:
        builder = Builder()
        swarm = builder.op("scalars", builder.parameter("x"), **columns([("log", [0]), ("exp", [0])], [2]))
        builder.op("sum", swarm)
        assert explained(builder, {"x": -1}) is None

    def test_a_constant(self) -> None:
        builder = Builder()
        builder.op("sum", builder.op("scalars", builder.parameter("x"), **columns([("mul", [0, 1])], [2], [INF])))
        report = reported(builder, {"x": 1})
        assert (report.node, report.message) == (1, 'node "scalars_1": the constant at position 1 gives inf')

    def test_an_element_that_is_a_result_twice(self) -> None:
        builder = Builder()
        swarm = builder.op("scalars", builder.parameter("w", (1,)), name="twice", **columns([], [0, 0]))
        builder.op("sum", builder.op("mul", swarm, builder.constant(1.5e308)))
        report = reported(builder, {"w": [0.5]})
        assert (report.phase, report.name, report.node, report.value) == (Phase.GRADIENT, "twice", 1, INF)
        assert shown(report) == {"w": 0.5}

    def test_an_element_that_two_nodes_read(self) -> None:
        builder = Builder()
        w = builder.parameter("w", (2,))
        for name in "ab":
            builder.op("scalars", w, name=name, **columns([("mul", [1, 2])], [3], [1e308]))
        builder.op("sum", builder.op("add", 1, 2))
        report = reported(builder, {"w": [1.0, 0.5]})
        assert (report.phase, report.name, report.position) == (Phase.GRADIENT, "a", (1,))
        assert shown(report) == {"w": 0.5}

    def test_a_trace_shows_the_node_and_its_edges(self) -> None:
        builder = Builder()
        v, s = builder.parameter("v", (3,)), builder.parameter("s")
        swarm = columns([("mul", [0, 3]), ("mul", [4, 0]), ("exp", [2])], [5, 3, 3])
        node = builder.op("scalars", v, s, **swarm)
        builder.op("sum", builder.op("mul", node, builder.constant([1.0, 10.0, 100.0])))
        nodes = traced(builder, {"v": [2, 3, 4], "s": 5}).nodes
        assert [node.op for node in nodes] == ["parameter", "parameter", "scalars", "constant", "mul", "sum"]
        assert nodes[2].value.tolist() == [20, 5, 5]
        assert [(edge.node, tolist(edge.gradient)) for edge in nodes[2].operands] == [(0, [20, 0, 0]), (1, 114)]
        assert [tolist(node.gradient) for node in nodes[:3]] == [[20, 0, 0], 114, [1, 10, 100]]


def tolist(array: Array | None) -> Any:
    return None if array is None else array.tolist()


def traced(builder: Builder, arrays: dict[str, Any], loss: int = -1) -> Trace:
    program = checked(builder, loss)
    return trace(program, arrays_of(program, arrays), FLOAT64)


class TestTrace:
    def test_gradients_of_edges_add_up_to_those_of_nodes(self) -> None:
        builder = Builder()
        w = builder.parameter("w")
        s = builder.op("sigmoid", w, name="s")
        builder.op("add", builder.op("mul", s, s, w), s)
        nodes = traced(builder, {"w": 0.0}).nodes
        assert [float(node.value) for node in nodes] == [0, 0.5, 0, 0.5]
        assert [(node.op, node.name) for node in nodes] == [
            ("parameter", "w"),
            ("sigmoid", "s"),
            ("mul", "mul_2"),
            ("add", "add_3"),
        ]
        assert [[(edge.node, tolist(edge.gradient)) for edge in node.operands] for node in nodes] == [
            [],
            [(0, 0.25)],
            [(1, 0), (1, 0), (0, 0.25)],
            [(2, 1), (1, 1)],
        ]
        assert [tolist(node.gradient) for node in nodes] == [0.5, 1, 1, 1]

    def test_an_edge_has_the_shape_of_its_operand(self) -> None:
        builder = Builder()
        wide, narrow = builder.parameter("wide", (2, 3)), builder.parameter("narrow", (3,))
        builder.op("sum", builder.op("mul", wide, narrow))
        edges = traced(builder, {"wide": np.ones((2, 3)), "narrow": [1.0, 2.0, 3.0]}).nodes[2].operands
        assert [tolist(edge.gradient) for edge in edges] == [[[1, 2, 3], [1, 2, 3]], [2, 2, 2]]

    def test_row_indices_have_no_gradient_and_dead_nodes_zeros(self) -> None:
        builder = Builder()
        taken = builder.op("take", builder.parameter("rows", (2,)), builder.constant(np.array(1)))
        builder.op("exp", taken)
        nodes = traced(builder, {"rows": [1.0, 2.0]}, loss=taken).nodes
        assert (nodes[1].gradient, nodes[2].operands[1].gradient) == (None, None)
        assert (nodes[3].value, nodes[3].gradient, nodes[3].operands[0].gradient) == (np.exp(2), 0, 0)

    def test_gradients_that_are_not_finite_are_traced_to_the_end(self) -> None:
        builder = Builder()
        double = builder.op("mul", builder.parameter("w"), builder.constant(2.0))
        builder.op("mul", builder.op("power", double, exponent=0.5, name="root"), builder.parameter("v"))
        result = traced(builder, {"w": 0.0, "v": 1.0})
        assert result.non_finite is not None
        assert (result.non_finite.phase, result.non_finite.name) == (Phase.GRADIENT, "root")
        np.testing.assert_equal([tolist(node.gradient) for node in result.nodes], [INF, NAN, INF, 1, 0, 1])

    def test_dead_nodes_are_looked_at(self) -> None:
        builder = Builder()
        w = builder.parameter("w")
        builder.op("log", w, name="logarithm")
        report = traced(builder, {"w": 0.0}, loss=w).non_finite
        assert report is not None
        assert (report.phase, report.name) == (Phase.VALUE, "logarithm")

    def test_its_size_is_known_before(self) -> None:
        builder = Builder()
        swarm = builder.op("scalars", builder.parameter("v", (3,)), **columns([("exp", [1])], [3, 0]))
        builder.op("sum", swarm)
        program = checked(builder)
        result = trace(program, {"v": np.ones(3)}, FLOAT64)
        arrays = [
            array for n in result.nodes for array in (n.value, n.gradient, *(edge.gradient for edge in n.operands))
        ]
        assert elements_of_trace(program) == sum(array.size for array in arrays if array is not None) == 17
        assert memory_of_trace(program, FLOAT64) > 17 * 8


@settings(random.SETTINGS, max_examples=100)
@given(random.graphs(smooth=False))
def test_edges_add_up_to_gradients_and_these_are_those_of_the_reference(
    case: tuple[random.Drawn, dict[str, Any]],
) -> None:
    drawn, arrays = case
    program = checked(random.engine_graph(drawn), ties=Ties.SPLIT)
    names = [name for name, _, _ in drawn.sources]
    one = arrays_of(program, dict(zip(names, random.by_example(drawn, arrays)[0], strict=True)))
    result, answer = trace(program, one, FLOAT64), interpreted(program, one)
    for source, node in zip(program.sources, result.nodes, strict=False):
        np.testing.assert_array_equal(node.gradient, answer.gradients[source.name])
    sums: list[Any] = [None if node.gradient is None else np.zeros(node.value.shape) for node in result.nodes]
    with np.errstate(all="ignore"):
        for node in result.nodes:
            for edge in node.operands:
                if edge.gradient is not None:
                    sums[edge.node] += edge.gradient
        finite = all(np.isfinite(total).all() for total in sums if total is not None)
        magnitude = max(np.abs(total).max(initial=0) for total in sums if total is not None)
    if finite:
        for node, total in zip(result.nodes[:-1], sums, strict=False):
            if node.gradient is not None:
                np.testing.assert_allclose(node.gradient, total, rtol=1e-9, atol=1e-13 * magnitude)
    # A trace has the nodes that were sent, not all operations that are packed in one.
    origins = program.graph.origins
    sent = range(len(program)) if origins is None else origins.nodes.tolist()
    report = explain_non_finite(program, one, FLOAT64, [s.node for s in program.sources], sent)
    assert (report is None) == (result.non_finite is None)


def cube() -> Builder:
    builder = Builder()
    product = builder.op("mul", builder.parameter("w", (3,)), builder.input("x", (3,)))
    builder.op("sum", builder.op("power", product, exponent=3.0))
    return builder


ARRAYS = {"w": [1.0, -2.0, 0.5], "x": [1.0, 2.0, 3.0]}


def checks(
    builder: Builder,
    arrays: Mapping[str, Any],
    dtype: type = np.float64,
    *,
    wrong: float = 0.0,
    ties: Ties = Ties.ZERO,
    **options: Any,
) -> tuple[SourceCheck, ...]:
    """Checks in all sources; the gradient is wrong by a part of it in each second element."""
    program = checked(builder, ties=ties)
    gradient = {name: np.array(own) for name, own in interpreted(program, arrays, dtype).gradients.items()}
    for own in gradient.values():
        own.reshape(-1)[1::2] *= 1 + wrong

    def loss(wide: Mapping[str, Array]) -> float:
        assert {array.dtype for array in wide.values()} == {FLOAT64}
        return float(interpreted(program, wide).loss)

    chosen = settings_of(np.dtype(dtype), options.pop("reduction", Reduction.MEAN), **options)
    return check_gradient(program.sources, arrays_of(program, arrays, dtype), gradient, loss, chosen)


class TestCheck:
    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_a_right_gradient_passes(self, dtype: type) -> None:
        results = checks(cube(), ARRAYS, dtype)
        assert [(r.name, r.passed, r.probed, r.failed) for r in results] == [("w", True, 3, 0), ("x", True, 3, 0)]

    def test_a_wrong_one_fails_where_it_is_wrong(self) -> None:
        result = checks(cube(), ARRAYS, wrong=1e-3)[0]
        assert (result.passed, result.failed, result.worst_position) == (False, 1, (1,))
        np.testing.assert_allclose([result.relative_error, result.numeric], [1e-3, 96], rtol=0.01)

    @pytest.mark.parametrize("ties", list(Ties))
    def test_at_a_kink_every_subgradient_agrees(self, ties: Ties) -> None:
        builder = Builder()
        builder.op("max", builder.parameter("a"), builder.parameter("b"))
        assert all(result.passed for result in checks(builder, {"a": 1, "b": 1}, ties=ties))

    def test_probes_are_spread_evenly(self) -> None:
        builder = Builder()
        builder.op("sum", builder.op("exp", builder.parameter("w", (1000,))))
        [result] = checks(builder, {"w": np.zeros(1000)}, max_probes=7)
        assert result.probed == 7
        assert settings_of(FLOAT64, Reduction.SUM, max_probes=7).evaluations(1000) == 28

    @pytest.mark.parametrize(
        ("op", "attributes", "at", "step"),
        [
            ("power", {"exponent": 3.0}, 1.0, 1.0),
            ("exp", {}, 3.0, 1.0),
            # A step of a whole period, of which a half is none.
            ("sin", {}, 0.3, 2 * np.pi),
            ("sin", {}, 0.3, 4 * np.pi),
            # Outside its domain a loss is no number.
            ("log", {}, 0.5, 1.0),
            ("exp", {}, 0.5, 1000.0),
            # A kink within the step, and none at the number.
            ("max", {}, 0.5, 1.0),
        ],
    )
    def test_a_step_that_is_too_large_is_said_to_be(
        self, op: str, attributes: dict[str, Any], at: float, step: float
    ) -> None:
        builder = Builder()
        w = builder.parameter("w")
        builder.op(op, w, *([builder.constant(0.0)] if op == "max" else []), **attributes)
        [result] = checks(builder, {"w": at}, step=step)
        assert (result.passed, result.failed, result.step_too_large) == (False, 1, True)
        [result] = checks(builder, {"w": at})
        assert (result.passed, result.step_too_large) == (True, False)

    def test_a_wrong_gradient_is_no_matter_of_the_step(self) -> None:
        results = [checks(cube(), ARRAYS, wrong=1e-3, step=step)[0] for step in (1e-6, 1e-5, 1e-4)]
        assert [(result.passed, result.step_too_large) for result in results] == [(False, False)] * 3
        builder = Builder()
        builder.op("mul", builder.parameter("w", (3,)), builder.constant([1.0, 2.0, 3.0]))
        builder.op("sum", 2)
        [result] = checks(builder, {"w": [1.0, 2.0, 3.0]}, wrong=1e-3, step=100.0)
        assert (result.passed, result.step_too_large) == (False, False)

    @pytest.mark.parametrize("value", [NAN, INF])
    def test_what_is_no_number_has_no_gradient_that_agrees(self, value: float) -> None:
        result = checks(cube(), {**ARRAYS, "w": [value, 0.0, 0.0]})[0]
        assert (result.passed, result.worst_position) == (False, (0,))

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            ({"reduction": Reduction.NONE}, "mean or sum"),
            ({"step": 0.0}, "step is 0"),
            ({"tolerance": -1.0}, "tolerance is -1"),
            ({"max_probes": 0}, "max_probes is 0"),
            ({"step": NAN}, "step is nan"),
            ({"step": INF}, "step is inf; it must be finite and above 0"),
            ({"step": 1e-30}, r'step is 1e-30, .* element \(0,\) of parameter "w", 1.0, is lost in float64; .* larger'),
            ({"step": 1e308}, r'element \(0,\) of parameter "w", 1.0, leaves the range .* smaller'),
        ],
    )
    def test_settings_that_make_no_sense(self, options: dict[str, Any], words: str) -> None:
        with pytest.raises(Refusal, match=words):
            checks(cube(), ARRAYS, **options)
