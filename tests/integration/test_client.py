"""The blocking client, on the engine in the process and on a server alike."""

from __future__ import annotations

import signal
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any

import numpy as np
import pytest

import gradwire as gw
from tests.integration.server_process import ServerProcess
from tests.losses import Arrays, Case, hinge, hinge_by_hand, perceptron, sum_of_squares


def test_value_and_gradient_of_the_hinge_loss(client: gw.Client) -> None:
    case = hinge()
    value, gradients = client.value_and_grad(case.loss)(**case.arrays)
    losses, by_hand = hinge_by_hand(**case.arrays)
    np.testing.assert_allclose(value, losses.mean(), rtol=1e-14)
    np.testing.assert_allclose(gradients["w"], by_hand.mean(axis=0), rtol=1e-14)
    assert list(gradients) == ["w"]


@pytest.mark.parametrize(
    ("reduction", "reduce"),
    [("sum", lambda a: a.sum(axis=0)), ("none", lambda a: a), ("mean", lambda a: a.mean(axis=0))],
)
def test_reductions(client: gw.Client, reduction: str, reduce: Any) -> None:
    case = hinge()
    value, gradients = client.value_and_grad(case.loss, reduction=reduction)(**case.arrays)
    losses, by_hand = hinge_by_hand(**case.arrays)
    np.testing.assert_allclose(value, reduce(losses), rtol=1e-14)
    np.testing.assert_allclose(gradients["w"], reduce(by_hand), rtol=1e-14)


def test_a_python_function_is_traced_for_every_shape_it_meets(client: gw.Client) -> None:
    def loss(w: Any, phi: Any, y: Any) -> Any:
        return np.maximum(0, 1 - np.dot(w, phi) * y)

    traced = client.value_and_grad(loss, per_example=["phi", "y"])
    for features in (3, 4):
        case = hinge(features=features)
        value, gradients = traced(**case.arrays)
        expected, by_hand = client.value_and_grad(case.loss)(**case.arrays)
        assert value == expected
        np.testing.assert_array_equal(gradients["w"], by_hand["w"])


def test_a_function_may_ignore_an_argument_whose_gradient_is_then_zero(client: gw.Client) -> None:
    value, gradients = client.value_and_grad(lambda a, b: a * a)(a=3.0, b=[1.0, 2.0])
    assert value == 9
    np.testing.assert_array_equal(gradients["a"], 6)
    np.testing.assert_array_equal(gradients["b"], [0, 0])


def test_a_graph_of_the_contract_is_taken_as_it_is(client: gw.Client) -> None:
    case = hinge()
    expected = client.value_and_grad(case.loss)(**case.arrays)
    value, gradients = client.value_and_grad(gw.graph(case.loss))(**case.arrays)
    assert value == expected[0]
    np.testing.assert_array_equal(gradients["w"], expected[1]["w"])


def test_a_loop_over_many_scalars(client: gw.Client) -> None:
    def loss(w: Any, x: Any, y: Any) -> Any:
        total = y * 0
        for feature in range(400):
            total = total + w[feature] * x[feature] ** 2
        scale = gw.exp(w[0] * w[1]).named("scale")
        return gw.maximum(total - y, 0) * scale + gw.sum(w**2)

    random = np.random.default_rng(3)
    w, x, y = random.normal(size=400), random.normal(size=(7, 400)), random.normal(size=7)
    value, gradients = client.value_and_grad(loss, per_example=["x", "y"])(w=w, x=x, y=y)
    rest, scale = (x**2) @ w - y, np.exp(w[0] * w[1])
    np.testing.assert_allclose(value, (np.maximum(rest, 0) * scale).mean() + w @ w, rtol=1e-12)
    slope = ((rest > 0) * scale) @ x**2 / 7 + 2 * w
    slope[:2] += (np.maximum(rest, 0) * scale).mean() * w[1::-1]
    np.testing.assert_allclose(gradients["w"], slope, rtol=1e-9)

    one = {"w": w, "x": x[0], "y": y[0]}
    trace = client.trace(loss, **one, options={"per_example": ["x", "y"]})
    np.testing.assert_allclose(trace["scale"].value, scale, rtol=1e-14)
    assert client.check(loss, w=w, x=x, y=y, options={"per_example": ["x", "y"]}, max_probes=5)


@pytest.mark.parametrize("ties", ["zero", "split"])
def test_ties(client: gw.Client, ties: str) -> None:
    a, b = gw.parameter("a"), gw.parameter("b")
    _, gradients = client.value_and_grad(gw.maximum(a, b), ties=ties)(a=2.0, b=2.0)
    assert gradients == {"a": 0.5 * (ties == "split"), "b": 0.5 * (ties == "split")}


def test_gradients_in_what_wrt_names(client: gw.Client) -> None:
    case = hinge()
    _, gradients = client.value_and_grad(case.loss, wrt="phi")(**case.arrays)
    assert gradients["phi"].shape == case.arrays["phi"].shape
    _, nothing = client.value_and_grad(case.loss, wrt=[])(**case.arrays)
    assert nothing == {}


def test_outputs_by_name(client: gw.Client) -> None:
    w, phi = gw.parameter("w", shape=(3,)), gw.input("phi", shape=(3,), per_example=True)
    score = gw.dot(w, phi)
    arrays: Arrays = {"w": [1.0, 2.0, 3.0], "phi": np.eye(3)}
    scored = client.value_and_grad(score * score, outputs={"score": score})
    np.testing.assert_array_equal(scored.evaluate(**arrays).outputs["score"], [1, 2, 3])
    graph = gw.graph(score * score, outputs={"score": score})
    named = client.value_and_grad(graph, outputs=["score"])
    np.testing.assert_array_equal(named.evaluate(**arrays).outputs["score"], [1, 2, 3])


def test_the_whole_result(client: gw.Client) -> None:
    case = hinge(examples=7)
    result = client.value_and_grad(case.loss).evaluate(**case.arrays)
    assert (result.examples, result.non_finite) == (7, None)
    assert result.blocks >= 1
    assert result.compute_seconds > 0


def test_a_non_finite_value_is_reported_and_rejected_on_request(client: gw.Client) -> None:
    x = gw.input("x", per_example=True)
    loss = gw.log(x).named("logarithm") * gw.parameter("w")
    report = client.value_and_grad(loss).evaluate(x=[1.0, 0.0], w=2.0).non_finite
    assert report is not None
    assert (report.phase, report.node, report.example, report.value) == ("value", "logarithm", 1, -np.inf)
    assert report.operands == (("x", 0.0),)
    assert str(report) == "value -inf at node logarithm of example 1, from x = 0"
    with pytest.raises(gw.NonFiniteError, match="logarithm") as raised:
        client.value_and_grad(loss, reject_non_finite=True)(x=[1.0, 0.0], w=2.0)
    assert raised.value.reason == "NON_FINITE"


@pytest.mark.parametrize(
    ("w", "dtype", "expected"),
    [
        (np.array([1, 2], np.float32), None, np.float32),
        (np.array([1, 2], np.float64), None, np.float64),
        ([1, 2], None, np.float64),
        (np.array([1, 2]), None, np.float64),
        (np.array([True, False]), None, np.float64),
        (np.array([1, 2], ">f8"), None, np.float64),
        (np.array([[1.0, 9.0], [2.0, 9.0]])[:, 0], None, np.float64),
        (np.array([1, 2], np.float64), "float32", np.float32),
        (np.array([1, 2], np.float16), "float64", np.float64),
    ],
)
def test_the_dtype_is_that_of_the_arrays_unless_one_is_chosen(
    client: gw.Client, w: Any, dtype: str | None, expected: type
) -> None:
    x = gw.parameter("w", shape=(2,))
    value, gradients = client.value_and_grad(gw.sum(x * x), dtype=dtype)(w=w)
    assert (value.dtype, gradients["w"].dtype) == (expected, expected)
    np.testing.assert_array_equal(gradients["w"], 2 * np.asarray(w, float))


def test_gradients_may_be_written_to(client: gw.Client) -> None:
    case = hinge()
    value, gradients = client.value_and_grad(case.loss)(**case.arrays)
    gradients["w"] *= 0
    assert client.value_and_grad(case.loss)(**case.arrays)[0] == value


def test_names_that_are_no_python_names_go_in_a_mapping(client: gw.Client) -> None:
    loss = gw.parameter("layer 1/weight") * gw.input("timeout")
    value, gradients = client.value_and_grad(loss)({"layer 1/weight": 3.0, "timeout": 2.0}, timeout=60)
    assert (value, gradients) == (6, {"layer 1/weight": 2})


WRONG_ARRAYS: list[tuple[str, dict[str, Any], list[str]]] = [
    ("missing", {"y": None}, ['"y"', "missing"]),
    ("surplus", {"z": 1.0}, ['"z"']),
    ("shape", {"w": [1.0]}, ['"w"', "(1,)", "(3,)"]),
    ("examples", {"y": [1.0]}, ["phi", "y", "5", "1"]),
    ("text", {"w": "abc"}, ['"w"', "real numbers"]),
    ("ragged", {"w": [[1.0], [1.0, 2.0]]}, ['"w"', "no array"]),
    ("complex", {"w": [1j, 1, 1]}, ['"w"', "complex", "real numbers"]),
    ("objects", {"w": [None, 1, 1]}, ['"w"', "object", "real numbers"]),
    ("half", {"w": np.array([1, 2, 3], np.float16)}, ['"w"', "float16", "float32 or float64"]),
    ("mixed", {"w": np.array([1, 2, 3], np.float32)}, ['"w"', "float32", "float64", "nothing is promoted"]),
    ("masked", {"w": np.ma.masked_less([1.0, 2.0, 3.0], 2)}, ['"w"', "masked"]),
]


@pytest.mark.parametrize(("change", "words"), [row[1:] for row in WRONG_ARRAYS], ids=[row[0] for row in WRONG_ARRAYS])
def test_wrong_arrays_are_named(client: gw.Client, change: dict[str, Any], words: list[str]) -> None:
    case = hinge()
    arrays = {name: value for name, value in (case.arrays | change).items() if value is not None}
    with pytest.raises(gw.InvalidRequestError) as raised:
        client.value_and_grad(case.loss)(**arrays)
    assert [word for word in words if word not in str(raised.value)] == []
    assert raised.value.node in {*change, "phi"}


def test_row_indices_are_integers(client: gw.Client) -> None:
    case = perceptron()
    with pytest.raises(gw.InvalidRequestError, match="row indices are integers"):
        client.value_and_grad(case.loss)(**case.arrays | {"label": np.zeros(40)})
    with pytest.raises(gw.InvalidRequestError, match="index 4"):
        client.value_and_grad(case.loss)(**case.arrays | {"label": np.full(40, 4)})


def test_row_indices_may_be_an_empty_list(client: gw.Client) -> None:
    rows = gw.parameter("w", shape=(3,))[gw.input("rows", shape=(0,), dtype="int64")]
    value, gradients = client.value_and_grad(gw.sum(rows))(w=[1.0, 2.0, 3.0], rows=[])
    assert (value, gradients["w"].tolist()) == (0, [0, 0, 0])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"reduction": "average"}, "'average'.*'mean', 'sum', 'none'"),
        ({"dtype": "int8"}, "'int8'.*'float32' or 'float64'"),
        ({"dtype": "flaot"}, "'flaot'.*'float32' or 'float64'"),
        ({"ties": "first"}, "'first'.*'zero' or 'split'"),
        ({"wrt": ["v"]}, '"v"'),
        ({"wrt": [1]}, "names are strings; found 1"),
        ({"wrt": np.array("w")}, "names are strings"),
        ({"wrt": 1}, "names are strings; found 1"),
        ({"wrt": "\ud800"}, r"found '\\ud800'; give text that UTF-8 can hold"),
        ({"reduction": ["mean"]}, r"reduction=\['mean'\] is unknown"),
        ({"ties": []}, r"ties=\[\] is unknown"),
        ({"reject_non_finite": "yes"}, "'yes' is neither True nor False"),
        ({"outputs": 1}, "outputs=1"),
        ({"outputs": [1]}, "output 1 is int"),
        ({"per_example": ["y"]}, "Python functions"),
    ],
)
def test_wrong_options_name_what_is_allowed(client: gw.Client, options: Any, words: str) -> None:
    case = hinge()
    with pytest.raises(gw.GradwireError, match=words):
        client.value_and_grad(case.loss, **options)(**case.arrays)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"step": "a"}, "step='a' is no number"),
        ({"step": -1}, "step"),
        ({"tolerance": "x"}, "tolerance='x' is no number"),
        ({"max_probes": -1}, "max_probes=-1: expected an integer from 1 to 4294967295"),
        ({"max_probes": 1.5}, "max_probes=1.5"),
        ({"max_probes": 2**40}, "max_probes=1099511627776"),
    ],
)
def test_wrong_settings_of_a_check_are_named(client: gw.Client, settings: Any, words: str) -> None:
    with pytest.raises(gw.InvalidRequestError, match=words):
        client.check(gw.parameter("w") ** 2, w=1.0, **settings)


def test_wrong_outputs_of_a_graph_are_named(client: gw.Client) -> None:
    graph = gw.graph(hinge().loss)
    with pytest.raises(gw.InvalidRequestError, match="names are strings; found 5"):
        client.value_and_grad(graph, outputs=5)  # type: ignore[arg-type]  # the mistake
    with pytest.raises(gw.InvalidGraphError, match='output "nothing": the graph has no node'):
        client.value_and_grad(graph, outputs="nothing")


def test_what_is_no_loss_is_refused(client: gw.Client) -> None:
    with pytest.raises(gw.InvalidRequestError, match="found int"):
        client.value_and_grad(3)  # type: ignore[arg-type]  # the mistake
    with pytest.raises(gw.InvalidGraphError, match="returned str"):
        client.value_and_grad(lambda w: "w")(w=1.0)
    with pytest.raises(gw.InvalidRequestError, match="does not take the arrays"):
        client.value_and_grad(lambda w: w)(v=1.0)
    w = gw.parameter("w")
    with pytest.raises(gw.InvalidRequestError, match='"w" is given twice'):
        client.value_and_grad(w)({"w": 1.0}, w=1.0)
    with pytest.raises(gw.InvalidRequestError, match="found list"):
        client.value_and_grad(w)([1.0])
    with pytest.raises(gw.InvalidRequestError, match="found 1"):
        client.value_and_grad(w)({1: 1.0})
    with pytest.raises(gw.InvalidRequestError, match="found 2 values"):
        client.value_and_grad(w)(1.0, 2.0)
    with pytest.raises(gw.InvalidRequestError, match="ud800"):
        client.value_and_grad(gw.parameter("w"))({"\ud800": 1.0})


def test_trace_shows_every_value_and_every_edge(client: gw.Client) -> None:
    w = gw.parameter("w")
    s = gw.sigmoid(w).named("s")
    trace = client.trace((s * s + s).named("loss"), w=0.0)
    assert trace.loss == 0.75
    assert (trace["s"].op, trace["s"].value, trace["s"].gradient) == ("sigmoid", 0.5, 2.0)
    loss = trace["loss"]
    assert [(edge.operand, edge.gradient) for edge in loss.operands] == [("mul_2", 1), ("s", 1)]
    assert trace["w"].gradient == 0.5
    assert trace.non_finite is None
    with pytest.raises(KeyError, match="nothing"):
        trace["nothing"]


def test_check_agrees_with_finite_differences(client: gw.Client) -> None:
    case = perceptron()
    report = client.check(case.loss, **case.arrays)
    assert report.passed, str(report)
    assert {source.name: source.probed for source in report.sources} == {"W1": 30, "b1": 5, "W2": 20}
    coarse = client.check(gw.exp(gw.parameter("w")), w=1.0, step=0.001, tolerance=1e-9)
    assert not coarse
    assert "w: FAILED, 1 of 1" in str(coarse)


def test_at_a_kink_every_subgradient_passes_the_check(client: gw.Client) -> None:
    report = client.check(gw.maximum(gw.parameter("w"), 0), w=0.0)
    assert report.passed
    assert (report.sources[0].analytic, report.sources[0].numeric) == (0, 0.5)


def test_info_tells_ops_and_limits(client: gw.Client) -> None:
    info = client.info()
    assert info.ops["mul"] == "a b"
    assert info.limits["max_nodes"] == 1_000_000


def test_the_id_of_a_graph_is_the_same_everywhere(server: ServerProcess) -> None:
    with gw.connect("local") as local, gw.connect(server.address) as remote:
        case = hinge()
        assert (
            local.register(case.loss)
            == remote.register(gw.graph(case.loss))
            != remote.register(case.loss, ties="split")
        )


def test_a_graph_that_is_wrong_is_refused_with_the_node(client: gw.Client) -> None:
    graph = gw.graph(hinge().loss)
    graph.nodes[-1].max.operands[0] = 99
    with pytest.raises(gw.InvalidGraphError, match="99") as raised:
        client.register(graph)
    assert raised.value.findings[0].path == f"graph.nodes[{len(graph.nodes) - 1}].max.operands[0]"
    assert raised.value.node == f"max_{len(graph.nodes) - 1}"


def test_a_timeout_ends_a_long_call(client: gw.Client) -> None:
    case = perceptron(examples=2_000_000)
    with pytest.raises(gw.DeadlineExceededError):
        client.value_and_grad(case.loss)(**case.arrays, timeout=0.05)


def test_a_client_that_is_closed_while_a_large_call_is_made_again_says_so() -> None:
    case = sum_of_squares(300_000)
    with ServerProcess() as server, ThreadPoolExecutor(1) as pool:
        client = gw.connect(server.address)
        value_and_grad = client.value_and_grad(case.loss)
        value_and_grad(**case.arrays)
        server.stop(signal.SIGKILL)
        call = pool.submit(lambda: value_and_grad(**case.arrays))
        wait([call], timeout=0.1)
        client.close()
        with pytest.raises(gw.CancelledError, match="closed"):
            call.result()


def test_what_examples_share_may_be_empty(client: gw.Client) -> None:
    a, b = gw.parameter("a", shape=(0,)), gw.input("b", shape=(0, 3), per_example=True)
    product = gw.exp(a) @ b
    arrays: Arrays = {"a": np.ones(0), "b": np.ones((2, 0, 3))}
    result = client.value_and_grad(gw.sum(product), outputs={"e": product}).evaluate(**arrays)
    assert (result.loss, result.gradients["a"].shape, result.outputs["e"].tolist()) == (0, (0,), [[0] * 3] * 2)
    assert client.check(gw.sum(product), **arrays).passed
    shared = client.value_and_grad(gw.sum(gw.exp(a)) + gw.sum(b), outputs={"e": gw.exp(a)}).evaluate(**arrays)
    assert (shared.loss, shared.outputs["e"].shape) == (0, (0,))


@pytest.mark.parametrize("timeout", [float("inf"), 1e300, 10**400, 60, np.int64(60), np.float32(60)])
def test_a_timeout_may_be_as_long_as_one_likes(client: gw.Client, timeout: Any) -> None:
    square = gw.parameter("w") ** 2
    assert client.value_and_grad(square)(w=3.0, timeout=timeout)[0] == 9
    with client.stream(square) as stream:
        assert stream(w=3.0, timeout=timeout)[0] == 9


@pytest.mark.parametrize("timeout", [float("nan"), "soon", True, [1]])
def test_a_timeout_is_a_number(client: gw.Client, timeout: Any) -> None:
    square = gw.parameter("w") ** 2
    with pytest.raises(gw.InvalidRequestError, match="no number of seconds"):
        client.value_and_grad(square)(w=3.0, timeout=timeout)
    with client.stream(square) as stream, pytest.raises(gw.InvalidRequestError, match="no number of seconds"):
        stream(w=3.0, timeout=timeout)


@pytest.mark.parametrize("timeout", [0, -1.0])
def test_a_timeout_that_has_passed_ends_the_call(client: gw.Client, timeout: float) -> None:
    with pytest.raises(gw.DeadlineExceededError):
        client.value_and_grad(gw.parameter("w") ** 2)(w=3.0, timeout=timeout)


def test_a_closed_client_says_so() -> None:
    for target in ("local", "localhost:1"):
        client = gw.connect(target)
        client.close()
        with pytest.raises(gw.UsageError, match="closed"):
            client.info()


@pytest.mark.parametrize(
    "case", [hinge(3000, 20), perceptron(3000), sum_of_squares(1_000_000)], ids=["hinge", "perceptron", "large"]
)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_the_embedded_engine_gives_the_bits_of_the_server(
    server: ServerProcess, case: Case, dtype: str, reduction: str
) -> None:
    with gw.connect("local") as local, gw.connect(server.address) as remote:
        ours, theirs = (
            client.value_and_grad(case.loss, dtype=dtype, reduction=reduction)(**case.arrays)
            for client in (local, remote)
        )
        with remote.stream(case.loss, dtype=dtype, reduction=reduction) as stream:
            streamed = stream(**case.arrays)
    for other in (theirs, streamed):
        assert ours[0].tobytes() == other[0].tobytes()
        assert {n: g.tobytes() for n, g in ours[1].items()} == {n: g.tobytes() for n, g in other[1].items()}


def test_whole_numbers_are_row_indices_only_where_a_function_takes_rows(client: gw.Client) -> None:
    def loss(rows: Any, index: Any, sign: Any) -> Any:
        return gw.take(rows, index) * sign

    traced = client.value_and_grad(loss, per_example=["index", "sign"], reduction="sum")
    arrays: Arrays = {"rows": [1.0, 10.0, 100.0], "index": np.array([2, 0]), "sign": np.array([-1, 1])}
    value, gradients = traced(**arrays)
    assert (value, gradients["rows"].tolist()) == (-99, [1, 0, -1])
    with pytest.raises(gw.InvalidGraphError, match="integers"):
        traced(**arrays | {"index": [0.5, 1.5]})
    with pytest.raises(gw.InvalidRequestError, match='"index" is no array'):
        traced(**arrays | {"index": [[1], [1, 2]]})


@pytest.mark.parametrize(
    "product",
    [lambda w, x: w @ x, lambda w, x: gw.sum(w * gw.reshape(x, 2)), lambda w, x: gw.sum(w * gw.transpose(x))],
    ids=["matmul", "reshape", "transpose"],
)
def test_whole_numbers_may_be_factors_of_a_product(client: gw.Client, product: Any) -> None:
    value, _ = client.value_and_grad(product, inputs="x")(w=[1.0, 2.0], x=np.array([3, 4]))
    assert value == 11
