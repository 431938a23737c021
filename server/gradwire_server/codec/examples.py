"""Uploaded examples of the wire: what an upload announces, what its id is, and which rows a request is about."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import cast

import numpy as np
from numpy.typing import NDArray

from gradwire.v1 import gradient_service_pb2 as pb
from gradwire.v1.examples import PART_BYTES, Hashed, examples_id
from gradwire_server.codec.counting import check_count
from gradwire_server.codec.tensors import (
    INT64,
    Array,
    Dtype,
    Layout,
    TensorError,
    decode_tensor,
    dtype_number,
    layout_of,
)
from gradwire_server.engine import Checkpoint, Limits
from gradwire_server.engine.graph import shapes
from gradwire_server.errors import Findings, Reason, refuse, shown

Rows = slice | NDArray[np.int64]
"""Rows that follow each other, or their numbers."""


def decode_framed(
    framed: Iterable[pb.FramedTensor], dtype: Dtype | None, max_rank: int, path: str
) -> dict[str, Layout]:
    """The layouts of tensors that are announced by name.

    Args:
        framed: What is announced.
        dtype: Float dtype of the request; None if each tensor has its own.
        max_rank: Axes for one example.
        path: Where they are announced.

    Raises:
        Refusal: INVALID_TENSOR, with all that is wrong.
    """
    if dtype is None:
        max_rank += 1
    findings = Findings()
    layouts: dict[str, Layout] = {}
    for position, tensor in enumerate(framed):
        if findings.are_enough():
            break
        problem, where = "is announced twice; send it once", f"{path}[{position}]"
        try:
            if not tensor.HasField("name"):
                problem = "has no name; set that of the parameter or input"
            elif tensor.name not in layouts:
                layouts[tensor.name] = layout_of(tensor, dtype, max_rank)
                continue
        except TensorError as error:
            problem, where = str(error), f"{where}.{error.field}"
        findings.add(Reason.INVALID_TENSOR, f"tensor {shown(tensor.name)} {problem}", where)
    findings.check()
    return layouts


def decode_upload(head: pb.UploadExamplesHead, limits: Limits) -> dict[str, Layout]:
    """The layouts of the tensors of an upload, by name, each with an axis of as many examples.

    Raises:
        Refusal: INVALID_TENSOR, INVALID_REQUEST, LIMIT_EXCEEDED. Paths start at the head.
    """
    if not head.tensors:
        raise refuse(Reason.INVALID_REQUEST, "no tensors are announced; announce at least one", "tensors")
    check_count(len(head.tensors), "tensors", "tensors", limits)
    layouts = decode_framed(head.tensors, None, limits.max_rank, "tensors")
    findings = Findings()
    first = head.tensors[0]
    for position, (name, layout) in enumerate(layouts.items()):
        if findings.are_enough():
            break
        if len(name) > limits.max_name_length:
            wrong = f"has a name of {len(name)} characters; at most {limits.max_name_length} are allowed"
        elif not layout.shape:
            wrong = "is a scalar; the first axis is that of examples, (N, ...)"
        elif first.shape and layout.shape[0] != first.shape[0]:
            wrong = (
                f"has {layout.shape[0]} examples, tensor {shown(first.name)} has {first.shape[0]}; send equal numbers"
            )
        else:
            continue
        findings.add(Reason.INVALID_TENSOR, f"tensor {shown(name)} {wrong}", f"tensors[{position}]")
    findings.check()
    return layouts


def id_of(arrays: Mapping[str, Array], checkpoint: Checkpoint) -> str:
    """The id of examples; ``checkpoint``, which may raise, is called every few megabytes."""

    def parts(array: Array) -> Iterator[memoryview]:
        elements = array.reshape(-1).view(np.uint8).data
        for start in range(0, len(elements), PART_BYTES):
            checkpoint()
            yield elements[start : start + PART_BYTES]

    return examples_id(
        Hashed(name, dtype_number(array.dtype), array.shape, parts(array)) for name, array in arrays.items()
    )


def decode_rows(message: pb.StoredExamples, examples: int, limits: Limits) -> Rows:
    """The rows that a request is about, of so many examples.

    Raises:
        Refusal: INVALID_REQUEST, INVALID_TENSOR; INDEX_OUT_OF_RANGE. Paths start at the request.
    """
    given = message.WhichOneof("rows")
    if given is None:
        return slice(0, examples)
    if given == "range":
        start, stop = message.range.start, message.range.stop
        if start <= stop <= examples:
            return slice(start, stop)
        raise refuse(
            Reason.INDEX_OUT_OF_RANGE,
            f"the range of rows is {start} to {stop}; there are {examples} examples, so start <= stop <= {examples}",
            "examples.range",
            found=stop,
            limit=examples,
        )
    return _indices(message, examples, limits)


def _indices(message: pb.StoredExamples, examples: int, limits: Limits) -> NDArray[np.int64]:
    tensor, path = message.indices, "examples.indices"
    try:
        # A constant's dtype may be any.
        indices = decode_tensor(tensor, None, limits.max_rank)
    except TensorError as error:
        raise refuse(Reason.INVALID_TENSOR, f"the indices of rows: it {error}", f"{path}.{error.field}") from None
    if indices.dtype != INT64 or indices.ndim != 1:
        raise refuse(
            Reason.INVALID_TENSOR,
            f"the indices of rows have dtype {indices.dtype} and shape {shapes.text(indices.shape)}; expected int64 "
            "and one axis",
            path,
        )
    if indices.size and not 0 <= indices.min() <= indices.max() < examples:
        place = int(np.argmax((indices < 0) | (indices >= examples)))
        raise refuse(
            Reason.INDEX_OUT_OF_RANGE,
            f"index {place} of rows is {indices[place]}; there are {examples} examples, numbered from 0",
            f"{path}[{place}]",
            found=indices[place],
            limit=examples,
        )
    return cast("NDArray[np.int64]", indices)
