"""A swarm of scalar operations as one node: columns in place of nodes, positions in place of their indices.

The elements of the operands, row-major and one operand after another, are the positions from 0 on; then come the
constants, and then the operations. NumPy does here what the kernel of tapes does elsewhere: a call for all operations
of a level (longest path to them) that do the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradwire_server.engine.graph import Array, Shape, Ties
from gradwire_server.engine.kernels import order
from gradwire_server.engine.kernels.opcodes import TapeOpcode
from gradwire_server.engine.ops.elementwise import ELEMENTWISE, RECIPROCAL, SQUARE
from gradwire_server.engine.ops.op import Attributes, Inside, Looked, Op, OperandError, Spec, Step, lanes_at_once
from gradwire_server.engine.shapes import size
from gradwire_server.engine.tape import Tape, make_tape

CODES = ("", "add", "mul", "max", "sigmoid", "exp", "log", "tanh", "softplus", "power")
"""What the codes mean; 0 means nothing."""

ADD, MUL, MAX, POWER = (CODES.index(name) for name in ("add", "mul", "max", "power"))

MAX_POSITIONS = 2**31 - 1

SMALL = 1 << 14
"""Operations and arguments that NumPy goes through in a time that nobody notices, however deep they are."""

SUSPECTS = 1000
"""Backward steps that are looked at one by one for the one that made an infinity or NaN."""

_BY_NAME = {op.name: op for op in ELEMENTWISE}


@dataclass(frozen=True, slots=True)
class _Group:
    """Operations that do the same to positions of lower levels."""

    op: Op
    step: Step
    places: NDArray[np.int64]
    """Their positions."""
    arguments: NDArray[np.int64]
    """[arity, operations], positions."""


class Swarm:
    """The columns of a node, and what is worked out from them once."""

    def __init__(self, attributes: Attributes, elements: int) -> None:
        self.constants: NDArray[np.float64] = attributes["constants"]
        self.codes: NDArray[np.int8] = attributes["ops"]
        self.arguments: NDArray[np.int32] = attributes["arguments"]
        self.results: NDArray[np.int32] = attributes["results"]
        self.elements = elements
        """Of the operands."""
        self.first = elements + len(self.constants)
        """Position of the first operation."""
        self.positions = self.first + len(self.codes)
        arities: NDArray[np.int64] = attributes["arities"]
        self.arities = arities if len(arities) else _default_arities(self.codes)
        self.starts = np.concatenate([[0], np.cumsum(self.arities)])
        """Where the arguments of each operation begin among all, and where they end."""
        self._exponents: NDArray[np.float64] = attributes["exponents"]
        self._tapes: dict[Ties, Tape] = {}

    @property
    def small(self) -> bool:
        """Whether NumPy may go through it."""
        return len(self.codes) + len(self.arguments) <= SMALL

    @cached_property
    def exponents(self) -> NDArray[np.float64]:
        """For each operation, that of a power."""
        exponents = np.ones(len(self.codes))
        exponents[self.codes == POWER] = self._exponents
        return exponents

    @cached_property
    def live(self) -> NDArray[np.bool_]:
        """For each position, whether a result depends on it."""
        marked = np.zeros(self.positions, np.bool_)
        marked[self.results] = True
        order.mark(self.starts, self.arguments, self.first, marked)
        return marked

    @cached_property
    def groups(self) -> list[tuple[int, int, int]]:
        """The live operations in groups: each from where to where in ``ordered``."""
        live = self.live[self.first :][self.ordered]
        keys = [key[self.ordered] for key in self._keys]
        new = np.logical_or.reduce([key[1:] != key[:-1] for key in keys])
        cuts = [0, *(np.flatnonzero(new) + 1).tolist(), len(self.ordered)]
        return [(start, stop, int(keys[-1][start])) for start, stop in pairwise(cuts) if start < stop and live[start]]

    @cached_property
    def widest(self) -> int:
        """Elements that NumPy takes for a group: arguments, what goes back along them, and a few for each operation."""
        return max(
            ((stop - start) * (2 * int(self.arities[self.ordered[start]]) + 6) for start, stop, _ in self.groups),
            default=0,
        )

    @cached_property
    def ordered(self) -> NDArray[np.int64]:
        """Operations by level and by what they do, dead ones last."""
        return np.lexsort(self._keys)

    @cached_property
    def _keys(self) -> Sequence[Array]:
        """What operations of one group have in common, the last the first to sort by."""
        levels = np.zeros(self.positions, np.int32)
        order.count_levels(self.starts, self.arguments, self.first, levels)
        own = np.where(self.live[self.first :], levels[self.first :], np.iinfo(np.int32).max)
        return self.exponents, self.arities, self.codes, own

    def tape(self, ties: Ties) -> Tape:
        """What the kernel goes through."""
        if ties not in self._tapes:
            table = np.array([_opcode(name, ties) for name in CODES], np.int8)
            opcodes = table[self.codes]
            opcodes[(self.codes == POWER) & (self.exponents == SQUARE)] = TapeOpcode.SQUARE
            opcodes[(self.codes == POWER) & (self.exponents == RECIPROCAL)] = TapeOpcode.RECIPROCAL
            many = np.array([TapeOpcode.SUM, TapeOpcode.PRODUCT, _LARGEST[ties]], np.int8)
            longer = self.arities > 2
            opcodes[longer] = many[self.codes[longer] - 1]
            self._tapes[ties] = make_tape(
                opcodes,
                self.starts,
                self.arguments,
                self.exponents,
                self.constants,
                self.elements,
                self.live,
                self.results,
            )
        return self._tapes[ties]

    def positions_of(self, tape: Tape) -> NDArray[np.int64]:
        """For each place of the tape, the position."""
        return np.concatenate([np.arange(self.first), self.first + tape.operations])

    def by_position(self, tape: Tape, numbers: Array) -> Array:
        """Numbers of places by position; those of dead operations are zero."""
        found = np.zeros(self.positions, numbers.dtype)
        found[self.positions_of(tape)] = numbers
        return found

    def applied(self, operation: int, ties: Ties) -> tuple[Op, Step, list[int]]:
        """The op of an operation, its step, and the positions of its arguments."""
        listed = self.arguments[self.starts[operation] : self.starts[operation + 1]]
        own = Step({"exponent": float(self.exponents[operation])}, ties)
        return _BY_NAME[CODES[self.codes[operation]]], own, listed.tolist()

    def describe(self, position: int, values: Array) -> str:
        """What stands at a position, for people."""
        operation = position - self.first
        if operation < 0:
            return f"constant {position - self.elements} (position {position})"
        listed = self.arguments[self.starts[operation] : self.starts[operation + 1]]
        few = ", ".join(f"{values[place]:g}" for place in listed[:4])
        more = ", ..." if len(listed) > 4 else ""
        name = CODES[self.codes[operation]]
        return f"{_described(operation, position, int(self.codes[operation]))}, {name}({few}{more}),"


_MAX = {Ties.ZERO: "MAX", Ties.SPLIT: "MAX_SPLIT"}
_LARGEST = {Ties.ZERO: TapeOpcode.LARGEST, Ties.SPLIT: TapeOpcode.LARGEST_SPLIT}


def _opcode(name: str, ties: Ties) -> int:
    return TapeOpcode[{"": "ADD", "max": _MAX[ties]}.get(name, name.upper())]


def _described(operation: int, position: int, code: int) -> str:
    name = CODES[code] if 0 < code < len(CODES) else f"code {code}"
    return f"operation {operation} (position {position}, {name})"


def _default_arities(codes: NDArray[np.integer]) -> NDArray[np.int64]:
    return np.where(codes <= MAX, 2, 1)


def _first(wrong: NDArray[np.bool_]) -> int | None:
    return int(wrong.argmax()) if wrong.any() else None


def _packed(attributes: Attributes) -> tuple[int, int]:
    return len(attributes["ops"]), len(attributes["arguments"])


def _infer(specs: Sequence[Spec], attributes: Attributes) -> tuple[Shape, Attributes]:
    constants, codes, arguments, results = (attributes[name] for name in ("constants", "ops", "arguments", "results"))
    first = sum(size(spec.shape) for spec in specs) + len(constants)
    positions = first + len(codes)
    if positions > MAX_POSITIONS:
        raise OperandError(f"operands, constants and operations take {positions} positions; at most {MAX_POSITIONS}")
    wrong = _first((codes < ADD) | (codes > POWER))
    if wrong is not None:
        raise OperandError(
            f"operation {wrong} (position {first + wrong}) has the code {codes[wrong]}, which is no operation; "
            f"it has {', '.join(f'{name} {code}' for code, name in enumerate(CODES) if code)}",
            f"ops[{wrong}]",
        )
    arities = _checked_arities(attributes["arities"], codes, first)
    _check_arguments(arguments, arities, codes, first)
    exponents = _checked_exponents(attributes["exponents"], codes, first)
    if not len(results):
        raise OperandError("there are no results; name at least one position", "results")
    wrong = _first((results < 0) | (results >= positions))
    if wrong is not None:
        raise OperandError(
            f"result {wrong} is position {results[wrong]}, past the end of {positions} positions; "
            f"give one below {positions}",
            f"results[{wrong}]",
        )
    usual = np.array_equal(arities, _default_arities(codes))
    return (len(results),), {
        "constants": np.array(constants, np.float64),
        "ops": codes.astype(np.int8),
        "arities": np.empty(0, np.int64) if usual else arities.astype(np.int64),
        "arguments": arguments.astype(np.int32),
        "exponents": exponents + 0.0,  # 0 for -0, which means the same
        "results": results.astype(np.int32),
    }


def _checked_arities(arities: Array, codes: Array, first: int) -> Array:
    """How many arguments each operation takes."""
    if not len(arities):
        return _default_arities(codes)
    if len(arities) != len(codes):
        raise OperandError(
            f"there are {len(arities)} arities for {len(codes)} operations; give one for each, or none for two "
            "arguments of each add, mul and max and one of each other",
            "arities",
        )
    wrong = _first(np.where(codes <= MAX, arities < 2, arities != 1))
    if wrong is not None:
        expected = "2 or more" if codes[wrong] <= MAX else "exactly 1"
        who = _described(wrong, first + wrong, int(codes[wrong]))
        raise OperandError(
            f"{who} has {arities[wrong]} arguments; it takes {expected}",
            f"arities[{wrong}]",
        )
    return arities


def _check_arguments(arguments: Array, arities: Array, codes: Array, first: int) -> None:
    total = int(np.add.reduce(arities, dtype=np.int64))
    if total != len(arguments):
        raise OperandError(f"there are {len(arguments)} arguments; the operations take {total}", "arguments")
    owners = np.repeat(np.arange(len(codes)), arities)
    wrong = _first((arguments < 0) | (arguments >= first + owners))
    if wrong is not None:
        owner, found = int(owners[wrong]), int(arguments[wrong])
        own = first + owner
        what = "the operation itself" if found == own else "a later one" if found > own else "none"
        raise OperandError(
            f"{_described(owner, own, int(codes[owner]))} has as an argument position {found}, {what}; "
            f"arguments come first, so give a position below {own}",
            f"arguments[{wrong}]",
        )


def _checked_exponents(exponents: Array, codes: Array, first: int) -> Array:
    """One for each power, in their order."""
    powers = np.flatnonzero(codes == POWER)
    if len(exponents) != len(powers):
        raise OperandError(
            f"there are {len(exponents)} exponents for {len(powers)} operations of code {POWER} (power); "
            "give one for each, in their order",
            "exponents",
        )
    wrong = _first(~np.isfinite(exponents))
    if wrong is not None:
        operation = int(powers[wrong])
        raise OperandError(
            f"{_described(operation, first + operation, POWER)} has the exponent {exponents[wrong]}; it must be finite",
            f"exponents[{wrong}]",
        )
    return exponents


def _swarm(step: Step) -> Swarm:
    swarm = step.prepared
    assert isinstance(swarm, Swarm)  # noqa: S101  (for mypy)
    return swarm


def _groups(step: Step, *, backward: bool = False) -> Iterator[_Group]:
    swarm = _swarm(step)
    for start, stop, _ in reversed(swarm.groups) if backward else swarm.groups:
        operations = swarm.ordered[start:stop]
        one = int(operations[0])
        op = _BY_NAME[CODES[swarm.codes[one]]]
        arity = int(swarm.arities[one])
        listed = swarm.starts[operations] + np.arange(arity)[:, np.newaxis]
        own = Step({"exponent": float(swarm.exponents[one])}, step.ties)
        yield _Group(op, own, swarm.first + operations, swarm.arguments[listed].astype(np.int64))


def values_of(step: Step, operands: Sequence[Array], dtype: np.dtype[np.floating]) -> Array:
    """The values of all positions, [positions, lanes]; those of dead operations are zero."""
    swarm = _swarm(step)
    lanes = max((operand.shape[-1] for operand in operands), default=1)
    values = np.zeros((swarm.positions, lanes), dtype)
    start = 0
    for operand in operands:
        flat = operand.reshape(-1, operand.shape[-1])
        values[start : start + len(flat)] = flat
        start += len(flat)
    values[start : swarm.first] = swarm.constants[:, np.newaxis]
    for group in _groups(step):
        out = np.empty((len(group.places), lanes), dtype)
        group.op.forward(group.step, list(values[group.arguments]), out)
        values[group.places] = out
    return values


def _forward(step: Step, operands: Sequence[Array], out: Array) -> None:
    if _swarm(step).small:
        out[...] = values_of(step, operands, out.dtype)[_swarm(step).results]
    else:
        tape, lanes = _swarm(step).tape(step.ties), out.shape[-1]
        results = np.empty((len(tape.results), lanes), out.dtype)
        tape.forward(operands, np.empty(tape.places * lanes, out.dtype), lanes, results)
        out[...] = results


def _tape(step: Step) -> Tape:
    swarm = _swarm(step)
    tape = swarm.tape(step.ties)
    return tape if step.reached is None else replace(tape, reached=step.reached[swarm.positions_of(tape)])


def _run(tape: Tape, operands: Sequence[Array], lanes: int, dtype: np.dtype[np.floating]) -> Array:
    workspace = np.empty(tape.places * lanes, dtype)
    tape.forward(operands, workspace, lanes)
    return workspace


def _vjp(
    step: Step, adjoint: Array, operands: Sequence[Array], out: Array, targets: Sequence[Array | None]
) -> Iterator[Looked]:
    swarm, lanes = _swarm(step), adjoint.shape[-1]
    back, finite = np.empty((swarm.elements, lanes), out.dtype), True
    width = lanes_at_once(_in_parts(step)[0], lanes)
    for first in range(0, lanes, width):
        part = slice(first, first + width)
        back[:, part], own = _vjp_of_part(step, adjoint[:, part], _lanes(operands, part))
        finite &= own
    start = 0
    for operand in operands:
        stop = start + size(operand.shape[:-1])
        yield Looked(back[start:stop].reshape(*operand.shape[:-1], lanes), finite)
        start = stop


def _lanes(operands: Iterable[Array], part: slice) -> list[Array]:
    return [a if a.shape[-1] == 1 else a[..., part] for a in operands]


def _vjp_of_part(step: Step, adjoint: Array, operands: Sequence[Array]) -> tuple[Array, bool]:
    """The gradients of the elements of operands, and whether those of all positions are finite."""
    swarm, lanes, dtype = _swarm(step), adjoint.shape[-1], adjoint.dtype
    if swarm.small:
        back = _passed_back(step, adjoint, values_of(step, operands, dtype))
        return back[: swarm.elements], bool(np.isfinite(back if step.reached is None else back[step.reached]).all())
    tape = _tape(step)
    back, _, finite = tape.backward(adjoint, _run(tape, operands, lanes, dtype), lanes)
    return back, finite


def _passed_back(step: Step, adjoint: Array, values: Array) -> Array:
    """The gradients of all positions, [positions, lanes]."""
    swarm = _swarm(step)
    adjoints = np.zeros((swarm.positions, adjoint.shape[-1]), adjoint.dtype)
    np.add.at(adjoints, swarm.results, adjoint)
    for group in _groups(step, backward=True):
        arguments = list(values[group.arguments])
        contributions: Iterable[Any] = group.op.vjp(
            group.step, adjoints[group.places], arguments, values[group.places], arguments
        )
        for places, contribution in zip(group.arguments, contributions, strict=True):
            if contribution is not None:
                np.add.at(adjoints, places, contribution)
    return adjoints


def _bad_value(step: Step, operands: Sequence[Array]) -> Inside | None:
    swarm, tape = _swarm(step), _swarm(step).tape(step.ties)
    lanes = max((operand.shape[-1] for operand in operands), default=1)
    dtype = operands[0].dtype if operands else np.dtype(np.float64)
    width = tape.width(lanes, dtype.itemsize)
    for first in range(0, lanes, width):
        wide = min(width, lanes - first)
        numbers = _run(tape, _lanes(operands, slice(first, first + wide)), wide, dtype).reshape(tape.places, wide)
        bad = ~np.isfinite(numbers)
        bad[: tape.elements] = False
        bad[tape.elements : tape.first] &= swarm.live[tape.elements : tape.first, np.newaxis]
        if not bad.any():
            continue
        lane = int(bad.any(axis=0).argmax())
        values = swarm.by_position(tape, numbers[:, lane])
        position = int(swarm.positions_of(tape)[bad[:, lane]].min())
        result = _first(swarm.results == position)
        place = () if result is None else (result,)
        return Inside(swarm.describe(position, values), float(values[position]), first + lane, place)
    return None


def _bad_gradient(step: Step, adjoint: Array, operands: Sequence[Array]) -> Inside | None:
    swarm, tape, lanes = _swarm(step), _tape(step), adjoint.shape[-1]
    width = tape.width(lanes, adjoint.itemsize)
    for first in range(0, lanes, width):
        part = slice(first, first + width)
        seeds = adjoint[:, part]
        wide = seeds.shape[-1]
        workspace = _run(tape, _lanes(operands, part), wide, adjoint.dtype)
        _, adjoints, finite = tape.backward(seeds, workspace, wide)
        if finite:
            continue
        gradients = adjoints.reshape(tape.places, wide)
        bad = ~np.isfinite(gradients)
        if len(tape.reached):
            bad &= tape.reached[:, np.newaxis]
        lane = int(bad.any(axis=0).argmax())
        values = swarm.by_position(tape, workspace.reshape(tape.places, wide)[:, lane])
        numbers = swarm.by_position(tape, gradients[:, lane])
        inside = _bad_step(step, values, numbers, swarm.by_position(tape, bad[:, lane]), seeds[:, lane])
        return inside and replace(inside, lane=first + lane)
    return None


def _bad_step(step: Step, values: Array, gradients: Array, bad: Array, seeds: Array) -> Inside | None:
    """The backward step that made the first of the ``bad`` gradients, all by position, given those of results."""
    swarm = _swarm(step)
    owners = np.repeat(np.arange(len(swarm.codes)), swarm.arities)
    giving = swarm.live[swarm.first :] & ~bad[swarm.first :]
    suspected = np.unique(owners[bad[swarm.arguments]])[::-1]
    suspects: list[int] = suspected[giving[suspected]][:SUSPECTS].tolist()
    totals = np.zeros_like(gradients)
    np.add.at(totals, swarm.results, seeds)
    for operation in suspects:
        op, own, places = swarm.applied(operation, step.ties)
        position = slice(swarm.first + operation, swarm.first + operation + 1)
        arguments = [values[place : place + 1] for place in places]
        contributions: Iterable[Any] = op.vjp(own, gradients[position], arguments, values[position], arguments)
        for place, contribution in zip(places, contributions, strict=True):
            if contribution is not None and bad[place]:
                totals[place] += np.ravel(contribution)[0]
                if not np.isfinite(totals[place]):
                    return Inside(swarm.describe(swarm.first + operation, values), float(totals[place]))
    # Too many to be looked at, or only the kernel's order of adding leaves the range of floats.
    return Inside(swarm.describe(swarm.first + suspects[0], values), float(gradients[bad][-1])) if suspects else None


def _reach(step: Step, elements: NDArray[np.bool_]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    swarm = _swarm(step)
    reached = np.zeros(swarm.positions, np.bool_)
    reached[: swarm.elements] = elements
    order.reach(swarm.starts, swarm.arguments, swarm.first, reached)
    return reached, reached[swarm.results]


def _inner(step: Step) -> int:
    return _swarm(step).positions


def _work(step: Step, shapes: Sequence[Shape], out: Shape) -> int:
    swarm = _swarm(step)
    return size(out) + swarm.positions + len(swarm.arguments)


def _scratch(step: Step, shapes: Sequence[Shape], out: Shape, own: Sequence[bool]) -> int:
    return sum(map(size, shapes)) + 4 * size(out)


def _in_parts(step: Step) -> tuple[int, int]:
    swarm, places = _swarm(step), _swarm(step).tape(step.ties).places
    # Who made it is looked for among all positions and arguments, with numbers as wide as two of float32.
    report = 8 * swarm.positions + 8 * len(swarm.arguments)
    return 3 * swarm.positions + swarm.widest if swarm.small else 3 * places, report


SCALARS = Op(
    name="scalars",
    summary="elements that a swarm of scalar operations gives",
    derivative="that of each operation",
    min_operands=0,
    max_operands=None,
    infer=_infer,
    forward=_forward,
    vjp=_vjp,
    elementwise=False,
    strided=True,
    work=_work,
    scratch=_scratch,
    in_parts=_in_parts,
    packed=_packed,
    prepare=lambda attributes, shapes: Swarm(attributes, sum(map(size, shapes))),
    tape=_tape,
    reach=_reach,
    inner=_inner,
    bad_value=_bad_value,
    bad_gradient=_bad_gradient,
)
