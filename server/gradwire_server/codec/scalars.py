"""Packed operations on scalars -> nodes, in columns from end to end.

The elements of the operands, row-major and one operand after another, are the positions from 0 on; then come the
constants, and then the operations.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from gradwire.v1 import graph_pb2 as pb
from gradwire_server.codec.wire import Bytes, find_fields, read_varints
from gradwire_server.engine.checkpoints import Checkpoint
from gradwire_server.engine.graph.graph import Array, Attributes
from gradwire_server.engine.graph.opcodes import Opcode
from gradwire_server.engine.graph.ops import OPS, Op
from gradwire_server.engine.graph.rules import Inferred, OperandError, Spec
from gradwire_server.engine.graph.shapes import size

FLOAT64: np.dtype[np.float64] = np.dtype("<f8")

COLUMNS = ("constants", "ops", "arities", "arguments", "exponents", "results")
"""The fields of the message that are columns."""

_FIELDS = {name: pb.Scalars.DESCRIPTOR.fields_by_name[name].number for name in COLUMNS}
_OPS = [number for number in pb.ScalarOp.values() if number != pb.SCALAR_OP_UNSPECIFIED]
OPCODES, _LEAST, _MOST = np.zeros((3, max(_OPS) + 1), np.int8)
"""By code, the opcode, and how many arguments it takes at least and, for those that take any number, 0, at most."""
for _number in _OPS:
    _op = OPS[pb.ScalarOp.Name(_number).removeprefix("SCALAR_OP_").lower()]
    OPCODES[_number], _LEAST[_number], _MOST[_number] = _op.opcode, _op.min_operands, _op.max_operands or 0
_USUAL = np.where(_MOST == 0, 2, _MOST)
"""Arguments where none are told."""
_POWER = pb.SCALAR_OP_POWER

MAX_POSITIONS = 2**31 - 1


class UnknownOpError(Exception):
    """What is wrong with the op of operation ``index``, as the end of a sentence that begins with the node."""

    def __init__(self, index: int, number: int) -> None:
        found = "no op" if number == pb.SCALAR_OP_UNSPECIFIED else f"the unknown op {number}"
        super().__init__(f"has {found} for operation {index}; allowed are {', '.join(map(pb.ScalarOp.Name, _OPS))}")
        self.index = index


def decode_columns(raw: Bytes, checkpoint: Checkpoint) -> dict[str, Array]:
    """Each column of a serialized ``Scalars``, int64 or float64; ``checkpoint`` is called before each and may raise.

    Raises:
        UnknownOpError: An op is unknown. Lengths and positions are checked when shapes are known.
    """
    spans = np.zeros((max(_FIELDS.values()) + 1, 2), np.int64)
    find_fields(raw, spans)
    columns: dict[str, Array] = {}
    for name, number in _FIELDS.items():
        checkpoint()
        if name in ("constants", "exponents"):
            columns[name] = np.frombuffer(raw[slice(*spans[number])].tobytes(), FLOAT64)
        else:
            columns[name] = read_varints(raw, spans[number : number + 1], np.zeros(1, np.int64))
    wrong = _first((columns["ops"] < min(_OPS)) | (columns["ops"] > max(_OPS)))
    if wrong is not None:
        raise UnknownOpError(wrong, int(columns["ops"][wrong]))
    return columns


def _infer(specs: Sequence[Spec], attributes: Attributes) -> Inferred:
    """One result or more, of operations on earlier positions."""
    codes, results = attributes["ops"], attributes["results"]
    first = sum(size(spec.shape) for spec in specs) + len(attributes["constants"])
    positions = first + len(codes)
    if positions > MAX_POSITIONS:
        raise OperandError(f"operands, constants and operations take {positions} positions; at most {MAX_POSITIONS}")
    arities = _checked_arities(attributes["arities"], codes, first)
    _check_arguments(attributes["arguments"], arities, codes, first)
    _check_exponents(attributes["exponents"], codes, first)
    if not len(results):
        raise OperandError("there are no results; name at least one position", "results")
    wrong = _first((results < 0) | (results >= positions))
    if wrong is not None:
        raise OperandError(
            f"result {wrong} is position {results[wrong]}, past the end of {positions} positions; "
            f"give one below {positions}",
            f"results[{wrong}]",
        )
    return (len(results),), {**attributes, "arities": arities}


SCALARS = Op(
    name="scalars",
    opcode=Opcode.STACK,
    min_operands=0,
    max_operands=None,
    infer=_infer,
    summary="results of packed operations on scalars",
    derivative="that of each operation",
)
"""A packed node as it was sent. It checks the columns of a node; no graph of the engine has it."""


def _first(wrong: NDArray[np.bool_]) -> int | None:
    return int(wrong.argmax()) if wrong.any() else None


def _described(operation: int, position: int, number: int) -> str:
    name = pb.ScalarOp.Name(pb.ScalarOp.ValueType(number)).removeprefix("SCALAR_OP_").lower()
    return f"operation {operation} (position {position}, {name})"


def _checked_arities(arities: Array, codes: Array, first: int) -> Array:
    """How many arguments each operation takes."""
    if not len(arities):
        return _USUAL[codes].astype(np.int64)
    if len(arities) != len(codes):
        raise OperandError(
            f"there are {len(arities)} arities for {len(codes)} operations; give one for each, or none for two "
            "arguments of each add, mul and max and as many of each other as it takes",
            "arities",
        )
    wrong = _first(np.where(_MOST[codes] == 0, arities < 1, arities != _MOST[codes]))
    if wrong is not None:
        expected = f"exactly {_MOST[codes[wrong]]}" if _MOST[codes[wrong]] else "1 or more"
        who = _described(wrong, first + wrong, int(codes[wrong]))
        raise OperandError(f"{who} has {arities[wrong]} arguments; it takes {expected}", f"arities[{wrong}]")
    return arities


def _check_arguments(arguments: Array, arities: Array, codes: Array, first: int) -> None:
    total = int(arities.sum())
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


def _check_exponents(exponents: Array, codes: Array, first: int) -> None:
    """One for each power, in their order."""
    powers = np.flatnonzero(codes == _POWER)
    if len(exponents) != len(powers):
        raise OperandError(
            f"there are {len(exponents)} exponents for {len(powers)} operations of code {_POWER} (power); "
            "give one for each, in their order",
            "exponents",
        )
    wrong = _first(~np.isfinite(exponents))
    if wrong is not None:
        who = _described(int(powers[wrong]), first + int(powers[wrong]), _POWER)
        raise OperandError(f"{who} has the exponent {exponents[wrong]}; it must be finite", f"exponents[{wrong}]")
