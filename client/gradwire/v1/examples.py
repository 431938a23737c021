"""The id of examples, which both sides compute; ``UploadExamplesHead`` of the contract says how."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import sha256
from operator import itemgetter
from typing import NamedTuple

PREFIX = b"gradwire.v1.examples"

PART_BYTES = 1 << 22
"""About how many elements are hashed at a time, in bytes; whoever waits may give up in between."""


class Hashed(NamedTuple):
    """A tensor as it goes into the id."""

    name: str
    dtype: int
    """Number of the contract's Dtype."""
    shape: Sequence[int]
    parts: Iterable[memoryview]
    """Its elements, little-endian and row-major, in parts of any size."""


def examples_id(tensors: Iterable[Hashed]) -> str:
    """The id of examples that consist of these tensors, whose names differ."""
    found = sha256(PREFIX)
    for name, tensor in sorted(((tensor.name.encode(), tensor) for tensor in tensors), key=itemgetter(0)):
        found.update(_numbers(len(name)) + name + _numbers(tensor.dtype, len(tensor.shape), *tensor.shape))
        for part in tensor.parts:
            found.update(part)
    return found.hexdigest()


def _numbers(*numbers: int) -> bytes:
    return b"".join(number.to_bytes(8, "little") for number in numbers)
