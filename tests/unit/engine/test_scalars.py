"""Swarms of scalars against the same graph with a node for each operation, and what is special about them."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gradwire_server.codec.graphs import decode_graph
from gradwire_server.engine.explain.nonfinite import Phase
from gradwire_server.engine.explain.trace import trace
from gradwire_server.engine.graph.graph import Reduction, Ties
from gradwire_server.errors import Refusal
from gradwire_server.limits import Limits
from tests.unit.engine.building import Builder, evaluate
from tests.unit.engine.swarms import columns, operations_of, swarms

NUMBERS = st.sampled_from([0.0, -0.0, 1.0, -1.0, 0.5, 2.0, -30.0, 1e4, 1e200, np.inf, np.nan]) | st.floats(-3, 3)


def sources(builder: Builder) -> list[int]:
    """What examples share, and what each has of its own."""
    return [builder.parameter("w", (2,)), builder.input("x", (1, 2), per_example=True)]


def packed(swarm: dict[str, Any]) -> tuple[Builder, list[int]]:
    """A graph with one node of operations, and that node."""
    builder = Builder()
    node = builder.op("scalars", *sources(builder), **swarm)
    weights = builder.constant(np.linspace(1, 2, len(swarm["results"])))
    builder.op("sum", builder.op("mul", node, weights))
    return builder, [node]


def apart(swarm: dict[str, Any]) -> tuple[Builder, list[int]]:
    """A graph with a node for each operation, and the nodes of the results."""
    builder = Builder()
    found = [
        builder.op(
            "sum", builder.op("take", builder.op("reshape", source, shape=(2,)), builder.constant(np.array([i])))
        )
        for source in sources(builder)
        for i in range(2)
    ]
    found += [builder.constant(constant) for constant in swarm["constants"]]
    for op, arguments, attributes in operations_of(swarm):
        found.append(builder.op(op, *(found[place] for place in arguments), name="", **attributes))
    results = [found[place] for place in swarm["results"]]
    weights = np.linspace(1, 2, len(results))
    terms = [builder.op("mul", r, builder.constant(w)) for r, w in zip(results, weights, strict=True)]
    builder.op("add", *terms, builder.constant(0.0))
    return builder, results


SETTINGS = settings(
    max_examples=150, derandomize=True, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow]
)


def asked_of(numbers: st.SearchStrategy[float]) -> st.SearchStrategy[dict[str, Any]]:
    """What both sources hold, how often the second does, and how the gradient is asked for."""
    return st.fixed_dictionaries(
        {
            "w": st.lists(numbers, min_size=2, max_size=2),
            "x": st.sampled_from([2, 6]).flatmap(lambda count: st.lists(numbers, min_size=count, max_size=count)),
            "times": st.sampled_from([1, 3, 100]),
            "reduction": st.sampled_from(list(Reduction)),
            "ties": st.sampled_from(list(Ties)),
            "dtype": st.sampled_from([np.float64, np.float32]),
        }
    )


@st.composite
def layers(draw: st.DrawFn) -> dict[str, Any]:
    """A swarm in which arguments stand one after another, or operations that do have one in common."""
    width = draw(st.integers(16, 40))
    first = 4 + width
    layer = list(range(4, first))
    operations: list[Any] = []
    for kind in draw(st.lists(st.sampled_from(["first", "second", "same", "mirror", "unary", "sum"]), max_size=5)):
        op, common = draw(st.sampled_from(["add", "mul", "max"])), draw(st.integers(0, 3))
        pairs = {
            "first": [[common, place] for place in layer],
            "second": [[place, common] for place in layer],
            "same": [[place - width, place] for place in layer] if layer[0] >= width else [[p, p] for p in layer],
            "mirror": list(map(list, zip(layer, reversed(layer), strict=True))),
        }
        if kind == "unary":
            own = draw(st.sampled_from(["sigmoid", "tanh", "softplus", "power"]))
            operations += [(own, [place], *([2.0] if own == "power" else [])) for place in layer]
        elif kind == "sum":
            operations.append(("add", layer[draw(st.integers(0, 3)) :]))
            total = first + len(operations) - 1
            operations += [("mul", [total, place]) for place in layer]
        else:
            operations += [(op, pair) for pair in pairs[kind]]
        start = first + len(operations) - width
        operations += [("tanh", [place]) for place in range(start, start + width)]
        layer = list(range(start + width, start + 2 * width))
    operations.append(("add", layer))
    return columns(operations, [layer[0], layer[-1], first + len(operations) - 1], np.linspace(-1, 1, width).tolist())


@SETTINGS
@given(swarms(4, size=20), asked_of(NUMBERS))
def test_a_swarm_is_the_same_graph_with_a_node_for_each_operation(swarm: dict[str, Any], asked: dict[str, Any]) -> None:
    agree(swarm, **asked)


@SETTINGS
@given(layers(), asked_of(st.floats(-2, 2)))
def test_so_is_one_whose_arguments_stand_one_after_another(swarm: dict[str, Any], asked: dict[str, Any]) -> None:
    # Sums of many round more, and may cancel.
    agree(swarm, **asked, slack=100, floor=1)


def agree(
    swarm: dict[str, Any],
    *,
    w: list[float],
    x: list[float],
    times: int,
    reduction: Reduction,
    ties: Ties,
    dtype: type[np.floating[Any]],
    slack: float = 1,
    floor: float = 0,
) -> None:
    """Check a swarm against the graph with a node for each operation."""
    with np.errstate(over="ignore"):
        arrays = {"w": np.array(w, dtype), "x": np.tile(np.array(x, dtype).reshape(-1, 1, 2), (times, 1, 1))}
    (one, [node]), (many, nodes) = packed(swarm), apart(swarm)
    query: dict[str, Any] = {"reduction": reduction, "wrt": ("w", "x")}
    together = evaluate(one.program(ties=ties), arrays, dtype, outputs=(node,), **query)
    own = evaluate(many.program(ties=ties), arrays, dtype, outputs=tuple(dict.fromkeys(nodes)), **query)
    for column, result in enumerate(nodes):
        np.testing.assert_array_equal(together.outputs[node][..., column], own.outputs[result])
    if all(np.isfinite(array).all() for array in arrays.values()):
        reports = [result.non_finite for result in (together, own)]
        assert len({report is not None and report.phase is Phase.VALUE for report in reports}) == 1
    if own.non_finite is not None or together.non_finite is not None:
        return
    rtol = slack * (1e-11 if dtype is np.float64 else 2e-4)
    for name, gradient in own.gradients.items():
        scale = max(float(np.abs(gradient).max(initial=0)), floor)
        np.testing.assert_allclose(together.gradients[name], gradient, rtol=rtol, atol=rtol * scale)


@pytest.mark.parametrize("ties", list(Ties))
def test_ties_of_many(ties: Ties) -> None:
    builder = Builder()
    swarm = columns([("max", [0, 1, 2]), ("max", [0, 0]), ("max", [1, 2, 1, 3])], [4, 5, 6])
    builder.op("sum", builder.op("scalars", builder.parameter("x", (4,)), **swarm))
    gradient = evaluate(builder.program(ties=ties), {"x": [2, 2, 1, 2]}).gradients["x"]
    expected = [0, 0, 0, 0] if ties is Ties.ZERO else [1 / 2 + 1, 1 / 2 + 2 / 3, 0, 1 / 3]
    np.testing.assert_allclose(gradient, expected, rtol=1e-15)


def test_a_deep_a_wide_and_a_branching_swarm() -> None:
    count = 30_000
    chain: list[Any] = [("mul" if k % 2 else "add", [k, k - k % 2 * k]) for k in range(count)]
    chain[0] = ("power", [0], 1.0)
    leaves = list(range(count + 1))
    builder = Builder()
    builder.op(
        "sum",
        builder.op("scalars", builder.parameter("x", (1,)), **columns([*chain, ("add", leaves)], [count + 1, count])),
    )
    program = builder.program()
    result = evaluate(program, {"x": [0.25]})
    value, slope = [0.25], [1.0]
    for op, (a, b), *_ in [("max", (0, 0)), *chain[1:]]:
        value.append({"max": value[a], "add": value[a] + value[b], "mul": value[a] * value[b]}[op])
        slope.append({"max": slope[a], "add": slope[a] + slope[b]}.get(op, slope[a] * value[b] + slope[b] * value[a]))
    total = 0.0
    for each in value:
        total += each
    assert result.loss == total + value[-1]
    np.testing.assert_allclose(result.gradients["x"], sum(slope) + slope[-1], rtol=1e-12)
    [_, node, _] = trace(program.checked, {"x": np.array([0.25])}, np.dtype(np.float64)).nodes
    np.testing.assert_array_equal(node.value, [total, value[-1]])
    assert node.operands[0].gradient is not None
    np.testing.assert_allclose(node.operands[0].gradient, result.gradients["x"], rtol=1e-12)


def test_a_swarm_without_operations_picks_elements() -> None:
    builder = Builder()
    node = builder.op("scalars", builder.parameter("x", (2,)), **columns([], [2, 0, 0], [7.0]))
    builder.op("sum", node)
    result = evaluate(builder.program(), {"x": [3, 4]}, outputs=(node,))
    assert result.outputs[node].tolist() == [7, 3, 3]
    assert result.gradients["x"].tolist() == [2, 0]


def test_a_swarm_without_operands() -> None:
    builder = Builder()
    builder.op("sum", builder.op("scalars", **columns([("exp", [0])], [1], [0.0])))
    assert evaluate(builder.program(), {}).loss == 1


REPORTS = [
    ([("log", [0]), ("exp", [0])], [2, 3], "operation 0 (position 2, log), log(-1), gives nan", Phase.VALUE),
    ([("log", [0]), ("power", [2], 0.0)], [3], "operation 0 (position 2, log), log(-1), gives nan", Phase.VALUE),
    ([("log", [0]), ("exp", [0])], [3], "", None),  # nobody needs the logarithm
    (
        [("exp", [0]), ("power", [1], 0.5)],
        [2, 3],
        "operation 1 (position 3, power), power(0), gives inf",
        Phase.GRADIENT,
    ),
]


@pytest.mark.parametrize("per_example", [False, True])
@pytest.mark.parametrize("more", [0, 20_000])
@pytest.mark.parametrize(("operations", "results", "told", "phase"), REPORTS, ids=range(len(REPORTS)))
def test_a_report_names_the_operation(
    operations: list[Any], results: list[int], told: str, phase: Phase | None, more: int, *, per_example: bool
) -> None:
    builder = Builder()
    x = builder.input("x", (2,), per_example=True) if per_example else builder.parameter("x", (2,))
    first = 2 + len(operations)
    swarm = columns([*operations, *(("tanh", [first + k - 1]) for k in range(more))], [*results, first + more - 1])
    swarm["results"] = swarm["results"][: len(results)] if not more else swarm["results"]
    builder.op("sum", builder.op("scalars", x, name="it", **swarm))
    rows = np.array([[1.0, 1.0], [-1.0, 0.0]])
    report = evaluate(
        builder.program(), {"x": rows if per_example else rows[1]}, wrt=("x",), reduction=Reduction.SUM
    ).non_finite
    if phase is None:
        assert report is None or more
        return
    assert report is not None
    assert report.phase is phase
    assert report.example == (1 if per_example else None)
    assert told in report.message
    assert report.message.startswith('node "it": ')


@pytest.mark.parametrize(
    ("limits", "setting"),
    [
        (Limits(max_nodes=5), "max_nodes"),
        (Limits(max_edges=8), "max_edges"),
    ],
)
def test_what_is_packed_counts_against_the_limits(limits: Limits, setting: str) -> None:
    builder = Builder()
    swarm = columns([("mul", [0, 1]), ("add", [2, 3]), ("exp", [4]), ("add", [5, 2])], [6], [1.0])
    builder.op("sum", builder.op("scalars", builder.parameter("x", (2,)), **swarm))
    with pytest.raises(Refusal) as refused:
        decode_graph(builder.message(), limits)
    assert refused.value.findings[0].metadata["setting"] == setting


SAME = columns([("mul", [0, 1]), ("power", [2], 0.0)], [3], [])
OTHERS = [
    columns([("mul", [1, 0]), ("power", [2], 0.0)], [3], []),
    columns([("add", [0, 1]), ("power", [2], 0.0)], [3], []),
    columns([("mul", [0, 1]), ("power", [2], 2.0)], [3], []),
    columns([("mul", [0, 1]), ("power", [2], 0.0)], [2], []),
    columns([("mul", [0, 1]), ("add", [3, 2])], [4], [0.0]),
    columns([("mul", [0, 1]), ("add", [3, 2])], [4], [-0.0]),
    columns([("mul", [0, 1, 1]), ("power", [2], 0.0)], [3], []),
]


def identity(swarm: dict[str, Any]) -> str:
    builder = Builder()
    builder.op("sum", builder.op("scalars", builder.parameter("x", (2,)), **swarm))
    return builder.program().graph_id


def test_swarms_that_mean_the_same_have_one_id() -> None:
    unused = columns([("mul", [0, 1]), ("power", [3], 0.0)], [4], [7.0])
    assert identity(unused) == identity(SAME)
    spelled = {**SAME, "arities": np.array([2, 1]), "exponents": np.array([-0.0]), "ops": SAME["ops"].astype(np.int64)}
    assert identity(spelled) == identity(SAME)
    assert len({identity(swarm) for swarm in (SAME, *OTHERS)}) == 1 + len(OTHERS)


class TestGradientsInside:
    """Those of operations inside count as those of nodes do, whatever becomes of them on the way to operands."""

    OPERATIONS: ClassVar[list[Any]] = [("max", [0, 2]), ("power", [3], 0.5), ("mul", [4, 1])]
    """sqrt(max(x, 0)) y: below 0 the slope of the root is infinite, and the max lets it by."""

    @pytest.mark.parametrize("more", [0, 20_000])
    @pytest.mark.parametrize("reduction", list(Reduction))
    @pytest.mark.parametrize("per_example", [False, True])
    def test_one_that_a_max_stops_is_reported(self, reduction: Reduction, more: int, *, per_example: bool) -> None:
        builder = Builder()
        x = builder.input("x", (2,), per_example=True) if per_example else builder.parameter("x", (2,))
        z = builder.input("z", per_example=True)
        chain = [("tanh", [6 + k - 1]) for k in range(more)]
        node = builder.op("scalars", x, name="it", **columns([*self.OPERATIONS, *chain], [5, 5 + more], [0.0]))
        builder.op("add", builder.op("sum", node), z)
        rows = np.full((300, 2), 0.5)
        rows[299, 0] = -1
        result = evaluate(
            builder.program(),
            {"x": rows if per_example else rows[299], "z": np.zeros(300)},
            wrt=("x",),
            reduction=reduction,
        )
        report = result.non_finite
        assert np.isfinite(result.gradients["x"]).all()
        assert report is not None
        assert (report.phase, report.example) == (Phase.GRADIENT, 299 if per_example else None)
        assert "operation 1 (position 4, power), power(0), gives inf" in report.message

    @pytest.mark.parametrize("more", [0, 20_000])
    @pytest.mark.parametrize("reduction", list(Reduction))
    def test_one_of_what_is_not_differentiated_is_none(self, reduction: Reduction, more: int) -> None:
        builder = Builder()
        sources = [builder.parameter("w"), builder.input("x", per_example=True)]
        chain = [("tanh", [4 + k - 1]) for k in range(more)]
        swarm = columns([("power", [1], 0.5), ("mul", [0, 2]), *chain], [3, 3 + more])
        builder.op("sum", builder.op("scalars", *sources, **swarm))
        arrays = {"w": 2.0, "x": np.zeros(300)}
        result = evaluate(builder.program(), arrays, wrt=("w",), reduction=reduction)
        assert result.non_finite is None
        assert evaluate(builder.program(), arrays, wrt=("x",), reduction=reduction).non_finite is not None

    @pytest.mark.parametrize("reduction", list(Reduction))
    @pytest.mark.parametrize("per_example", [False, True])
    @pytest.mark.parametrize("taken", [False, True])
    def test_results_that_lead_to_nothing_differentiated_have_none(
        self, reduction: Reduction, *, per_example: bool, taken: bool
    ) -> None:
        builder = Builder()
        x = builder.input("x", per_example=per_example)
        first = builder.op("scalars", builder.parameter("w"), x, **columns([("add", [0, 0]), ("add", [1, 1])], [2, 3]))
        if taken:
            first = builder.op("take", first, builder.constant(np.array([0, 1, 1])))
        operations: list[Any] = [("power", [1], 0.5), ("mul", [0, 2 + taken])]
        builder.op(
            "add",
            builder.op("sum", builder.op("scalars", first, **columns(operations, [3 + taken]))),
            builder.input("z", per_example=True),
        )
        arrays = {"w": 2.0, "x": np.zeros(300) if per_example else 0.0, "z": np.zeros(300)}
        result = evaluate(builder.program(), arrays, wrt=("w",), reduction=reduction)
        assert result.non_finite is None
        assert evaluate(builder.program(), arrays, wrt=("w", "x"), reduction=reduction).non_finite is not None
