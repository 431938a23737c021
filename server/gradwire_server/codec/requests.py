"""Requests of the wire -> queries of the engine."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np

from gradwire.v1 import gradient_service_pb2 as pb
from gradwire.v1 import tensor_pb2
from gradwire_server.codec.counting import check_count
from gradwire_server.codec.tensors import FLOAT32, FLOAT64, Array, TensorError, decode_tensor
from gradwire_server.engine import Checkpoint, Limits, Query, Reduction, checked
from gradwire_server.errors import Findings, Reason, refuse, shown

Arrays = Mapping[str, Array]
NO_ARRAYS: Arrays = MappingProxyType({})

_FLOATS: dict[int, np.dtype[np.floating]] = {
    tensor_pb2.DTYPE_UNSPECIFIED: FLOAT64,
    tensor_pb2.DTYPE_FLOAT32: FLOAT32,
    tensor_pb2.DTYPE_FLOAT64: FLOAT64,
}
_REDUCTIONS = {
    pb.REDUCTION_UNSPECIFIED: Reduction.MEAN,
    pb.REDUCTION_MEAN: Reduction.MEAN,
    pb.REDUCTION_SUM: Reduction.SUM,
    pb.REDUCTION_NONE: Reduction.NONE,
}


DataRequest = pb.ComputeGradientsRequest | pb.TraceGraphRequest | pb.CheckGradientsRequest


def decode_dtype(number: int) -> np.dtype[np.floating]:
    """The float dtype of a request.

    Raises:
        Refusal: INVALID_REQUEST, if it is none.
    """
    dtype = _FLOATS.get(number)
    if dtype is None:
        name = tensor_pb2.Dtype.Name(number) if number in tensor_pb2.Dtype.values() else str(number)
        raise refuse(
            Reason.INVALID_REQUEST,
            f"the request has dtype {name}; allowed are DTYPE_FLOAT32 and DTYPE_FLOAT64 (the default)",
            "dtype",
            found=name,
        )
    return dtype


def decode_arrays(
    message: DataRequest,
    dtype: np.dtype[np.floating],
    limits: Limits,
    checkpoint: Checkpoint,
    framed: Arrays = NO_ARRAYS,
) -> Arrays:
    """The tensors of a request of this dtype, by name, with those that came in frames.

    Raises:
        Refusal: INVALID_TENSOR with tensors whose elements do not fit its dtype and shape; LIMIT_EXCEEDED.
            Whatever ``checkpoint`` raises, which is called every few hundred tensors.
    """
    tensors = message.tensors
    check_count(len(tensors), "tensors", "tensors", limits)
    findings = Findings()
    arrays = dict(framed)
    for name, tensor in checked(tensors.items(), checkpoint):
        if findings.are_enough():
            break
        if name in framed:
            path = f"tensors[{shown(name)}]"
            findings.add(
                Reason.INVALID_TENSOR, f"tensor {shown(name)} is both in the request and in frames; send it once", path
            )
            continue
        try:
            arrays[name] = decode_tensor(tensor, dtype, limits.max_rank)
        except TensorError as error:
            findings.add(
                Reason.INVALID_TENSOR, f"tensor {shown(name)} {error}", f"tensors[{shown(name)}].{error.field}"
            )
    findings.check()
    return arrays


def decode_reduction(message: pb.ComputeGradientsRequest | pb.CheckGradientsRequest) -> Reduction:
    """How the losses of the examples become one.

    Raises:
        Refusal: INVALID_REQUEST, if this server does not know the number.
    """
    reduction = _REDUCTIONS.get(message.reduction)
    if reduction is None:
        allowed = ", ".join(map(pb.Reduction.Name, _REDUCTIONS))
        raise refuse(
            Reason.INVALID_REQUEST,
            f"the request has the unknown reduction {message.reduction}; allowed are {allowed}",
            "reduction",
        )
    return reduction


def decode_wrt(names: pb.SourceNames | None, limits: Limits) -> tuple[str, ...] | None:
    """The sources to differentiate in; None for every parameter.

    Raises:
        Refusal: LIMIT_EXCEEDED, if there are more than a graph can have.
    """
    if names is None:
        return None
    check_count(len(names.names), "names of sources", "wrt.names", limits)
    return tuple(names.names)


def decode_query(
    message: pb.ComputeGradientsRequest,
    limits: Limits,
    checkpoint: Checkpoint,
    framed: Arrays = NO_ARRAYS,
) -> Query:
    """What the request asks of its program; ``framed`` are the tensors that came in frames.

    Raises:
        Refusal: INVALID_REQUEST, INVALID_TENSOR, LIMIT_EXCEEDED. Paths start at the request.
            Whatever ``checkpoint`` raises.
    """
    dtype = decode_dtype(message.dtype)
    check_count(len(message.outputs), "outputs", "outputs", limits)
    return Query(
        arrays=decode_arrays(message, dtype, limits, checkpoint, framed),
        dtype=dtype,
        reduction=decode_reduction(message),
        wrt=decode_wrt(message.wrt if message.HasField("wrt") else None, limits),
        outputs=tuple(message.outputs),
        reject_non_finite=message.reject_non_finite,
    )
