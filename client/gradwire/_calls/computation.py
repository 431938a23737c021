"""A loss with how to reduce and differentiate it, and the course of each call."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any, TypeAlias, TypedDict

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from gradwire._arrays import NUMBERS, Array, as_array, convert, encode_tensor, float_dtype, is_text
from gradwire._calls.holders import Holders
from gradwire._calls.results import CheckReport, Result, Trace, decode_check, decode_result
from gradwire._calls.steps import Answer, Compute, Steps, Unary
from gradwire._errors import GradwireError, GraphNotFoundError, InvalidGraphError, InvalidRequestError
from gradwire._expressions.expression import Expression
from gradwire._expressions.sources import input as input_
from gradwire._expressions.sources import parameter
from gradwire._graphs.graph import Outputs, build_graph, output_names, trace_function
from gradwire._numbers import real, whole
from gradwire.v1 import gradient_service_pb2 as pb
from gradwire.v1 import graph_pb2, tensor_pb2

Loss: TypeAlias = Expression | graph_pb2.Graph | Callable[..., Any]
Names: TypeAlias = str | Sequence[str]

MAX_PROBES = 2**32 - 1
"""What the contract's field holds."""

REDUCTIONS = {"mean": pb.REDUCTION_MEAN, "sum": pb.REDUCTION_SUM, "none": pb.REDUCTION_NONE}


@dataclass(slots=True)
class Problem:
    """A graph, and what its sources and outputs are."""

    graph: graph_pb2.Graph
    outputs: dict[str, int]
    """Indices of the nodes to return, by name."""
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    integers: set[str] = field(default_factory=set)
    per_example: set[str] = field(default_factory=set)
    parameters: list[str] = field(default_factory=list)
    graph_id: str = ""
    """Empty until a server has told it."""
    holders: Holders = field(init=False)
    kept: Any = None
    """What the engine in this process has made of it."""

    def __post_init__(self) -> None:
        self.holders = Holders(self.graph.ByteSize())
        for node in self.graph.nodes:
            kind = node.WhichOneof("kind")
            if kind == "parameter":
                self.parameters.append(node.name)
                self.shapes[node.name] = tuple(node.parameter.shape)
            elif kind == "input":
                self.shapes[node.name] = tuple(node.input.shape)
                if node.input.dtype == tensor_pb2.DTYPE_INT64:
                    self.integers.add(node.name)
                if node.input.per_example:
                    self.per_example.add(node.name)


def problem_of(
    loss: Expression | graph_pb2.Graph,
    ties: str,
    outputs: Outputs,
    sources: Iterable[Expression] = (),
    *,
    packed: bool = True,
) -> Problem:
    """The problem of an expression, or of a graph, whose outputs are given by name.

    Args:
        loss: What to compute.
        ties: As for ``gw.graph``; a graph has its own.
        outputs: What to return too.
        sources: To keep in the graph, also where the loss does not need them.
        packed: Whether operations on scalars may be packed.

    Raises:
        InvalidGraphError: See ``gw.graph``; or a graph has no node of an output's name.
    """
    if isinstance(loss, graph_pb2.Graph):
        message = loss
        names = [] if outputs is None else _names(outputs)
    else:
        named = output_names(outputs)
        message = build_graph(loss, ties, named, sources, packed=packed)
        names = list(named)
    places = {node.name: index for index, node in enumerate(message.nodes) if node.name}
    for name in names:
        if name not in places:
            raise InvalidGraphError(f'output "{name}": the graph has no node of this name', node=name)
    return Problem(message, {name: places[name] for name in names})


class Options(TypedDict, total=False):
    """How to reduce and differentiate a loss."""

    reduction: str
    """How the losses of the examples become one: ``"mean"`` (default), ``"sum"``; or ``"none"``, which gives N losses
    and a gradient for each example."""
    wrt: Names | None
    """Names of the sources to differentiate in. Default: all parameters."""
    ties: str
    """``"zero"`` (default) or ``"split"``, see ``gw.graph``; a ``Graph`` has its own."""
    dtype: DTypeLike | None
    """``"float32"`` or ``"float64"``; arrays are cast to it. Default: that of the arrays, which must agree; float64 if
    none has one."""
    outputs: Outputs
    """Nodes to return too: expressions by name, named expressions, or names of a ``Graph``'s nodes."""
    inputs: Names
    """Arguments of a Python function that are data, the same for all examples."""
    per_example: Names
    """Arguments of a Python function that are data with one more leading axis, of examples."""
    reject_non_finite: bool
    """Whether an infinity or NaN raises ``NonFiniteError`` instead of being reported."""


class Computation:
    """A loss with how to reduce and differentiate it, for one client.

    Raises:
        InvalidGraphError: The graph breaks a rule that is checked here.
        InvalidRequestError: An option is unknown.
    """

    _packed = True
    """Whether operations on scalars may be packed."""

    def __init__(
        self,
        loss: Loss,
        *,
        reduction: str = "mean",
        wrt: Names | None = None,
        ties: str = "zero",
        dtype: DTypeLike | None = None,
        outputs: Outputs = None,
        inputs: Names = (),
        per_example: Names = (),
        reject_non_finite: bool = False,
    ) -> None:
        if not isinstance(reduction, str) or reduction not in REDUCTIONS:  # type: ignore[redundant-expr]  # as a caller gives it
            raise InvalidRequestError(f"reduction={reduction!r} is unknown; choose {', '.join(map(repr, REDUCTIONS))}")
        if not isinstance(reject_non_finite, bool | np.bool_):
            raise InvalidRequestError(f"reject_non_finite={reject_non_finite!r:.64} is neither True nor False")
        self._ties = ties
        self._outputs = outputs
        self._dtype = float_dtype(dtype)
        self.reduction = reduction
        self.rejects = bool(reject_non_finite)
        """Whether what is not finite is an error."""
        self._inputs = frozenset(_names(inputs))
        self._per_example = frozenset(_names(per_example))
        self._template = pb.ComputeGradientsRequest(reduction=REDUCTIONS[reduction], reject_non_finite=self.rejects)
        self.wrt = None if wrt is None else tuple(_names(wrt))
        """Names of the sources to differentiate in; None for all parameters."""
        if self.wrt is not None:
            self._template.wrt.names.extend(self.wrt)
            self._template.wrt.SetInParent()
        self._traced: dict[object, Problem] = {}
        self._problem: Problem | None = None
        if isinstance(loss, Expression | graph_pb2.Graph):
            if self._inputs or self._per_example:
                raise InvalidRequestError("inputs= and per_example= are for Python functions; here the graph says it")
            self._problem = problem_of(loss, ties, outputs, packed=self._packed)
        elif callable(loss):
            self._function: Callable[..., Any] = loss
        else:
            raise InvalidRequestError(
                f"a loss is an expression, a graph or a function of arrays; found {type(loss).__name__}"
            )

    # The courses of the calls.

    def run(self, values: Mapping[str, ArrayLike]) -> Steps[Result]:
        """Evaluate and differentiate; registers the graph where it is not known."""
        problem, arrays, dtype = self.prepared(values)
        if not problem.graph_id:
            yield from self.register(problem)
        asked = problem.holders.by_id()
        if asked is not None:
            try:
                answer = yield self.compute(problem, arrays, dtype)
            except GraphNotFoundError:
                # Another replica, or one that was restarted. The next call may reach yet another one, so that the
                # graph goes with the request.
                problem.holders.missed(asked)
            except GradwireError:
                problem.holders.answered(asked, found=False)
                raise
            else:
                problem.holders.answered(asked, found=True)
                return self.result(problem, answer)
        answer = yield self.compute(problem, arrays, dtype, inline=True)
        return self.result(problem, answer)

    def register(self, problem: Problem) -> Steps[None]:
        """Make the graph known to the server."""
        response = yield Unary("RegisterGraph", pb.RegisterGraphRequest(graph=problem.graph))
        problem.graph_id = response.graph_id

    def compute(
        self, problem: Problem, arrays: Mapping[str, Array], dtype: np.dtype[Any], *, inline: bool = False
    ) -> Compute:
        """The one step that computes; ``inline`` sends the graph itself, which a server then holds."""
        request = pb.ComputeGradientsRequest()
        request.CopyFrom(self._template)
        if inline:
            request.graph.CopyFrom(problem.graph)
        else:
            request.graph_id = problem.graph_id
        request.dtype = NUMBERS[dtype]
        request.outputs.extend(problem.outputs.values())
        return Compute(request, arrays, self._reply_bytes(problem, arrays, dtype.itemsize))

    def result(self, problem: Problem, answer: Answer) -> Result:
        """What the caller gets."""
        return decode_result(answer.response, answer.framed, problem.outputs, answer.request_id)

    def check(
        self, values: Mapping[str, ArrayLike], step: float | None, tolerance: float | None, max_probes: int | None
    ) -> Steps[CheckReport]:
        """The gradient against finite differences."""
        for option, given in (("step", step), ("tolerance", tolerance)):
            if given is not None and real(given) is None:
                raise InvalidRequestError(f"{option}={given!r:.64} is no number")
        if max_probes is not None and not 1 <= (whole(max_probes) or 0) <= MAX_PROBES:
            raise InvalidRequestError(f"max_probes={max_probes!r:.64}: expected an integer from 1 to {MAX_PROBES}")
        problem, arrays, dtype = self.prepared(values)
        request = pb.CheckGradientsRequest(
            graph=problem.graph,
            dtype=NUMBERS[dtype],
            tensors=_tensors(arrays),
            reduction=self._template.reduction,
            wrt=self._template.wrt if self.wrt is not None else None,
            step=real(step),
            tolerance=real(tolerance),
            max_probes=whole(max_probes),
        )
        response = yield Unary("CheckGradients", request)
        return decode_check(response)

    # What they need.

    def prepared(
        self, values: Mapping[str, ArrayLike], *, examples: bool = True
    ) -> tuple[Problem, dict[str, Array], np.dtype[Any]]:
        """The graph for these values, and they as arrays of one dtype.

        Args:
            values: As the caller gives them.
            examples: Whether per-example arrays have an axis of examples; a trace has one example, without it.
        """
        problem = self._problem or self._traced_for(values, examples=examples)
        return (problem, *convert(values, problem.integers, self._dtype))

    def _traced_for(self, values: Mapping[str, ArrayLike], *, examples: bool) -> Problem:
        """The graph that the function makes of arrays of these shapes."""
        arrays = {name: as_array(name, value) for name, value in values.items()}
        data = self._inputs | self._per_example
        shapes = {
            name: a.shape[1:] if examples and name in self._per_example else a.shape for name, a in arrays.items()
        }
        whole = {name for name, array in arrays.items() if name in data and array.dtype.kind in "iu"}
        key = tuple(sorted((name, shape, name in whole) for name, shape in shapes.items()))
        if key not in self._traced:
            _check_arguments(self._function, arrays, data)
            self._traced[key] = self._trace(shapes, whole)
        return self._traced[key]

    def _trace(self, shapes: Mapping[str, tuple[int, ...]], whole: set[str]) -> Problem:
        """Trace the function. Data of whole numbers are row indices, unless the function computes with them."""
        data = self._inputs | self._per_example
        sources = {
            name: input_(name, shape, per_example=name in self._per_example, dtype="int64" if name in whole else None)
            if name in data
            else parameter(name, shape)
            for name, shape in shapes.items()
        }
        try:
            loss = trace_function(self._function, sources)
        except InvalidGraphError as error:
            if error.node in whole:
                return self._trace(shapes, whole - {error.node})
            raise
        return problem_of(loss, self._ties, self._outputs, sources.values(), packed=self._packed)

    def _reply_bytes(self, problem: Problem, arrays: Mapping[str, Array], itemsize: int) -> int:
        examples = next((len(arrays[name]) for name in problem.per_example if name in arrays and arrays[name].ndim), 1)
        elements = 0
        for name in problem.parameters if self.wrt is None else self.wrt:
            separate = self.reduction == "none" or name in problem.per_example
            elements += prod(problem.shapes.get(name, ())) * (examples if separate else 1)
        return elements * itemsize


class Tracing(Computation):
    """A computation that is looked at: every operation has a node of its own."""

    _packed = False

    def trace(self, values: Mapping[str, ArrayLike]) -> Steps[Trace]:
        """Every value and gradient of one example."""
        problem, arrays, dtype = self.prepared(values, examples=False)
        request = pb.TraceGraphRequest(graph=problem.graph, dtype=NUMBERS[dtype], tensors=_tensors(arrays))
        response = yield Unary("TraceGraph", request)
        return Trace(problem.graph, response)


def _names(names: object) -> list[str]:
    try:
        listed: list[Any] = [names] if isinstance(names, str) else list(names)  # type: ignore[call-overload]  # see below
    except TypeError:
        listed = [names]
    odd = [name for name in listed if not is_text(name)]
    if odd:
        raise InvalidRequestError(f"names are strings; found {odd[0]!r:.64}; give text that UTF-8 can hold")
    return listed


def _check_arguments(function: Callable[..., Any], arrays: Mapping[str, Array], data: frozenset[str]) -> None:
    called = getattr(function, "__name__", repr(function))
    try:
        inspect.signature(function).bind(**arrays)
    except TypeError as error:
        raise InvalidRequestError(f"function {called} does not take the arrays {sorted(arrays)}: {error}") from None
    except ValueError:  # it has no signature; calling it will tell
        pass
    absent = sorted(data - set(arrays))
    if absent:
        raise InvalidRequestError(f'function {called}: no array is given for input "{absent[0]}"', node=absent[0])


def _tensors(arrays: Mapping[str, Array]) -> dict[str, tensor_pb2.Tensor]:
    return {name: encode_tensor(array) for name, array in arrays.items()}
