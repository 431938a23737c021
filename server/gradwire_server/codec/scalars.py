"""The columns of packed operations on scalars -> arrays, with no step of Python for each operation."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from gradwire.v1 import graph_pb2 as pb
from gradwire_server.codec.tensors import FLOAT64, INT64, Array
from gradwire_server.engine import Checkpoint

INT32: np.dtype[np.int32] = np.dtype("<i4")

_DTYPES: Mapping[str, np.dtype[Any]] = {
    "constants": FLOAT64,
    "ops": INT32,
    "arities": INT64,
    "arguments": INT64,
    "exponents": FLOAT64,
    "results": INT64,
}
COLUMNS = tuple(_DTYPES)
"""The fields of the message that are columns."""

_OPS = [number for number in pb.ScalarOp.values() if number != pb.SCALAR_OP_UNSPECIFIED]


class UnknownOpError(Exception):
    """What is wrong with the op of operation ``index``, as the end of a sentence that begins with the node."""

    def __init__(self, index: int, number: int) -> None:
        found = "no op" if number == pb.SCALAR_OP_UNSPECIFIED else f"the unknown op {number}"
        super().__init__(f"has {found} for operation {index}; allowed are {', '.join(map(pb.ScalarOp.Name, _OPS))}")
        self.index = index


def decode_columns(message: pb.Scalars, checkpoint: Checkpoint) -> Mapping[str, Array]:
    """Each column as an array; ``checkpoint`` is called before each and may raise.

    Raises:
        UnknownOpError: An op is unknown. Lengths and positions are for the engine to check.
    """
    columns = {}
    for name, dtype in _DTYPES.items():
        checkpoint()
        numbers: Collection[Any] = getattr(message, name)
        columns[name] = np.fromiter(numbers, dtype, len(numbers))
    unknown = ~np.isin(columns["ops"], _OPS)
    if unknown.any():
        index = int(np.argmax(unknown))
        raise UnknownOpError(index, int(columns["ops"][index]))
    return columns
