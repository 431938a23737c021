"""Expressions are ordinary Python: operators, NumPy's functions, names, and errors at the line that makes them."""

from __future__ import annotations

import copy
import math
import operator
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import gradwire as gw

W = gw.parameter("w", shape=(3,))
M = gw.parameter("m", shape=(2, 3))
S = gw.parameter("s")


def value(expression: gw.Expression, **arrays: Any) -> Any:
    """The expression's value, as an output beside a loss that depends on nothing."""
    named = expression if expression.name else expression.named("it")
    with gw.connect("local") as client:
        evaluate = client.value_and_grad(gw.constant(0), outputs=[named]).evaluate
        return evaluate(arrays).outputs[named.name]


A = np.array([1.0, -2.0, 3.0])
B = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])

OPERATORS: list[Callable[..., Any]] = [
    lambda w, m: w + m,
    lambda w, m: m + w,
    lambda w, m: 1 + w,
    lambda w, m: w - m,
    lambda w, m: 2 - w,
    lambda w, m: w * m,
    lambda w, m: np.float64(3) * w,
    lambda w, m: np.array([1.0, 2.0, 3.0]) * w,
    lambda w, m: [1, 2, 3] * np.array(1) + w,
    lambda w, m: w / m,
    lambda w, m: 2 / m,
    lambda w, m: w**2,
    lambda w, m: m @ w,
    lambda w, m: w @ m.T,
    lambda w, m: B @ w,
    lambda w, m: -w,
    lambda w, m: +w,
    lambda w, m: abs(w),
    lambda w, m: m[1],
    lambda w, m: m[-1],
    lambda w, m: w[1:],
    lambda w, m: w[::-1],
    lambda w, m: w[[0, 0, 2]],
    lambda w, m: w[[]],
    lambda w, m: w[7:],
    lambda w, m: sum(w),
    lambda w, m: m.T,
    lambda w, m: m.sum(),
    lambda w, m: m.sum(axis=1),
    lambda w, m: m.mean(0),
    lambda w, m: m.max(1, keepdims=True),
    lambda w, m: m.min(),
    lambda w, m: m.reshape(3, 2),
    lambda w, m: m.reshape((6,)),
    lambda w, m: m.reshape([3, 2]),
    lambda w, m: m.transpose(1, 0),
    lambda w, m: m.transpose((1, 0)),
    lambda w, m: m.transpose([1, 0]),
    lambda w, m: m.transpose(None),
    lambda w, m: m.dot(w),
    lambda w, m: np.maximum(0, 1 - w),
    lambda w, m: np.minimum(m, w),
    lambda w, m: np.exp(w) + np.log(m) + np.tanh(w) + np.sqrt(m) + np.square(w) + np.abs(w),
    lambda w, m: np.add(np.subtract(w, 1), np.multiply(2, np.negative(np.divide(w, m)))),
    lambda w, m: np.power(m, 1.5) + np.reciprocal(m) + np.logaddexp(w, m),
    lambda w, m: np.matmul(m, w) + np.dot(m, w),
    lambda w, m: np.sum(m, axis=0) + np.mean(m, axis=0) + np.max(m, axis=0) + np.min(m, axis=0) + np.var(m, axis=0),
    lambda w, m: np.reshape(np.transpose(m), (2, 3)) + np.clip(w, -1, 1) + np.take(m, [0, 1], axis=0),
    lambda w, m: np.clip(w, 0, None) + np.clip(w, a_min=None, a_max=0.5) + np.take(a=m, indices=[0, 1], axis=0),
    lambda w, m: w * np.ndim(m) + np.size(m) + np.size(m, 0) + np.shape(m)[1],
    lambda w, m: w ** np.array(2),
]


@pytest.mark.parametrize("function", OPERATORS, ids=range(len(OPERATORS)))
def test_it_computes_what_numpy_computes(function: Callable[..., Any]) -> None:
    expected = function(A, B)
    built = function(W, M)
    assert built.shape == np.shape(expected)
    arrays = {"w": A, "m": B}
    used = {node.name for node in gw.graph(gw.sum(built)).nodes}
    np.testing.assert_allclose(value(built, **{n: a for n, a in arrays.items() if n in used}), expected, rtol=1e-14)


NEEDING_VALUES: list[tuple[Callable[[], Any], str]] = [
    (lambda: 1 if S > 0 else 0, r"bool\(\) of <less\(0, s\).*gw\.where\(condition, x, y\)"),
    (lambda: S > 0 and S < 1, "`and`, `or`, `not` as &"),
    (lambda: not S, "bool"),
    (lambda: 0 < S < 1, "bool"),
    (lambda: max(S, gw.parameter("r")), "bool"),
    (lambda: int(S), r"int\(\) of.*dtype='int64'"),
    (lambda: float(S), r"float\(\) of"),
    (lambda: complex(S), "complex"),
    (lambda: math.exp(S), "np's or gw's functions"),
    (lambda: round(S), "a step has no derivative"),
    (lambda: range(S), "an index of"),
    (lambda: [1, 2, 3][S], "an index of"),
    (lambda: 1.0 in W, r"gw\.max\(x == value\)"),
    (S.item, "item"),
    (W.tolist, "tolist"),
    (lambda: np.asarray(S), "an array of"),
    (lambda: np.array([S, S]), r"np\.stack"),
    (lambda: W[W > 0], r"how many, depends on values.*gw\.where\(mask, x, 0\)"),
    (lambda: M[0, S], "depends on values"),
    (lambda: np.where(W > 0), r"give it both choices: np\.where\(condition, x, y\)"),
    (lambda: np.argmax(W), "argmax.*softmax for a soft choice"),
    (lambda: np.sort(W), "sort.*an order depends on values"),
    (lambda: np.median(W), "median"),
    (lambda: np.nonzero(W), "nonzero.*how many entries"),
    (lambda: np.unique(W), "unique"),
    (lambda: np.floor(W), "floor.*a step has no derivative"),
    (lambda: np.round(W), "round"),
    (lambda: W % 3, "% of.*a step has no derivative.*gw.sin"),
    (lambda: 3 // W, "// of.*a step has no derivative"),
    (lambda: divmod(W, 2), r"divmod\(\) of.*a step has no derivative"),
    (lambda: np.mod(W, 3), "np.remainder of.*a step has no derivative"),
    (lambda: np.allclose(W, 0), "allclose"),
]


@pytest.mark.parametrize(("ask", "words"), NEEDING_VALUES, ids=range(len(NEEDING_VALUES)))
def test_what_needs_a_value_is_an_error_that_says_what_to_write(ask: Callable[[], Any], words: str) -> None:
    with pytest.raises(gw.ValueNeededError, match=words) as raised:
        ask()
    assert isinstance(raised.value, TypeError)


WRONG: list[tuple[Callable[[], Any], str]] = [
    (lambda: W + gw.parameter("v", shape=(2,)), r"\(3,\).*\(2,\)"),
    (lambda: M @ M, r"\(2, 3\).*\(2, 3\)"),
    (lambda: gw.matmul(S, W), "scalar"),
    (lambda: gw.reshape(W, (2, 2)), r"\(3,\).*\(2, 2\)|3.*4"),
    (lambda: gw.reshape(M, (-1, -1)), "-1"),
    (lambda: gw.sum(W, axis=1), r"1.*\(3,\)|axis 1"),
    (lambda: gw.sum(W, axis=(0, 0)), "twice|repeated"),
    *(
        (lambda f=f: f(gw.parameter("e", shape=(0,))), f"^{f.__name__} over an empty axis of <parameter e")
        for f in (gw.max, gw.min, gw.mean, gw.logsumexp, gw.log_softmax, gw.softmax)
    ),
    (lambda: gw.transpose(M, (0, 0)), "twice|permutation|repeated"),
    (lambda: gw.take(W, 3), "3"),
    (lambda: gw.take(W, [0.5]), "integer"),
    (lambda: M[0, 1, 2], r"\(0, 1, 2\) is no index of .*2 axes"),
    (lambda: M[0, 3], "index 3 .*out of range for axis 1"),
    (lambda: M[..., ...], "no index"),
    (lambda: M[0, "a"], "'a' is no index"),
    (lambda: M[0.5], "no index"),
    (lambda: M[np.array([True, False, True])], "mask of size 3 for axis 0 .* of size 2"),
    (lambda: M[[0, 1], [0, 1, 2]], r"\[\(2,\), \(3,\)\] do not broadcast"),
    (lambda: M[[0, 1], [0, 3]], "index 3 .*axis of size 3"),
    (lambda: M[gw.input("i", 2, dtype="int64"), [0, 1, 2]], r"\[\(2,\), \(3,\)\] do not broadcast"),
    (lambda: operator.setitem(W, 0, 1), r"expressions do not change; write gw\.where"),  # type: ignore[call-overload]  # the mistake
    (lambda: np.where(W > 0, W, gw.parameter("v", 2)), "do not broadcast"),
    (lambda: gw.concatenate([]), "concatenate of nothing"),
    (lambda: gw.concatenate([S, S]), r"scalar.*gw\.stack"),
    (lambda: gw.concatenate([M, W]), "equal but for that axis"),
    (lambda: gw.concatenate([M, W], 2), "axis 2 is out of range"),
    (lambda: gw.stack([]), "stack of nothing"),
    (lambda: gw.stack([W, M]), r"\[\(2, 3\), \(3,\)\]; give equal ones"),
    (lambda: gw.split(W, 2), "3 is no multiple"),
    (lambda: gw.split(W, "a"), "give an integer or positions"),  # type: ignore[arg-type]  # the mistake
    (lambda: gw.squeeze(M, 0), "which has size 2, not 1"),
    (lambda: gw.expand_dims(W, "a"), "give integers"),  # type: ignore[arg-type]  # the mistake
    (lambda: gw.broadcast_to(M, (2, 1)), "it does not fit"),
    (lambda: gw.moveaxis(M, (0, 1), 0), "2 axes for 1 places"),
    (lambda: gw.roll(W, 0.5), "give an integer"),  # type: ignore[arg-type]  # the mistake
    (lambda: gw.repeat(W, -1), "at least 0"),
    (lambda: gw.tile(W, -1), "at least 0"),
    (lambda: gw.pad(W, -1), "at least 0"),
    (lambda: gw.pad(M, (1, 2, 3)), "at least 0"),
    (lambda: gw.tril(W), "expected a matrix"),
    (lambda: gw.cumsum(M, 2), "axis 2"),
    (lambda: gw.cumsum(M, "a"), "give an integer"),  # type: ignore[arg-type]  # the mistake
    (lambda: gw.take(M, [0], 2), "axis 2"),
    (lambda: gw.take(M, [3], 1), "row 3 .* 3 rows"),
    (lambda: gw.scatter_add(W, [0, 1], 3), "one index for each entry"),
    (lambda: gw.scatter_add(W, [0, 1, 3], 3), "row 3 .* 3 rows"),
    (lambda: gw.scatter_add(W, [0, 1, 2], -1), "size=-1"),
    (lambda: gw.scatter_add(W, [0, 1, 2], 3, 1), "axis=1"),
    (lambda: gw.scatter_add(S, [0], 3), "0 axes"),
    (lambda: gw.scatter_add(W, W, 3), "indices .* of floats"),
    (lambda: gw.tensordot(M, W, 3), "give a number or a pair"),
    (lambda: gw.tensordot(M, W, ([0], [0])), "sizes of axes"),
    (lambda: gw.einsum("ij,j", M), "2 operands; found 1"),
    (lambda: gw.einsum("ijk", M), "does not name the 2 axes"),
    (lambda: gw.einsum("ij,j->k", M, W), "labels of operands"),
    (lambda: gw.einsum("ij,i", M, W), "i has sizes 2 and 3"),
    (lambda: gw.einsum(M, "ij"), "subscripts such as"),  # type: ignore[arg-type]  # the mistake
    (lambda: gw.norm(W, -0.5), "ord=-0.5; choose a number from 0"),
    (lambda: gw.norm(M, "nuc"), "ord='nuc': singular values are no ops"),
    (lambda: np.linalg.norm(M, 2), "ord=2: singular values are no ops"),
    (lambda: np.add.at(W, [0], 1.0), r"np.add.at: expressions do not change; write x \+ gw.scatter_add"),
    (lambda: np.median(W), "find it before the call, and pick by an input of integers"),
    (lambda: np.take(W, gw.input("i", 2, dtype="int64"), mode="clip"), "mode='clip'; constant indices may be"),
    (lambda: np.gradient(W, edge_order=2), "edge_order=2; there is 1"),
    (lambda: np.gradient(W, [1.0]), "expected at least two numbers there"),
    (lambda: np.cov(W[:1]), "cov of 1 observations with ddof=1"),
    (lambda: np.insert(W, [0, 1], 1.0), r"at \[0, 1\]; give one place"),
    (lambda: np.bincount(gw.input("i", 5, dtype="int64"), W), "give minlength="),
    (lambda: np.compress(W > 0, W), "how many entries there are depends on values"),
    (lambda: np.repeat(W, [1, 2]), r"repeat of .* \[1, 2\] times; give an integer, at least 0, or one for each of 3"),
    (lambda: W ** np.array([1.0, np.inf]), "expected a finite number, or an array"),
    (lambda: gw.ravel(W, "Q"), "ravel with order='Q'; choose 'C' or 'F'"),
    (lambda: np.resize(W[:0], 3), "elements to fill it"),
    (lambda: np.vander(M), "np.vander of .*expected a vector"),
    (lambda: np.linspace(0, W[0], -1), "np.linspace with num=-1"),
    (lambda: np.lib.stride_tricks.sliding_window_view(W, 9), "windows 9 of .*give a size within it"),
    (lambda: gw.std(W, ddof=3), "var of 3 elements .* with ddof=3; expected more"),
    (lambda: gw.var(W, ddof="a"), "ddof='a' is no number"),  # type: ignore[arg-type]  # the mistake
    (lambda: gw.max(W, where=W > 0), "max with where= and no initial="),
    (lambda: W.min(initial="a"), "min with initial='a'; expected a number"),  # type: ignore[arg-type]  # the mistake
    (lambda: np.diff(W, n=-1), "with n=-1; give an integer, at least 0"),
    (lambda: (W > 0) - (W > 1), r"- of .*in NumPy booleans.*a \^ b"),
    (lambda: -(W > 0), "- of .*in NumPy booleans.*~a is where"),
    (lambda: gw.norm(gw.parameter("t", (2, 2, 2)), 1), "for vectors and matrices; give axis="),
    (lambda: gw.conv(M, M), r"expected \(channels, \*space\)"),
    (lambda: gw.conv(M, gw.parameter("k", (1, 2, 4))), "do not fit"),
    (lambda: gw.conv(M, gw.parameter("k", (1, 2, 2)), stride=0), "do not fit"),
    (lambda: gw.conv(M, gw.parameter("k", (1, 2, 2)), stride=(1, 1)), "one for each of 1 axes"),
    (lambda: gw.max_pool(M, (1, 1, 1)), "last axes"),
    (lambda: gw.layer_norm(M, epsilon=-1), "epsilon=-1"),
    (lambda: gw.attention(W, W, W), "expected matrices"),
    (lambda: gw.huber_loss(W, 0, "a"), "delta='a'; expected a number"),  # type: ignore[arg-type]  # the mistake
    (lambda: W.astype(int), "expressions are floats"),
    (lambda: S[0], "scalar"),
    (lambda: S[np.array([], int)], "scalar"),
    (lambda: S[np.ones((), bool)], "scalar"),
    (lambda: gw.power(W, S), r"gw\.exp"),
    (lambda: gw.power(W, "a"), "exponent 'a'; expected a finite number, or an array"),
    (lambda: W**None, "exponent None"),  # type: ignore[operator]  # the mistake
    (lambda: W**math.inf, "exponent inf; it must be finite"),
    (lambda: gw.power(W, 10**400), "exponent inf; it must be finite"),
    (lambda: (-2) ** W, r"gw\.exp"),
    (gw.maximum, "maximum of nothing.*operand"),
    (gw.minimum, "minimum of nothing.*operand"),
    (lambda: gw.parameter(""), "non-empty"),
    (lambda: gw.parameter("a\nb"), "unprintable"),
    (lambda: gw.parameter(5), "non-empty string; found 5"),  # type: ignore[arg-type]  # the mistake
    (lambda: gw.parameter(W), "found <parameter w"),  # type: ignore[arg-type]  # the mistake
    (lambda: gw.input(["x"]), r"found \['x'\]"),  # type: ignore[arg-type]  # the mistake
    (lambda: gw.exp(S).named(b"e"), "found b'e'"),  # type: ignore[arg-type]  # the mistake
    (lambda: gw.parameter("a", shape=(-1,)), "-1"),
    (lambda: gw.parameter("a", shape=2**63), "beyond 64 bits"),
    (lambda: gw.parameter("a", shape="ab"), "no shape; give a tuple of integers"),  # type: ignore[arg-type]  # the mistake
    (lambda: gw.input("q", per_example="no"), "per_example='no'"),  # type: ignore[arg-type]  # the mistake
    (lambda: gw.input("q", dtype="flot"), "'flot'.*int64"),
    (lambda: gw.input("q", dtype=5), "dtype 5.*int64"),
    *((lambda axis=axis: gw.sum(M, axis), "names no axis.*tuple of integers") for axis in ("a", 0.0, [0, 1], W)),
    *((lambda f=f: f(M, "a"), "'a' names no axis") for f in (gw.mean, gw.max, gw.min, gw.softmax, gw.logsumexp)),
    (lambda: gw.sum(M, keepdims=S), "keepdims=.*neither True nor False"),  # type: ignore[arg-type]  # the mistake
    *((lambda shape=shape: gw.reshape(W, shape), "no shape; give") for shape in ("a", None, 3.0, S)),
    (lambda: gw.transpose(M, 1), "axes 1: give all 2"),
    (lambda: gw.transpose(M, "ab"), "axes 'ab': give all 2"),  # type: ignore[arg-type]  # the mistake
    (lambda: M["a":], "no index"),
    (lambda: M[::0], "no index"),
    (lambda: W[[[1], [1, 2]]], "no index"),
    (lambda: gw.take(W, 2**63), "9223372036854775808.*beyond 64 bits"),
    (lambda: gw.leaky_relu(W, "a"), "slope of 'a'; it is a number between 0 and 1"),  # type: ignore[arg-type]  # the mistake
    (lambda: gw.leaky_relu(W, 2), "slope of 2"),
    (lambda: W.named("v"), 'parameter "w" has its name already'),
    (lambda: np.i0(W), "^np.i0 cannot build a graph; compose it of gw's functions"),
    (lambda: np.apply_over_axes(np.sum, W, [0]), "^np.apply_over_axes cannot build a graph; compose it"),
    (lambda: np.polyadd(W, W), "^np.polyadd cannot build a graph; compose it"),
    (lambda: np.add.reduceat(W, [0]), "np.add.reduceat cannot"),
    (lambda: np.exp(W, out=np.empty(3)), "np.exp with out=: an expression goes into no array"),
    (lambda: np.exp(W, where=W > 0), "np.exp with where= leaves elements undefined; write np.where"),
    (lambda: np.sum(W, dtype=int), "np.sum with dtype=.*expressions are floats"),
    (lambda: np.linalg.det(M), "np.linalg.det cannot build a graph: no factorisation is an op"),
    (lambda: np.fft.fft(W), "np.fft.fft cannot build a graph: numbers are real"),
    (lambda: np.average(W, returned=True), "np.average on an expression: it got an unexpected .*'returned'"),
    (lambda: np.piecewise(W, [W > 0], [1]), r"np.piecewise cannot build a graph: write np\.select"),
    (lambda: gw.graph(W), "no scalar"),
    (lambda: gw.graph(S, ties="first"), "'zero' or 'split'"),
    (lambda: gw.graph(S + gw.input("s")), 'named "s"'),
    (lambda: gw.graph(S, outputs=[S + 1]), "no name"),
    (lambda: gw.graph(S, outputs=[5]), "output 5 is int; expected an expression"),  # type: ignore[list-item]  # the mistake
    (lambda: gw.graph(S, outputs={"a": 5}), "output 5 is int; expected an expression"),  # type: ignore[dict-item]
    (lambda: gw.graph(S, outputs={5: S}), "non-empty string; found 5"),  # type: ignore[dict-item]  # the mistake
    (lambda: gw.graph(S, outputs=[gw.exp(S).named("a"), gw.tanh(S).named("a")]), 'outputs are named "a"'),
    (lambda: gw.graph(S, ties=[]), "'zero' or 'split'"),  # type: ignore[arg-type]  # the mistake
    (lambda: gw.graph(None), "gw.graph takes a scalar expression; found NoneType"),  # type: ignore[arg-type]  # the mistake
    (lambda: gw.graph(abs), "found builtin.*client.value_and_grad takes a function"),  # type: ignore[arg-type]
    (lambda: np.pad(W, 1, mode="mean"), "mode='mean'; choose 'constant', 'edge'"),
    (lambda: gw.constant("abc"), "number|real"),
    (lambda: gw.input("i", dtype="int32"), "int64"),
]


@pytest.mark.parametrize(("make", "words"), WRONG, ids=range(len(WRONG)))
def test_a_mistake_is_an_error_where_it_is_made(make: Callable[[], Any], words: str) -> None:
    with pytest.raises(gw.InvalidGraphError, match=words):
        make()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("dtype", "all numbers of a call have that of its arrays"),
        ("argmax", "an order depends on values"),
        ("sinc", r"write np\.sinc\(x\)"),
        ("round", "a step has no derivative"),
        ("ptp", r"write np\.ptp\(x\)"),
        ("spam", "no attribute spam"),
    ],
)
def test_an_attribute_that_there_is_not(name: str, words: str) -> None:
    assert not hasattr(W, name)
    with pytest.raises(AttributeError, match=words):
        getattr(W, name)


def test_a_constant_beyond_float64_is_infinite() -> None:
    assert value(gw.constant(np.longdouble("1e4000"))) == np.inf


def test_an_expression_may_be_an_output_under_several_names() -> None:
    square = S * S
    with gw.connect("local") as client:
        result = client.value_and_grad(square, outputs={"a": square, "b": square}).evaluate(s=3.0)
    assert result.outputs == {"a": 9, "b": 9}


def test_one_operand_is_itself() -> None:
    assert gw.maximum(W) is W
    assert gw.add(W) is W


def test_many_operands_are_one_node() -> None:
    graph = gw.graph(gw.maximum(S, gw.parameter("a"), gw.parameter("b"), 0))
    assert list(graph.nodes[-1].max.operands) == [0, 1, 2, 3]


def test_what_is_used_twice_is_one_node() -> None:
    shared = gw.exp(S)
    graph = gw.graph(shared * shared + gw.parameter("s"))
    assert [node.WhichOneof("kind") for node in graph.nodes] == ["parameter", "exp", "mul", "add"]


def test_a_graph_is_built_without_recursion() -> None:
    chain = S
    for _ in range(50_000):
        chain = gw.tanh(chain)
    [_, packed, *_] = gw.graph(chain).nodes
    assert len(packed.scalars.ops) == 50_000
    assert len(repr(chain)) < 300


def test_what_an_expression_looks_like() -> None:
    assert repr(W) == "<parameter w, shape (3,)>"
    assert repr(gw.maximum(0, 1 - S).named("loss")) == "<loss = max(0, add(1, mul(s, -1))), shape ()>"


def test_an_expression_can_be_a_key() -> None:
    assert {W: 1}[W] == 1
    assert {W, M, W} == {M, W}
    assert [M, W].index(M) == 0
    assert W != "w"
    assert W is not None


@pytest.mark.parametrize(
    "again",
    [copy.deepcopy, lambda node: pickle.loads(pickle.dumps(node))],  # noqa: S301  (its own)
)
def test_expressions_can_be_copied_and_sent_to_other_processes(again: Callable[[Any], Any]) -> None:
    s = S
    for _ in range(20_000):
        s = s + 1
    loss = gw.maximum(gw.sum(gw.take(W, [0, 2]), axis=0).named("total"), s * s)
    assert gw.graph(again(loss)) == gw.graph(loss)


def test_a_pickle_has_the_bytes_that_it_always_had() -> None:
    score = gw.sum(gw.parameter("w", (2,)) * gw.input("x", (2,), per_example=True)).named("score")
    said = (
        b"cgradwire._expression\n_rebuilt\np0\n((lp1\n(Vparameter\np2\n(I2\ntp3\n(lp4\n(dp5\nVw\np6\nNtp7\n"
        b"a(Vinput\np8\n(I2\ntp9\n(lp10\n(dp11\nVper_example\np12\nI01\nsVx\np13\nNtp14\n"
        b"a(Vmul\np15\ng3\n(lp16\nI0\naI1\na(dp17\nV\np18\nNtp19\n"
        b"a(Vsum\np20\n(t(lp21\nI2\na(dp22\nVaxes\np23\n(I0\ntp24\nsVkeepdims\np25\nI00\nsVscore\np26\nNtp27\n"
        b"atp28\nRp29\n."
    )
    assert pickle.dumps(score, 0) == said
    assert gw.graph(pickle.loads(said)) == gw.graph(score)  # noqa: S301  (the test's own)
