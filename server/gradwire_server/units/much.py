"""A loss over files: what is asked of the units in a step, and what the sums over them answer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from gradwire._arrays import Array
from gradwire._calls.computation import Computation, Loss, Options
from gradwire._calls.problem import Problem
from gradwire._calls.results import NonFinite, Result, Told
from gradwire._errors import InvalidRequestError, LimitExceededError, NonFiniteError
from gradwire_server.units.columns import Names, columns_of
from gradwire_server.units.files import listed
from gradwire_server.units.formats import Unit, described
from gradwire_server.units.sums import Partial, Program, over_no_rows, total

MAX_UNIT_BYTES = 1 << 30
"""Bytes that the arrays of a unit may take, by default."""


class Asked(NamedTuple):
    """A step."""

    program: Program
    arrays: dict[str, Array]
    """All sources but the columns, by name."""
    problem: Problem
    nothing: Partial
    """The sum over no rows."""


class MuchData:
    """A loss, and the files that its examples are in.

    Args:
        loss: As for ``client.value_and_grad``.
        files: Paths, globs, folders or URIs.
        columns: Columns by input, where they are not named like it: one, or flat ones that are a vector.
        max_unit_bytes: Bytes that the arrays of a unit may take.
        options: As for ``client.value_and_grad``.

    Raises:
        InvalidRequestError: There are no such files or columns, or an option makes no sense.
        LimitExceededError: A unit is too large.
    """

    def __init__(
        self,
        loss: Loss,
        files: object,
        columns: Names | None,
        max_unit_bytes: int,
        options: Options,
    ) -> None:
        refused = sorted({"outputs", "has_aux"} & options.keys())
        if refused:
            raise InvalidRequestError(f"{refused[0]}= is not for files: a step gives the loss and its gradients")
        self._computation = Computation(loss, **options)
        self._mean = self._computation.reduction == "mean"
        if self._computation.reduction == "none":
            raise InvalidRequestError('reduction="none" gives a loss for each example; choose "mean" or "sum"')
        found = [described(path) for path in listed(files)]
        self._columns = columns_of(self._inputs(columns or {}), found, columns or {})
        self.units: Sequence[Unit] = [unit for file in found for unit in file.units if unit.rows]
        """The units that have rows."""
        self.rows = sum(unit.rows for unit in self.units)
        row_bytes = sum(column.row_bytes for column in self._columns.values())
        for unit in self.units:
            if unit.rows * row_bytes > max_unit_bytes:
                raise LimitExceededError(
                    f"{unit} has {unit.rows} rows, whose arrays take {unit.rows * row_bytes} bytes of memory; "
                    f"at most max_unit_bytes={max_unit_bytes}; write it in smaller ones, of "
                    f"{max(1, max_unit_bytes // row_bytes)} rows at most",
                    metadata={
                        "limit": str(max_unit_bytes),
                        "found": str(unit.rows * row_bytes),
                        "setting": "max_unit_bytes",
                    },
                )
        self._none = {name: np.zeros((0, *each.shape), each.dtype) for name, each in self._columns.items()}

    def _inputs(self, columns: Names) -> Sequence[str]:
        inputs = self._computation.per_example
        if not inputs:
            raise InvalidRequestError(
                "the loss has no input that is read from the files; declare it as gw.input(..., per_example=True), or "
                'name the argument of a function in per_example=("x", ...)'
            )
        unknown = [name for name in columns if name not in inputs]
        if unknown:
            raise InvalidRequestError(
                f'columns= names "{unknown[0]}"; the inputs that are read from the files are {", ".join(inputs)}',
                node=str(unknown[0]),
            )
        return inputs

    def asked(self, given: Sequence[Any], named: Mapping[str, Any]) -> Asked:
        """What a step with these arrays asks; whatever is wrong with it is found here.

        Raises:
            GradwireError: Whatever is wrong.
        """
        twice = sorted(self._none.keys() & named.keys())
        if twice:
            raise InvalidRequestError(f'"{twice[0]}" is read from the files; leave it out', node=twice[0])
        values = self._computation.values(given, {**named, **self._none})
        problem, arrays, dtype = self._computation.prepared(values)
        each = sorted(problem.per_example & set(problem.wrt or ()))
        if each:
            raise InvalidRequestError(
                f'wrt names "{each[0]}", which is read from the files; there is a gradient for each row', node=each[0]
            )
        columns = tuple((name, column) for name, column in self._columns.items() if name in problem.examples)
        program = Program(problem.graph.SerializeToString(deterministic=True), problem.wrt, str(dtype), columns)
        nothing = over_no_rows(program, arrays)
        if not self.rows and self._mean:
            raise InvalidRequestError("the files have no rows, of which there is no mean")
        shared = {name: array for name, array in arrays.items() if name not in problem.per_example}
        return Asked(program, shared, problem, nothing)

    def answer(self, asked: Asked, parts: Iterable[Partial]) -> Result:
        """What the caller gets for the sums over all blocks, in their order.

        Raises:
            NonFiniteError: A value or gradient is not finite, and the step rejects that.
        """
        held = list(parts)
        whole = total(held) if held else asked.nothing
        divisor = float(self.rows) if self._mean else 1.0
        dtype = asked.program.dtype
        with np.errstate(over="ignore", invalid="ignore"):
            gradients = {name: np.asarray(array / divisor, dtype) for name, array in whole.gradients.items()}
            loss = np.asarray(whole.loss / divisor, dtype)[()]
        report = self._report(asked.problem, whole, loss, gradients)
        if report is not None and self._computation.rejects:
            raise NonFiniteError(f"{report}", reason="NON_FINITE", node=report.node)
        told = Told(report, whole.compute_seconds, self.rows, whole.tiles)
        found, aux, named = asked.problem.nested(gradients, {})
        return Result(loss, found, aux, told, None, named)

    def _report(self, problem: Problem, whole: Partial, loss: Any, gradients: Mapping[str, Array]) -> NonFinite | None:
        """The first number that is not finite, with its example's number among all rows."""
        if whole.non_finite is not None:
            unit, report = whole.non_finite
            before = sum(each.rows for each in self.units[: self.units.index(unit)])
            return report if report.example is None else replace(report, example=before + report.example)
        if not np.isfinite(loss):
            node = problem.graph.nodes[problem.graph.loss]
            name = node.name or f"{node.WhichOneof('kind')}_{problem.graph.loss}"
            return NonFinite("reduction", name, None, (), float(loss), ())
        for name, array in gradients.items():
            bad = np.argwhere(~np.isfinite(array))
            if len(bad):
                place = tuple(map(int, bad[0]))
                return NonFinite("reduction", name, None, place, float(array[place]), ())
        return None
