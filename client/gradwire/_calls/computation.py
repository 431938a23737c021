"""A loss with how to reduce and differentiate it, and the course of each call."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from math import prod
from typing import Any, TypeAlias, TypedDict, cast

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from gradwire._arrays import NUMBERS, Array, convert, encode_tensor, float_dtype, merged
from gradwire._calls.examples import KEYWORD, Examples, Stored, WithColumns, columns_in, stored_of
from gradwire._calls.forms import Form, Leaves
from gradwire._calls.graphs import Graphs
from gradwire._calls.layouts import Layout
from gradwire._calls.problem import Problem, names_of, problem_of
from gradwire._calls.results import CheckReport, Result, Trace, decode_check
from gradwire._calls.steps import Answer, Compute, Steps, Unary
from gradwire._calls.stored import by_id_or_rows, with_examples
from gradwire._calls.traced import Traced
from gradwire._errors import GradwireError, GraphNotFoundError, InvalidRequestError, ServerError
from gradwire._expressions.expression import Expression
from gradwire._graphs.graph import Outputs
from gradwire._numbers import real, whole
from gradwire.v1 import gradient_service_pb2 as pb
from gradwire.v1 import graph_pb2, tensor_pb2

Loss: TypeAlias = Expression | graph_pb2.Graph | Callable[..., Any]
Names: TypeAlias = str | Sequence[str]

MAX_PROBES = 2**32 - 1
"""What the contract's field holds."""

REDUCTIONS = {"mean": pb.REDUCTION_MEAN, "sum": pb.REDUCTION_SUM, "none": pb.REDUCTION_NONE}


class Options(TypedDict, total=False):
    """How to reduce and differentiate a loss."""

    reduction: str
    """How the losses of the examples become one: ``"mean"`` (default), ``"sum"``; or ``"none"``, which gives N losses
    and a gradient for each example."""
    wrt: Names | None
    """Names of the sources to differentiate in, or of the arguments of a Python function. Default: all parameters; of a
    function that is called with positional arguments the first one, as in JAX."""
    ties: str
    """``"zero"`` (default) or ``"split"``, see ``gw.graph``; a ``Graph`` has its own."""
    dtype: DTypeLike | None
    """``"float32"`` or ``"float64"``; arrays are cast to it. Default: that of the arrays, which must agree; float64 if
    none has one."""
    outputs: Outputs
    """Nodes to return too: expressions by name, named expressions, or names of a ``Graph``'s nodes."""
    inputs: Names
    """Arguments of a Python function that are data, the same for all examples; those by keyword beside positional ones
    are so by themselves."""
    per_example: Names
    """Arguments of a Python function, or leaves of them such as ``"batch.x"``, that are data with one more leading
    axis, of examples."""
    reject_non_finite: bool
    """Whether an infinity or NaN raises ``NonFiniteError`` instead of being reported."""
    has_aux: bool
    """Whether a Python function returns a pair, the loss and a pytree of expressions, and a call ``((loss, aux),
    gradients)``, as in JAX."""


class Computation:
    """A loss with how to reduce and differentiate it, for one client.

    Args:
        loss: What to compute.
        graphs: Those of the client.
        reduction: See ``Options``, as of all that follow.

    Raises:
        InvalidGraphError: The graph breaks a rule that is checked here.
        InvalidRequestError: An option is unknown.
    """

    _packed = True
    """Whether operations on scalars may be packed."""

    def __init__(  # noqa: PLR0913  (the options, by name)
        self,
        loss: Loss,
        *,
        graphs: Graphs | None = None,
        reduction: str = "mean",
        wrt: Names | None = None,
        ties: str = "zero",
        dtype: DTypeLike | None = None,
        outputs: Outputs = None,
        inputs: Names = (),
        per_example: Names = (),
        reject_non_finite: bool = False,
        has_aux: bool = False,
    ) -> None:
        if not isinstance(reduction, str) or reduction not in REDUCTIONS:  # type: ignore[redundant-expr]  # as a caller gives it
            raise InvalidRequestError(f"reduction={reduction!r} is unknown; choose {', '.join(map(repr, REDUCTIONS))}")
        for option, flag in (("reject_non_finite", reject_non_finite), ("has_aux", has_aux)):
            if not isinstance(flag, bool | np.bool_):
                raise InvalidRequestError(f"{option}={flag!r:.64} is neither True nor False")
        self._dtype = float_dtype(dtype)
        self.reduction = reduction
        self.rejects = bool(reject_non_finite)
        """Whether what is not finite is an error."""
        self.has_aux = bool(has_aux)
        """Whether a call returns what the function returned beside the loss."""
        self._reduction = REDUCTIONS[reduction]
        self._last: Layout | None = None
        """That of the last call; nearly all calls have the same."""
        own, each = names_of(inputs), names_of(per_example)
        names = None if wrt is None else tuple(names_of(wrt))
        make = partial(problem_of, ties=ties, packed=self._packed, graphs=graphs)
        if isinstance(loss, Expression | graph_pb2.Graph):
            if own or each or has_aux:
                raise InvalidRequestError(
                    "inputs=, per_example= and has_aux= are for Python functions; here the graph says it"
                )
            self._problem: Problem | None = make(loss, outputs=outputs)
            self._problem.wrt = names
            each = sorted(self._problem.examples)
        elif callable(loss):
            if outputs is not None:
                raise InvalidRequestError(
                    "outputs= is for expressions and graphs; a function returns them, with has_aux"
                )
            self._problem = None
            alone = wrt if isinstance(wrt, str) else names
            self._traced = Traced(loss, inputs=own, per_example=each, wrt=alone, has_aux=self.has_aux, make=make)
        else:
            raise InvalidRequestError(
                f"a loss is an expression, a graph or a function of arrays; found {type(loss).__name__}"
            )

        self.per_example = tuple(each)
        """Names of inputs, or of arguments, that have an axis of examples."""

    def values(self, given: Sequence[Any], named: Mapping[str, Any]) -> Mapping[str, ArrayLike]:
        """The arrays of a call by name.

        Args:
            given: Positional arguments: those of a function, or one mapping.
            named: Keyword arguments.

        Raises:
            InvalidRequestError: A name is given twice, or is none; or there is no such argument.
        """
        if KEYWORD in named and type(named[KEYWORD]) is Examples:
            return self._with_examples(given, dict(named))
        if self._problem is None:
            return self._traced.flatten(given, named)
        if len(given) > 1:
            raise InvalidRequestError(
                f"arrays are given by name, as keywords or in one mapping; found {len(given)} values"
            )
        last, only = self._last, named if not given else given[0] if not named else None
        if last is not None and type(only) is dict and only.keys() == last.names:
            return dict(only)
        return merged(given[0] if given else None, named)

    def _with_examples(self, given: Sequence[Any], named: dict[str, Any]) -> WithColumns:
        """The arrays of a call, with columns for those that are examples; which of these it does not take are left."""
        examples: Examples = named.pop(KEYWORD)
        if self._problem is None:
            columns = self._traced.taken(examples.arguments())
        else:
            needed = self._problem.per_example | self._problem.examples
            columns = {name: column for name, column in examples.columns().items() if name in needed}
            if not columns:
                raise InvalidRequestError(
                    f"{examples} have no per-example input of the graph; it has {', '.join(sorted(needed)) or 'none'}"
                )
        values: Mapping[str, Any] = named if self._problem is None else self.values(given, named)
        twice = sorted(columns.keys() & values.keys())
        if twice:
            raise InvalidRequestError(f'array "{twice[0]}" is given twice, by itself and in examples', node=twice[0])
        if self._problem is not None:
            return WithColumns(values, **columns)
        leaves = self._traced.flatten(given, {**values, **columns})
        found = WithColumns(leaves)
        found.form = leaves.form
        return found

    def answer(self, result: Result) -> tuple[Any, Any]:
        """What a plain call returns of a result."""
        return ((result.loss, result.outputs) if self.has_aux else result.loss), result.gradients

    # The courses of the calls.

    def run(self, values: Mapping[str, ArrayLike]) -> Steps[Result]:
        """Evaluate and differentiate; registers the graph, and uploads examples, where they are not known."""
        layout, arrays, stored = self.asked(values)
        if stored is None:
            return self._run(layout, arrays)
        return by_id_or_rows(
            stored,
            lambda: self._run(layout, arrays, stored),
            lambda: self._run(*self.with_rows(layout, arrays, stored)),
        )

    def _run(self, layout: Layout, arrays: Mapping[str, Array], stored: Stored | None = None) -> Steps[Result]:
        """Compute with these arrays and examples, by the id of the graph where a server has that."""
        problem = layout.problem
        if not problem.known.by_id:
            yield from self.register(problem)
        holders = problem.known.holders
        asked = holders.by_id()
        if asked is not None:
            try:
                answer = yield self.compute(layout, arrays, stored)
            except GraphNotFoundError:
                # Another replica, or one that was restarted. The next call may reach yet another one, so that the
                # graph goes with the request.
                holders.missed(asked)
            except GradwireError:
                holders.answered(asked, found=False)
                raise
            else:
                holders.answered(asked, found=True)
                return self.result(problem, answer)
        answer = yield with_graph(problem, self.compute(layout, arrays, stored))
        return self.result(problem, answer)

    def register(self, problem: Problem) -> Steps[None]:
        """Make the graph known to the server."""
        response = yield Unary("RegisterGraph", pb.RegisterGraphRequest(graph=problem.graph))
        problem.known.by_id = pb.ComputeGradientsRequest(graph_id=response.graph_id).SerializeToString()

    def compute(self, layout: Layout, arrays: Mapping[str, Array], stored: Stored | None = None) -> Compute:
        """The one step that computes, of the graph with this id."""
        step = Compute(
            layout.problem.known.by_id,
            layout.asked,
            arrays,
            layout.before,
            layout.request_bytes,
            layout.reply_bytes,
            by_id=True,
        )
        return step if stored is None else with_examples(step, stored)

    def _asked(self, problem: Problem, dtype: np.dtype[Any]) -> bytes:
        """What a request has beside the graph and tensors, serialized."""
        request = pb.ComputeGradientsRequest(
            reduction=self._reduction,
            reject_non_finite=self.rejects,
            dtype=NUMBERS[dtype],
            outputs=problem.outputs.values(),
        )
        if problem.wrt is not None:
            request.wrt.names.extend(problem.wrt)
            request.wrt.SetInParent()
        elements = {True: 0, False: 0}
        for name in problem.parameters if problem.wrt is None else problem.wrt:
            elements[self.reduction == "none" or name in problem.per_example] += prod(problem.shapes.get(name, ()))
        problem.separate_elements, problem.shared_elements = elements[True], elements[False]
        return request.SerializeToString()

    def result(self, problem: Problem, answer: Answer) -> Result:
        """What the caller gets."""
        arrays, told = problem.replies.read(answer.response)
        if answer.framed:
            arrays.update(answer.framed)
            arrays = {key: arrays[key] for key in sorted(arrays, key=str)}
        try:
            loss = arrays.pop(None)[()]
            outputs = {name: arrays.pop(index) for name, index in problem.outputs.items()} if problem.outputs else {}
            gradients, aux, flat = problem.nested(arrays, outputs)
        except KeyError as error:
            raise ServerError(f"the server sent no tensor {error}; it may be newer than this client") from None
        return Result(loss, gradients, aux, told, answer.request_id, flat)

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
            reduction=self._reduction,
            wrt=None if problem.wrt is None else pb.SourceNames(names=problem.wrt),
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
        problem = self._problem or self._traced.problem(cast("Leaves", values), examples=examples)
        return (problem, *convert(problem.fed(values), problem.integers, self._dtype))

    def ready(self, values: Mapping[str, ArrayLike]) -> tuple[Problem, Mapping[str, Array], np.dtype[Any]]:
        """What ``prepared`` gives, at once for values that are laid out like those of the last call."""
        if type(values) is WithColumns:
            return self.prepared(values)
        layout, arrays, _ = self.asked(values)
        return layout.problem, arrays, layout.dtype

    def asked(self, values: Mapping[str, Any]) -> tuple[Layout, Mapping[str, Array], Stored | None]:
        """The arrays of a call and their layout, without those of examples that a server may keep, and these."""
        form: Form | None = None if self._problem is not None else values.form  # type: ignore[attr-defined]  # of a function they are leaves
        last = self._last
        ready = None if last is None else last.arrays(values, form)
        if last is not None and ready is not None:
            return last, ready, None
        columns = columns_in(values) if type(values) is WithColumns else None
        if not columns:
            problem, arrays, dtype = self.prepared(values)
            self._last = layout = self._laid_out(problem, arrays, dtype, form)
            return layout, arrays, None
        nothing: Mapping[str, Any] = {name: column.none for name, column in columns.items()}
        problem = self._problem or self._traced.problem(cast("Leaves", values), examples=True)
        columns = dict(problem.fed(columns))
        arrays, dtype = convert(problem.fed({**values, **nothing}), problem.integers, self._dtype)
        stored = stored_of(columns, {name: arrays.pop(name).dtype for name in columns})
        return self._laid_out(problem, arrays, dtype, form, len(stored.rows)), arrays, stored

    def with_rows(
        self, layout: Layout, arrays: Mapping[str, Array], stored: Stored
    ) -> tuple[Layout, Mapping[str, Array]]:
        """The arrays of a call and their layout, with the rows of examples that no server keeps."""
        every = {**arrays, **stored.arrays()}
        return self._laid_out(layout.problem, every, layout.dtype, layout.form), every

    def _laid_out(
        self,
        problem: Problem,
        arrays: Mapping[str, Array],
        dtype: np.dtype[Any],
        form: Form | None,
        examples: int | None = None,
    ) -> Layout:
        """The layout of arrays, beside which a server keeps so many examples."""
        asked = problem.asked.get(dtype)
        if asked is None:
            asked = problem.asked[dtype] = self._asked(problem, dtype)
        elements = problem.shared_elements
        if problem.separate_elements:
            each = (len(arrays[name]) for name in problem.per_example if name in arrays and arrays[name].ndim)
            elements += problem.separate_elements * (next(each, 1) if examples is None else examples)
        return Layout(problem, arrays, dtype, asked, form, elements * dtype.itemsize)


class Tracing(Computation):
    """A computation that is looked at: every operation has a node of its own."""

    _packed = False

    def trace(self, values: Mapping[str, ArrayLike]) -> Steps[Trace]:
        """Every value and gradient of one example."""
        problem, arrays, dtype = self.prepared(values, examples=False)
        request = pb.TraceGraphRequest(graph=problem.graph, dtype=NUMBERS[dtype], tensors=_tensors(arrays))
        response = yield Unary("TraceGraph", request)
        return Trace(problem.graph, response)


def with_graph(problem: Problem, step: Compute) -> Compute:
    """A step that sends the graph itself, which a server then holds."""
    program = pb.ComputeGradientsRequest(graph=problem.graph).SerializeToString()
    return step._replace(program=program, by_id=False)


def _tensors(arrays: Mapping[str, Array]) -> dict[str, tensor_pb2.Tensor]:
    return {name: encode_tensor(array) for name, array in arrays.items()}
