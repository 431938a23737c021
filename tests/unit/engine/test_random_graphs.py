"""Random graphs against PyTorch, autograd and central finite differences."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import autograd
import autograd.numpy as anp
import numpy as np
import torch
from autograd.scipy.special import erf, expit, logsumexp
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch.nn import functional as F  # noqa: N812  (its usual name)

from gradwire.v1.tensor_pb2 import DTYPE_INT64
from gradwire_server.engine.explain.nonfinite import NonFinite
from gradwire_server.engine.explain.trace import trace
from gradwire_server.engine.graph.graph import Reduction, Ties
from gradwire_server.engine.graph.ops import OPS
from gradwire_server.engine.reference.interpreter import backward, forward, needed
from tests.unit.engine.building import Builder, evaluate
from tests.unit.engine.swarms import OPS as PACKED
from tests.unit.engine.swarms import positions_of, swarms

Shape = tuple[int, ...]
Write = Callable[[Any, Sequence[Any], Mapping[str, Any]], Any]


@dataclass(frozen=True)
class Call:
    """An op on earlier nodes."""

    op: str
    operands: tuple[int, ...]
    attributes: dict[str, Any] = field(default_factory=dict)


@dataclass
class Drawn:
    """A graph: sources with their shapes, then calls. The loss is the sum of what no call reads."""

    sources: list[tuple[str, Shape, bool]] = field(default_factory=list)
    """Name, shape, and whether it is per example."""
    calls: list[Call] = field(default_factory=list)
    shapes: list[Shape] = field(default_factory=list)

    def add(self, call: Call) -> None:
        """Add a call."""
        ones = [np.ones(self.shapes[operand]) for operand in call.operands]
        self.calls.append(call)
        self.shapes.append(np.shape(WRITE[call.op](NUMPY, ones, call.attributes)))

    def loose_ends(self) -> list[int]:
        """Nodes that no call reads."""
        read = {operand for call in self.calls for operand in call.operands}
        return [node for node in range(len(self.shapes)) if node not in read]


SETTINGS = settings(
    max_examples=300, derandomize=True, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow]
)
SHAPES: list[Shape] = [(), (1,), (2,), (3,), (2, 3), (3, 1), (1, 3), (3, 3), (2, 2, 3)]
# Few distinct numbers, so that ties, zeros and equal magnitudes are common.
# Others are so far apart that no function rounds two of them to one: whether that is a tie differs among libraries.
NUMBERS = st.sampled_from([0.0, -0.0, 1.0, -1.0, 0.5, 2.0, -2.0, 1e-9, 1e-300, -30.0, 1e4, 1e200]) | st.floats(
    -3, 3, width=32
)
ONE = np.float64(1)
DRAWN = {*OPS, "scalars"}
COMPARING = {"less", "equal", "select"}
"""They compare sources: of numbers that functions made, libraries differ on which are equal."""
KINKED = {"max", "reduce_max", *COMPARING}
MODERATE = 1e6
"""Values beyond which cancellation makes any comparison of gradients vain."""


@st.composite
def graphs(draw: st.DrawFn, *, smooth: bool) -> tuple[Drawn, dict[str, Any]]:
    """A graph, with numbers for it; a smooth one has no kinks, and moderate numbers."""
    drawn = Drawn()
    arrays: dict[str, Any] = {}
    examples = draw(st.integers(1, 3))
    for number in range(draw(st.integers(1, 4))):
        shape = draw(st.sampled_from(SHAPES))
        per_example = draw(st.booleans())
        drawn.sources.append((f"s{number}", shape, per_example))
        drawn.shapes.append(shape)
        size = int(np.prod(shape)) * (examples if per_example else 1)
        numbers = st.floats(-1.5, 1.5, width=16) if smooth else NUMBERS
        values = draw(st.lists(numbers, min_size=size, max_size=size))
        arrays[f"s{number}"] = np.reshape(values, ((examples,) if per_example else ()) + shape)
    ops = sorted(DRAWN - KINKED) if smooth else sorted(DRAWN)
    for op in draw(st.lists(st.sampled_from(ops), min_size=1, max_size=12)):
        node = draw(st.integers(0, len(drawn.shapes) - 1))
        if op in ("log", "log1p"):
            drawn.add(Call("softplus", (node,)))
            node = len(drawn.shapes) - 1
        call = _comparison(draw, op, drawn) if op in COMPARING else _call(draw, op, node, drawn.shapes, smooth=smooth)
        if call is not None:
            drawn.add(call)
    return drawn, arrays


def _comparison(draw: st.DrawFn, op: str, drawn: Drawn) -> Call | None:
    """A comparison of sources; or a choice by a source among any nodes. None if the nodes do not fit."""
    sources, nodes = st.integers(0, len(drawn.sources) - 1), st.integers(0, len(drawn.shapes) - 1)
    operands = [draw(sources), *((draw(nodes), draw(nodes)) if op == "select" else (draw(sources),))]
    fits = _fits(np.broadcast_arrays, *(drawn.shapes[operand] for operand in operands))
    return Call(op, tuple(operands)) if fits else None


def _call(  # noqa: C901, PLR0911, PLR0912  (one a form of op)
    draw: st.DrawFn, op: str, node: int, shapes: list[Shape], *, smooth: bool
) -> Call | None:
    """The op on this node and others; None if it does not fit."""
    shape = shapes[node]
    if op in ("add", "mul", "max"):
        others = [i for i, other in enumerate(shapes) if _fits(np.add, shape, other)]
        more = draw(st.lists(st.sampled_from(others), max_size=1 if op == "max" else 3))
        return Call(op, (node, *more)) if _fits(np.broadcast_arrays, *(shapes[i] for i in (node, *more))) else None
    if op == "matmul":
        others = [i for i, other in enumerate(shapes) if shape and other and _fits(np.matmul, shape, other)]
        return Call(op, (node, draw(st.sampled_from(others)))) if others else None
    if op == "power":
        return Call(op, (node,), {"exponent": draw(st.sampled_from([0.0, 1.0, 2.0, 3.0]))})
    if op in ("sum", "reduce_max", "logsumexp"):
        axes = draw(st.lists(st.sampled_from(range(-len(shape), 0)), unique=True)) if shape else []
        return Call(op, (node,), {"axes": tuple(axes), "keepdims": draw(st.booleans())})
    if op == "reshape":
        return Call(op, (node,), {"shape": draw(st.sampled_from([(-1,), (1, *shape), (*reversed(shape),)]))})
    if op == "transpose":
        return Call(op, (node,), {"axes": tuple(draw(st.permutations(range(len(shape)))))})
    if op == "take":
        if not shape:
            return None
        rows = st.integers(-shape[0], shape[0] - 1)
        return Call(op, (node,), {"rows": tuple(draw(st.lists(rows, min_size=1, max_size=4)))})
    if op in ("cumsum", "concatenate", "slice", "scatter_add") and not shape:
        return None
    axis = draw(st.integers(-len(shape), len(shape) - 1)) if shape else 0
    if op == "cumsum":
        return Call(op, (node,), {"axis": axis})
    if op == "concatenate":
        others = [i for i, other in enumerate(shapes) if _fits(lambda *x: np.concatenate(x, axis), shape, other)]
        return Call(op, (node, *draw(st.lists(st.sampled_from(others), max_size=2))), {"axis": axis})
    if op == "slice":
        own = [draw(st.sampled_from([(0, n, 1), (n - 1, n, -1), (n // 2, n - n // 2, 1)])) for n in shape]
        return Call(op, (node,), dict(zip(("starts", "sizes", "steps"), zip(*own, strict=True), strict=True)))
    if op == "scatter_add":
        rows, count = st.integers(-4, 3), shape[axis]
        given = tuple(draw(st.lists(rows, min_size=count, max_size=count)))
        return Call(op, (node,), {"axis": axis, "size": 4, "rows": given})
    if op == "scalars":
        nodes = (node, *draw(st.lists(st.integers(0, len(shapes) - 1), max_size=2)))
        ops = [op for op in PACKED[1:] if op not in (KINKED if smooth else COMPARING)]
        return Call(op, nodes, draw(swarms(sum(int(np.prod(shapes[i])) for i in nodes), ops=ops)))
    return Call(op, (node,))


def _fits(function: Callable[..., Any], *shapes: Shape) -> bool:
    try:
        function(*map(np.zeros, shapes))
    except ValueError:
        return False
    return True


class Library(NamedTuple):
    """What the libraries write differently."""

    array: Any
    """The module of array functions."""
    constant: Callable[[Any], Any]
    sigmoid: Callable[[Any], Any]
    softplus: Callable[[Any], Any]
    permute: Callable[[Any, Any], Any]
    erf: Callable[[Any], Any]
    largest: Callable[[Any, Any, bool], Any]
    log_total: Callable[[Any, Any, bool], Any]
    stopped: Callable[[Any], Any]


def _fold(function: Callable[[Any, Any], Any]) -> Write:
    def folded(_: Any, operands: Sequence[Any], __: Mapping[str, Any]) -> Any:
        result = operands[0]
        for operand in operands[1:]:
            result = function(result, operand)
        return result

    return folded


def _axes(x: Any, attributes: Mapping[str, Any]) -> Any:
    return attributes["axes"] or tuple(range(x.ndim))


def _sum(_: Any, operands: Sequence[Any], attributes: Mapping[str, Any]) -> Any:
    x = operands[0]
    if x.ndim == 0:
        return x
    keep = "keepdim" if isinstance(x, torch.Tensor) else "keepdims"
    return x.sum(_axes(x, attributes), **{keep: attributes["keepdims"]})


def _scalars(lib: Any, operands: Sequence[Any], attributes: Mapping[str, Any]) -> Any:
    elements = [x.reshape(-1)[i] for x in operands for i in range(int(np.prod(x.shape)))]
    given = [*elements, *(lib.constant(constant) for constant in attributes["constants"])]
    found = positions_of(attributes, given, lambda op, x, own: WRITE[op](lib, x, own))
    return lib.array.stack([found[place] for place in attributes["results"]])


def _select(lib: Library, operands: Sequence[Any], _: Mapping[str, Any]) -> Any:
    # Autograd's ``where`` does not broadcast backward.
    zeros = lib.constant(np.zeros(np.broadcast_shapes(*(x.shape for x in operands))))
    c, a, b = (x + zeros for x in operands)
    return lib.array.where(c != 0, a, b)


def _sliced(lib: Library, x: Any, attributes: Mapping[str, Any]) -> Any:
    for axis, own in enumerate(zip(attributes["starts"], attributes["sizes"], attributes["steps"], strict=True)):
        start, size, step = own
        x = lib.array.swapaxes(lib.array.swapaxes(x, 0, axis)[start + step * np.arange(size)], 0, axis)
    return x


def _scattered(lib: Library, x: Any, attributes: Mapping[str, Any]) -> Any:
    """Entries summed by index, as a product with ones and zeros."""
    axis, rows = attributes["axis"], list(attributes["rows"])
    ones = np.zeros((attributes["size"], len(rows)))
    ones[rows, np.arange(len(rows))] = 1
    return lib.array.swapaxes(lib.array.tensordot(lib.constant(ones), lib.array.swapaxes(x, 0, axis), 1), 0, axis)


WRITE: dict[str, Write] = {
    "add": _fold(lambda a, b: a + b),
    "mul": _fold(lambda a, b: a * b),
    "max": lambda lib, x, a: _fold(lib.array.maximum)(lib, x, a),
    "sigmoid": lambda lib, x, _: lib.sigmoid(x[0]),
    "exp": lambda lib, x, _: lib.array.exp(x[0]),
    "log": lambda lib, x, _: lib.array.log(x[0]),
    "tanh": lambda lib, x, _: lib.array.tanh(x[0]),
    "softplus": lambda lib, x, _: lib.softplus(x[0]),
    "power": lambda _, x, a: x[0] ** a["exponent"],
    "sin": lambda lib, x, _: lib.array.sin(x[0]),
    "cos": lambda lib, x, _: lib.array.cos(x[0]),
    "log1p": lambda lib, x, _: lib.array.log1p(x[0]),
    "expm1": lambda lib, x, _: lib.array.expm1(x[0]),
    "erf": lambda lib, x, _: lib.erf(x[0]),
    "less": lambda lib, x, _: lib.array.where(x[0] < x[1], lib.constant(ONE), lib.constant(0 * ONE)),
    "equal": lambda lib, x, _: lib.array.where(x[0] == x[1], lib.constant(ONE), lib.constant(0 * ONE)),
    "select": _select,
    "cumsum": lambda lib, x, a: lib.array.cumsum(x[0], a["axis"]),
    "concatenate": lambda lib, x, a: lib.array.concatenate(x, a["axis"]),
    "slice": lambda lib, x, a: _sliced(lib, x[0], a),
    "scatter_add": lambda lib, x, a: _scattered(lib, x[0], a),
    "sum": _sum,
    "reduce_max": lambda lib, x, a: lib.largest(x[0], _axes(x[0], a), a["keepdims"]) if x[0].ndim else x[0],
    "logsumexp": lambda lib, x, a: lib.log_total(x[0], _axes(x[0], a), a["keepdims"]) if x[0].ndim else x[0],
    "matmul": lambda lib, x, _: lib.array.matmul(*x),
    "reshape": lambda _, x, a: x[0].reshape(a["shape"]),
    "transpose": lambda lib, x, a: lib.permute(x[0], a["axes"]),
    "take": lambda _, x, a: x[0][list(a["rows"])],
    "stop_gradient": lambda lib, x, _: lib.stopped(x[0]),
    "scalars": _scalars,
}

TORCH = Library(
    array=torch,
    constant=torch.tensor,
    sigmoid=torch.sigmoid,
    softplus=lambda a: -F.logsigmoid(-a),
    permute=lambda a, axes: a.permute(axes),
    erf=torch.erf,
    largest=lambda a, axes, keep: a.amax(axes, keepdim=keep),
    log_total=lambda a, axes, keep: a.logsumexp(axes, keepdim=keep),
    stopped=torch.detach,
)
NUMPY = Library(
    array=anp,
    constant=np.asarray,
    sigmoid=expit,
    softplus=lambda a: anp.logaddexp(a, 0.0),
    permute=anp.transpose,
    erf=erf,
    largest=lambda a, axes, keep: anp.max(a, axis=axes, keepdims=keep),
    log_total=lambda a, axes, keep: logsumexp(a, axis=axes, keepdims=keep),
    stopped=autograd.tracer.getval,
)


def weights(shape: Shape) -> Any:
    """They tell the elements of a tensor apart."""
    return np.linspace(1, 2, int(np.prod(shape))).reshape(shape)


def engine_graph(drawn: Drawn) -> Builder:
    """The graph as the engine takes it."""
    builder = Builder()
    for name, shape, per_example in drawn.sources:
        if per_example:
            builder.input(name, shape, per_example=True)
        else:
            builder.parameter(name, shape)
    # Indices are nodes of their own, so places shift.
    places = list(range(len(drawn.sources)))
    for call in drawn.calls:
        operands = [places[operand] for operand in call.operands]
        attributes = dict(call.attributes)
        if "rows" in attributes:
            operands.append(builder.constant(np.array(attributes.pop("rows"), np.int64)))
        places.append(builder.op(call.op, *operands, **attributes))
    ends = drawn.loose_ends()
    terms = [
        builder.op("sum", builder.op("mul", places[end], builder.constant(weights(drawn.shapes[end])))) for end in ends
    ]
    builder.op("add", *terms, builder.constant(0.0))
    return builder


def loss_in(library: Library, drawn: Drawn, sources: Sequence[Any]) -> tuple[Any, list[Any]]:
    """The loss of one example as a library computes it, and every value on the way."""
    values = list(sources)
    for call in drawn.calls:
        values.append(WRITE[call.op](library, [values[operand] for operand in call.operands], call.attributes))
    terms = [(values[end] * library.constant(weights(drawn.shapes[end]))).sum() for end in drawn.loose_ends()]
    # Packed operations may give constants alone, of which the libraries would know no gradient.
    total = sum((source * 0.0).sum() for source in sources)
    for term in terms:
        total = total + term
    return total, values


def by_example(drawn: Drawn, arrays: Mapping[str, Any]) -> list[list[Any]]:
    """The sources of each example."""
    counts = [len(arrays[name]) for name, _, per_example in drawn.sources if per_example]
    return [
        [arrays[name][example] if per_example else arrays[name] for name, _, per_example in drawn.sources]
        for example in range(counts[0] if counts else 1)
    ]


def slopes_of_torch(drawn: Drawn, sources: Sequence[Any]) -> tuple[float, list[Any], float]:
    """Loss, gradients, and the largest magnitude on the way."""
    tensors = [torch.tensor(source, requires_grad=True) for source in sources]
    loss, values = loss_in(TORCH, drawn, tensors)
    loss.backward()
    largest = max((float(value.detach().abs().max()) for value in values if value.numel()), default=0.0)
    return float(loss.detach()), [t.grad for t in tensors], largest


@SETTINGS
@given(graphs(smooth=False))
def test_value_and_gradient_are_those_of_torch_and_autograd(case: tuple[Drawn, dict[str, Any]]) -> None:
    drawn, arrays = case
    program = engine_graph(drawn).program(ties=Ties.SPLIT)
    names = tuple(name for name, _, _ in drawn.sources)
    together = evaluate(program, arrays, wrt=names, reduction=Reduction.NONE)
    losses = np.atleast_1d(together.loss)
    batched = any(per_example for _, _, per_example in drawn.sources)
    for example, sources in enumerate(by_example(drawn, arrays)):
        loss, slopes, largest = slopes_of_torch(drawn, sources)
        np.testing.assert_allclose(losses[example], loss, rtol=1e-9, atol=1e-9 * min(largest, MODERATE))
        if together.non_finite is not None or largest > MODERATE:
            continue
        with np.errstate(all="ignore"):
            again = autograd.grad(lambda *s: loss_in(NUMPY, drawn, s)[0], tuple(range(len(sources))))(*sources)
        for name, slope, other in zip(names, slopes, again, strict=True):
            ours = together.gradients[name][example] if batched else together.gradients[name]
            scale = max(1.0, largest, float(np.abs(ours).max(initial=0)))
            np.testing.assert_allclose(ours, slope.numpy(), rtol=1e-9, atol=1e-11 * scale)
            np.testing.assert_allclose(ours, other, rtol=1e-9, atol=1e-11 * scale)


@SETTINGS
@given(graphs(smooth=False))
def test_a_report_of_non_finite_numbers_comes_when_and_only_when_there_are_some(
    case: tuple[Drawn, dict[str, Any]],
) -> None:
    drawn, arrays = case
    program = engine_graph(drawn).program()
    names = tuple(name for name, _, _ in drawn.sources)
    floats = tuple(n for n, node in enumerate(engine_graph(drawn).nodes) if node.constant.value.dtype != DTYPE_INT64)
    result = evaluate(program, arrays, wrt=names, reduction=Reduction.NONE, outputs=floats)
    seen = [result.loss, *result.gradients.values(), *result.outputs.values()]
    if any(not np.isfinite(array).all() for array in seen):
        assert result.non_finite is not None
    elif result.non_finite is not None:
        # A gradient on the way.
        assert result.non_finite.phase.value == "gradient"


def place_of(report: NonFinite | None) -> Any:
    """What a report says, but for numbers, which depend on the order of sums."""
    if report is None:
        return None
    return report.phase, report.node, report.example, report.position, tuple(o.name for o in report.operands)


@SETTINGS
@given(graphs(smooth=False), st.lists(st.integers(0, 99), min_size=1, max_size=3))
def test_a_report_of_non_finite_numbers_is_the_same_for_every_reduction_and_in_a_trace(
    case: tuple[Drawn, dict[str, Any]], roots: list[int]
) -> None:
    drawn, arrays = case
    arrays = {name: np.abs(array) for name, array in arrays.items()}
    for place in roots:
        # Its slope at zero is infinite.
        drawn.add(Call("power", (place % len(drawn.shapes),), {"exponent": 0.5}))
    program = engine_graph(drawn).program()
    names = tuple(name for name, _, _ in drawn.sources)
    reports = [evaluate(program, arrays, wrt=names, reduction=reduction).non_finite for reduction in Reduction]
    assert len({place_of(report) for report in reports}) == 1
    report = reports[0]
    if report is not None:
        example = by_example(drawn, arrays)[report.example or 0]
        one = dict(zip(names, map(np.asarray, example), strict=True))
        traced = trace(program.checked, one, np.dtype(np.float64)).non_finite
        assert place_of(traced) == place_of(replace(report, example=None))


@SETTINGS
@given(graphs(smooth=False), st.sampled_from(list(Reduction)))
def test_reductions_are_sums_and_means_of_single_examples(
    case: tuple[Drawn, dict[str, Any]], reduction: Reduction
) -> None:
    drawn, arrays = case
    program = engine_graph(drawn).program()
    names = tuple(name for name, _, _ in drawn.sources)
    apart = evaluate(program, arrays, wrt=names, reduction=Reduction.NONE)
    if apart.non_finite is not None or apart.loss.ndim == 0:
        return
    result = evaluate(program, arrays, wrt=names, reduction=reduction)
    count = len(apart.loss)
    share = 1 / count if reduction is Reduction.MEAN else 1
    for name, _, per_example in drawn.sources:
        expected = apart.gradients[name]
        if reduction is not Reduction.NONE:
            expected = expected * share if per_example else expected.sum(axis=0) * share
        scale = float(np.abs(apart.gradients[name]).sum())
        np.testing.assert_allclose(result.gradients[name], expected, rtol=1e-9, atol=1e-12 * scale)


@SETTINGS
@given(
    graphs(smooth=True),
    st.sampled_from(list(Ties)),
    st.sampled_from([1, 3, 700]),
    st.sampled_from([np.float64, np.float32]),
)
def test_the_machine_gives_what_the_reference_gives(
    case: tuple[Drawn, dict[str, Any]], ties: Ties, times: int, dtype: type
) -> None:
    drawn, arrays = case
    more = {
        name: np.concatenate([arrays[name]] * times) if per_example else arrays[name]
        for name, _, per_example in drawn.sources
    }
    program = engine_graph(drawn).program(ties=ties)
    names = tuple(more)
    apart = evaluate(program, more, dtype, wrt=names, reduction=Reduction.NONE)
    batched = any(per_example for _, _, per_example in drawn.sources)
    checked = program.checked
    wanted = checked.active([program.facts.by_name[name].node for name in names])
    for example, sources in enumerate(by_example(drawn, arrays)):
        one: dict[str, Any] = {name: np.asarray(x, dtype) for name, x in zip(names, sources, strict=True)}
        values = forward(checked, one, np.dtype(dtype), needed(checked, [checked.graph.loss]))
        gradients = backward(checked, values, wanted)
        tolerance = 1e4 * float(np.finfo(dtype).eps)
        loss = apart.loss[example] if batched else apart.loss
        np.testing.assert_allclose(loss, values[checked.graph.loss], rtol=tolerance, atol=tolerance)
        for name in names:
            node = program.facts.by_name[name].node
            ours = apart.gradients[name][example] if batched else apart.gradients[name]
            reference = gradients[node] if wanted[node] else np.zeros_like(ours)
            scale = max(1.0, float(np.abs(reference).max(initial=0)))
            np.testing.assert_allclose(ours, reference, rtol=tolerance, atol=tolerance * scale)


@SETTINGS
@given(graphs(smooth=True))
def test_gradient_is_that_of_finite_differences(case: tuple[Drawn, dict[str, Any]]) -> None:
    drawn, arrays = case
    program = engine_graph(drawn).program()
    names = tuple(name for name, _, _ in drawn.sources)
    result = evaluate(program, arrays, wrt=names, reduction=Reduction.SUM)
    _, _, largest = max((slopes_of_torch(drawn, sources) for sources in by_example(drawn, arrays)), key=lambda t: t[2])
    stopped = any(call.op == "stop_gradient" for call in drawn.calls)
    if result.non_finite is not None or largest > 100 or stopped:
        return
    for name in names:
        places = list(np.ndindex(arrays[name].shape))[:6]
        for place in places:
            slopes = []
            for step in (1e-4, 5e-5):
                moved = []
                for sign in (1, -1):
                    array = arrays[name].copy()
                    array[place] += sign * step
                    sums = evaluate(program, arrays | {name: array}, wrt=(), reduction=Reduction.SUM)
                    moved.append(float(sums.loss))
                slopes.append((moved[0] - moved[1]) / (2 * step))
            # Richardson's extrapolation: the error falls with the fourth power of the step.
            numeric = (4 * slopes[1] - slopes[0]) / 3
            scale = max(1.0, largest, abs(numeric))
            np.testing.assert_allclose(result.gradients[name][place], numeric, rtol=1e-5, atol=1e-7 * scale)


def test_every_op_is_drawn_and_written() -> None:
    assert set(WRITE) == DRAWN
