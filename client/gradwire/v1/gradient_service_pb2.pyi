import datetime

from google.protobuf import any_pb2 as _any_pb2
from google.protobuf import duration_pb2 as _duration_pb2
from gradwire.v1 import graph_pb2 as _graph_pb2
from gradwire.v1 import tensor_pb2 as _tensor_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Reduction(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    REDUCTION_UNSPECIFIED: _ClassVar[Reduction]
    REDUCTION_MEAN: _ClassVar[Reduction]
    REDUCTION_SUM: _ClassVar[Reduction]
    REDUCTION_NONE: _ClassVar[Reduction]
REDUCTION_UNSPECIFIED: Reduction
REDUCTION_MEAN: Reduction
REDUCTION_SUM: Reduction
REDUCTION_NONE: Reduction

class RegisterGraphRequest(_message.Message):
    __slots__ = ("graph",)
    GRAPH_FIELD_NUMBER: _ClassVar[int]
    graph: _graph_pb2.Graph
    def __init__(self, graph: _Optional[_Union[_graph_pb2.Graph, _Mapping]] = ...) -> None: ...

class RegisterGraphResponse(_message.Message):
    __slots__ = ("graph_id", "signature")
    GRAPH_ID_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    graph_id: str
    signature: Signature
    def __init__(self, graph_id: _Optional[str] = ..., signature: _Optional[_Union[Signature, _Mapping]] = ...) -> None: ...

class Signature(_message.Message):
    __slots__ = ("sources",)
    SOURCES_FIELD_NUMBER: _ClassVar[int]
    sources: _containers.RepeatedCompositeFieldContainer[Source]
    def __init__(self, sources: _Optional[_Iterable[_Union[Source, _Mapping]]] = ...) -> None: ...

class Source(_message.Message):
    __slots__ = ("name", "parameter", "shape", "per_example", "dtype", "unused")
    NAME_FIELD_NUMBER: _ClassVar[int]
    PARAMETER_FIELD_NUMBER: _ClassVar[int]
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    PER_EXAMPLE_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    UNUSED_FIELD_NUMBER: _ClassVar[int]
    name: str
    parameter: bool
    shape: _containers.RepeatedScalarFieldContainer[int]
    per_example: bool
    dtype: _tensor_pb2.Dtype
    unused: bool
    def __init__(self, name: _Optional[str] = ..., parameter: bool = ..., shape: _Optional[_Iterable[int]] = ..., per_example: bool = ..., dtype: _Optional[_Union[_tensor_pb2.Dtype, str]] = ..., unused: bool = ...) -> None: ...

class SourceNames(_message.Message):
    __slots__ = ("names",)
    NAMES_FIELD_NUMBER: _ClassVar[int]
    names: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, names: _Optional[_Iterable[str]] = ...) -> None: ...

class ComputeGradientsRequest(_message.Message):
    __slots__ = ("graph", "graph_id", "dtype", "tensors", "reduction", "wrt", "outputs", "reject_non_finite", "examples")
    class TensorsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: _tensor_pb2.Tensor
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[_tensor_pb2.Tensor, _Mapping]] = ...) -> None: ...
    GRAPH_FIELD_NUMBER: _ClassVar[int]
    GRAPH_ID_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    TENSORS_FIELD_NUMBER: _ClassVar[int]
    REDUCTION_FIELD_NUMBER: _ClassVar[int]
    WRT_FIELD_NUMBER: _ClassVar[int]
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    REJECT_NON_FINITE_FIELD_NUMBER: _ClassVar[int]
    EXAMPLES_FIELD_NUMBER: _ClassVar[int]
    graph: _graph_pb2.Graph
    graph_id: str
    dtype: _tensor_pb2.Dtype
    tensors: _containers.MessageMap[str, _tensor_pb2.Tensor]
    reduction: Reduction
    wrt: SourceNames
    outputs: _containers.RepeatedScalarFieldContainer[int]
    reject_non_finite: bool
    examples: StoredExamples
    def __init__(self, graph: _Optional[_Union[_graph_pb2.Graph, _Mapping]] = ..., graph_id: _Optional[str] = ..., dtype: _Optional[_Union[_tensor_pb2.Dtype, str]] = ..., tensors: _Optional[_Mapping[str, _tensor_pb2.Tensor]] = ..., reduction: _Optional[_Union[Reduction, str]] = ..., wrt: _Optional[_Union[SourceNames, _Mapping]] = ..., outputs: _Optional[_Iterable[int]] = ..., reject_non_finite: bool = ..., examples: _Optional[_Union[StoredExamples, _Mapping]] = ...) -> None: ...

class StoredExamples(_message.Message):
    __slots__ = ("examples_id", "range", "indices")
    EXAMPLES_ID_FIELD_NUMBER: _ClassVar[int]
    RANGE_FIELD_NUMBER: _ClassVar[int]
    INDICES_FIELD_NUMBER: _ClassVar[int]
    examples_id: str
    range: RowRange
    indices: _tensor_pb2.Tensor
    def __init__(self, examples_id: _Optional[str] = ..., range: _Optional[_Union[RowRange, _Mapping]] = ..., indices: _Optional[_Union[_tensor_pb2.Tensor, _Mapping]] = ...) -> None: ...

class RowRange(_message.Message):
    __slots__ = ("start", "stop")
    START_FIELD_NUMBER: _ClassVar[int]
    STOP_FIELD_NUMBER: _ClassVar[int]
    start: int
    stop: int
    def __init__(self, start: _Optional[int] = ..., stop: _Optional[int] = ...) -> None: ...

class ComputeGradientsResponse(_message.Message):
    __slots__ = ("loss", "gradients", "outputs", "non_finite", "stats")
    class GradientsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: _tensor_pb2.Tensor
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[_tensor_pb2.Tensor, _Mapping]] = ...) -> None: ...
    class OutputsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: int
        value: _tensor_pb2.Tensor
        def __init__(self, key: _Optional[int] = ..., value: _Optional[_Union[_tensor_pb2.Tensor, _Mapping]] = ...) -> None: ...
    LOSS_FIELD_NUMBER: _ClassVar[int]
    GRADIENTS_FIELD_NUMBER: _ClassVar[int]
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    NON_FINITE_FIELD_NUMBER: _ClassVar[int]
    STATS_FIELD_NUMBER: _ClassVar[int]
    loss: _tensor_pb2.Tensor
    gradients: _containers.MessageMap[str, _tensor_pb2.Tensor]
    outputs: _containers.MessageMap[int, _tensor_pb2.Tensor]
    non_finite: NonFinite
    stats: ComputeStats
    def __init__(self, loss: _Optional[_Union[_tensor_pb2.Tensor, _Mapping]] = ..., gradients: _Optional[_Mapping[str, _tensor_pb2.Tensor]] = ..., outputs: _Optional[_Mapping[int, _tensor_pb2.Tensor]] = ..., non_finite: _Optional[_Union[NonFinite, _Mapping]] = ..., stats: _Optional[_Union[ComputeStats, _Mapping]] = ...) -> None: ...

class ComputeStats(_message.Message):
    __slots__ = ("compute_time", "examples", "blocks")
    COMPUTE_TIME_FIELD_NUMBER: _ClassVar[int]
    EXAMPLES_FIELD_NUMBER: _ClassVar[int]
    BLOCKS_FIELD_NUMBER: _ClassVar[int]
    compute_time: _duration_pb2.Duration
    examples: int
    blocks: int
    def __init__(self, compute_time: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., examples: _Optional[int] = ..., blocks: _Optional[int] = ...) -> None: ...

class NonFinite(_message.Message):
    __slots__ = ("phase", "node", "name", "example", "position", "value", "operands")
    class Phase(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        PHASE_UNSPECIFIED: _ClassVar[NonFinite.Phase]
        PHASE_VALUE: _ClassVar[NonFinite.Phase]
        PHASE_GRADIENT: _ClassVar[NonFinite.Phase]
        PHASE_REDUCTION: _ClassVar[NonFinite.Phase]
    PHASE_UNSPECIFIED: NonFinite.Phase
    PHASE_VALUE: NonFinite.Phase
    PHASE_GRADIENT: NonFinite.Phase
    PHASE_REDUCTION: NonFinite.Phase
    PHASE_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    EXAMPLE_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    OPERANDS_FIELD_NUMBER: _ClassVar[int]
    phase: NonFinite.Phase
    node: int
    name: str
    example: int
    position: _containers.RepeatedScalarFieldContainer[int]
    value: float
    operands: _containers.RepeatedCompositeFieldContainer[OperandValue]
    def __init__(self, phase: _Optional[_Union[NonFinite.Phase, str]] = ..., node: _Optional[int] = ..., name: _Optional[str] = ..., example: _Optional[int] = ..., position: _Optional[_Iterable[int]] = ..., value: _Optional[float] = ..., operands: _Optional[_Iterable[_Union[OperandValue, _Mapping]]] = ...) -> None: ...

class OperandValue(_message.Message):
    __slots__ = ("node", "name", "value")
    NODE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    node: int
    name: str
    value: float
    def __init__(self, node: _Optional[int] = ..., name: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...

class FramedTensor(_message.Message):
    __slots__ = ("name", "output", "loss", "dtype", "shape")
    NAME_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_FIELD_NUMBER: _ClassVar[int]
    LOSS_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    name: str
    output: int
    loss: bool
    dtype: _tensor_pb2.Dtype
    shape: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, name: _Optional[str] = ..., output: _Optional[int] = ..., loss: bool = ..., dtype: _Optional[_Union[_tensor_pb2.Dtype, str]] = ..., shape: _Optional[_Iterable[int]] = ...) -> None: ...

class StreamRequestHead(_message.Message):
    __slots__ = ("request", "framed")
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    FRAMED_FIELD_NUMBER: _ClassVar[int]
    request: ComputeGradientsRequest
    framed: _containers.RepeatedCompositeFieldContainer[FramedTensor]
    def __init__(self, request: _Optional[_Union[ComputeGradientsRequest, _Mapping]] = ..., framed: _Optional[_Iterable[_Union[FramedTensor, _Mapping]]] = ...) -> None: ...

class StreamGradientsRequest(_message.Message):
    __slots__ = ("tag", "head", "chunk")
    TAG_FIELD_NUMBER: _ClassVar[int]
    HEAD_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    tag: int
    head: StreamRequestHead
    chunk: bytes
    def __init__(self, tag: _Optional[int] = ..., head: _Optional[_Union[StreamRequestHead, _Mapping]] = ..., chunk: _Optional[bytes] = ...) -> None: ...

class StreamResponseHead(_message.Message):
    __slots__ = ("response", "framed")
    RESPONSE_FIELD_NUMBER: _ClassVar[int]
    FRAMED_FIELD_NUMBER: _ClassVar[int]
    response: ComputeGradientsResponse
    framed: _containers.RepeatedCompositeFieldContainer[FramedTensor]
    def __init__(self, response: _Optional[_Union[ComputeGradientsResponse, _Mapping]] = ..., framed: _Optional[_Iterable[_Union[FramedTensor, _Mapping]]] = ...) -> None: ...

class StreamGradientsResponse(_message.Message):
    __slots__ = ("tag", "head", "chunk", "error")
    TAG_FIELD_NUMBER: _ClassVar[int]
    HEAD_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    tag: int
    head: StreamResponseHead
    chunk: bytes
    error: RequestError
    def __init__(self, tag: _Optional[int] = ..., head: _Optional[_Union[StreamResponseHead, _Mapping]] = ..., chunk: _Optional[bytes] = ..., error: _Optional[_Union[RequestError, _Mapping]] = ...) -> None: ...

class RequestError(_message.Message):
    __slots__ = ("code", "message", "details")
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    DETAILS_FIELD_NUMBER: _ClassVar[int]
    code: int
    message: str
    details: _containers.RepeatedCompositeFieldContainer[_any_pb2.Any]
    def __init__(self, code: _Optional[int] = ..., message: _Optional[str] = ..., details: _Optional[_Iterable[_Union[_any_pb2.Any, _Mapping]]] = ...) -> None: ...

class UploadExamplesHead(_message.Message):
    __slots__ = ("examples_id", "tensors")
    EXAMPLES_ID_FIELD_NUMBER: _ClassVar[int]
    TENSORS_FIELD_NUMBER: _ClassVar[int]
    examples_id: str
    tensors: _containers.RepeatedCompositeFieldContainer[FramedTensor]
    def __init__(self, examples_id: _Optional[str] = ..., tensors: _Optional[_Iterable[_Union[FramedTensor, _Mapping]]] = ...) -> None: ...

class UploadExamplesRequest(_message.Message):
    __slots__ = ("head", "chunk")
    HEAD_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    head: UploadExamplesHead
    chunk: bytes
    def __init__(self, head: _Optional[_Union[UploadExamplesHead, _Mapping]] = ..., chunk: _Optional[bytes] = ...) -> None: ...

class UploadExamplesResponse(_message.Message):
    __slots__ = ("examples_id", "examples", "bytes", "held")
    EXAMPLES_ID_FIELD_NUMBER: _ClassVar[int]
    EXAMPLES_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    HELD_FIELD_NUMBER: _ClassVar[int]
    examples_id: str
    examples: int
    bytes: int
    held: bool
    def __init__(self, examples_id: _Optional[str] = ..., examples: _Optional[int] = ..., bytes: _Optional[int] = ..., held: bool = ...) -> None: ...

class TraceGraphRequest(_message.Message):
    __slots__ = ("graph", "graph_id", "dtype", "tensors")
    class TensorsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: _tensor_pb2.Tensor
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[_tensor_pb2.Tensor, _Mapping]] = ...) -> None: ...
    GRAPH_FIELD_NUMBER: _ClassVar[int]
    GRAPH_ID_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    TENSORS_FIELD_NUMBER: _ClassVar[int]
    graph: _graph_pb2.Graph
    graph_id: str
    dtype: _tensor_pb2.Dtype
    tensors: _containers.MessageMap[str, _tensor_pb2.Tensor]
    def __init__(self, graph: _Optional[_Union[_graph_pb2.Graph, _Mapping]] = ..., graph_id: _Optional[str] = ..., dtype: _Optional[_Union[_tensor_pb2.Dtype, str]] = ..., tensors: _Optional[_Mapping[str, _tensor_pb2.Tensor]] = ...) -> None: ...

class TraceGraphResponse(_message.Message):
    __slots__ = ("nodes", "non_finite")
    NODES_FIELD_NUMBER: _ClassVar[int]
    NON_FINITE_FIELD_NUMBER: _ClassVar[int]
    nodes: _containers.RepeatedCompositeFieldContainer[NodeTrace]
    non_finite: NonFinite
    def __init__(self, nodes: _Optional[_Iterable[_Union[NodeTrace, _Mapping]]] = ..., non_finite: _Optional[_Union[NonFinite, _Mapping]] = ...) -> None: ...

class NodeTrace(_message.Message):
    __slots__ = ("name", "op", "value", "gradient", "operands")
    NAME_FIELD_NUMBER: _ClassVar[int]
    OP_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    GRADIENT_FIELD_NUMBER: _ClassVar[int]
    OPERANDS_FIELD_NUMBER: _ClassVar[int]
    name: str
    op: str
    value: _tensor_pb2.Tensor
    gradient: _tensor_pb2.Tensor
    operands: _containers.RepeatedCompositeFieldContainer[EdgeTrace]
    def __init__(self, name: _Optional[str] = ..., op: _Optional[str] = ..., value: _Optional[_Union[_tensor_pb2.Tensor, _Mapping]] = ..., gradient: _Optional[_Union[_tensor_pb2.Tensor, _Mapping]] = ..., operands: _Optional[_Iterable[_Union[EdgeTrace, _Mapping]]] = ...) -> None: ...

class EdgeTrace(_message.Message):
    __slots__ = ("node", "gradient")
    NODE_FIELD_NUMBER: _ClassVar[int]
    GRADIENT_FIELD_NUMBER: _ClassVar[int]
    node: int
    gradient: _tensor_pb2.Tensor
    def __init__(self, node: _Optional[int] = ..., gradient: _Optional[_Union[_tensor_pb2.Tensor, _Mapping]] = ...) -> None: ...

class CheckGradientsRequest(_message.Message):
    __slots__ = ("graph", "graph_id", "dtype", "tensors", "reduction", "wrt", "step", "tolerance", "max_probes")
    class TensorsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: _tensor_pb2.Tensor
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[_tensor_pb2.Tensor, _Mapping]] = ...) -> None: ...
    GRAPH_FIELD_NUMBER: _ClassVar[int]
    GRAPH_ID_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    TENSORS_FIELD_NUMBER: _ClassVar[int]
    REDUCTION_FIELD_NUMBER: _ClassVar[int]
    WRT_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    TOLERANCE_FIELD_NUMBER: _ClassVar[int]
    MAX_PROBES_FIELD_NUMBER: _ClassVar[int]
    graph: _graph_pb2.Graph
    graph_id: str
    dtype: _tensor_pb2.Dtype
    tensors: _containers.MessageMap[str, _tensor_pb2.Tensor]
    reduction: Reduction
    wrt: SourceNames
    step: float
    tolerance: float
    max_probes: int
    def __init__(self, graph: _Optional[_Union[_graph_pb2.Graph, _Mapping]] = ..., graph_id: _Optional[str] = ..., dtype: _Optional[_Union[_tensor_pb2.Dtype, str]] = ..., tensors: _Optional[_Mapping[str, _tensor_pb2.Tensor]] = ..., reduction: _Optional[_Union[Reduction, str]] = ..., wrt: _Optional[_Union[SourceNames, _Mapping]] = ..., step: _Optional[float] = ..., tolerance: _Optional[float] = ..., max_probes: _Optional[int] = ...) -> None: ...

class CheckGradientsResponse(_message.Message):
    __slots__ = ("sources", "passed")
    SOURCES_FIELD_NUMBER: _ClassVar[int]
    PASSED_FIELD_NUMBER: _ClassVar[int]
    sources: _containers.RepeatedCompositeFieldContainer[SourceCheck]
    passed: bool
    def __init__(self, sources: _Optional[_Iterable[_Union[SourceCheck, _Mapping]]] = ..., passed: bool = ...) -> None: ...

class SourceCheck(_message.Message):
    __slots__ = ("name", "passed", "probed", "failed", "worst_position", "analytic", "numeric", "relative_error", "step_too_large")
    NAME_FIELD_NUMBER: _ClassVar[int]
    PASSED_FIELD_NUMBER: _ClassVar[int]
    PROBED_FIELD_NUMBER: _ClassVar[int]
    FAILED_FIELD_NUMBER: _ClassVar[int]
    WORST_POSITION_FIELD_NUMBER: _ClassVar[int]
    ANALYTIC_FIELD_NUMBER: _ClassVar[int]
    NUMERIC_FIELD_NUMBER: _ClassVar[int]
    RELATIVE_ERROR_FIELD_NUMBER: _ClassVar[int]
    STEP_TOO_LARGE_FIELD_NUMBER: _ClassVar[int]
    name: str
    passed: bool
    probed: int
    failed: int
    worst_position: _containers.RepeatedScalarFieldContainer[int]
    analytic: float
    numeric: float
    relative_error: float
    step_too_large: bool
    def __init__(self, name: _Optional[str] = ..., passed: bool = ..., probed: _Optional[int] = ..., failed: _Optional[int] = ..., worst_position: _Optional[_Iterable[int]] = ..., analytic: _Optional[float] = ..., numeric: _Optional[float] = ..., relative_error: _Optional[float] = ..., step_too_large: bool = ...) -> None: ...

class GetServerInfoRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetServerInfoResponse(_message.Message):
    __slots__ = ("version", "ops", "limits", "workers")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    OPS_FIELD_NUMBER: _ClassVar[int]
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    WORKERS_FIELD_NUMBER: _ClassVar[int]
    version: str
    ops: _containers.RepeatedCompositeFieldContainer[OpInfo]
    limits: _containers.RepeatedCompositeFieldContainer[LimitInfo]
    workers: int
    def __init__(self, version: _Optional[str] = ..., ops: _Optional[_Iterable[_Union[OpInfo, _Mapping]]] = ..., limits: _Optional[_Iterable[_Union[LimitInfo, _Mapping]]] = ..., workers: _Optional[int] = ...) -> None: ...

class OpInfo(_message.Message):
    __slots__ = ("name", "summary", "min_operands", "max_operands")
    NAME_FIELD_NUMBER: _ClassVar[int]
    SUMMARY_FIELD_NUMBER: _ClassVar[int]
    MIN_OPERANDS_FIELD_NUMBER: _ClassVar[int]
    MAX_OPERANDS_FIELD_NUMBER: _ClassVar[int]
    name: str
    summary: str
    min_operands: int
    max_operands: int
    def __init__(self, name: _Optional[str] = ..., summary: _Optional[str] = ..., min_operands: _Optional[int] = ..., max_operands: _Optional[int] = ...) -> None: ...

class LimitInfo(_message.Message):
    __slots__ = ("setting", "value", "summary")
    SETTING_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    SUMMARY_FIELD_NUMBER: _ClassVar[int]
    setting: str
    value: int
    summary: str
    def __init__(self, setting: _Optional[str] = ..., value: _Optional[int] = ..., summary: _Optional[str] = ...) -> None: ...
