from gradwire.v1 import tensor_pb2 as _tensor_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class TieRule(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    TIE_RULE_UNSPECIFIED: _ClassVar[TieRule]
    TIE_RULE_ZERO: _ClassVar[TieRule]
    TIE_RULE_SPLIT: _ClassVar[TieRule]

class ScalarOp(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SCALAR_OP_UNSPECIFIED: _ClassVar[ScalarOp]
    SCALAR_OP_ADD: _ClassVar[ScalarOp]
    SCALAR_OP_MUL: _ClassVar[ScalarOp]
    SCALAR_OP_MAX: _ClassVar[ScalarOp]
    SCALAR_OP_SIGMOID: _ClassVar[ScalarOp]
    SCALAR_OP_EXP: _ClassVar[ScalarOp]
    SCALAR_OP_LOG: _ClassVar[ScalarOp]
    SCALAR_OP_TANH: _ClassVar[ScalarOp]
    SCALAR_OP_SOFTPLUS: _ClassVar[ScalarOp]
    SCALAR_OP_POWER: _ClassVar[ScalarOp]
    SCALAR_OP_SIN: _ClassVar[ScalarOp]
    SCALAR_OP_COS: _ClassVar[ScalarOp]
    SCALAR_OP_LOG1P: _ClassVar[ScalarOp]
    SCALAR_OP_EXPM1: _ClassVar[ScalarOp]
    SCALAR_OP_ERF: _ClassVar[ScalarOp]
    SCALAR_OP_LESS: _ClassVar[ScalarOp]
    SCALAR_OP_EQUAL: _ClassVar[ScalarOp]
    SCALAR_OP_SELECT: _ClassVar[ScalarOp]
TIE_RULE_UNSPECIFIED: TieRule
TIE_RULE_ZERO: TieRule
TIE_RULE_SPLIT: TieRule
SCALAR_OP_UNSPECIFIED: ScalarOp
SCALAR_OP_ADD: ScalarOp
SCALAR_OP_MUL: ScalarOp
SCALAR_OP_MAX: ScalarOp
SCALAR_OP_SIGMOID: ScalarOp
SCALAR_OP_EXP: ScalarOp
SCALAR_OP_LOG: ScalarOp
SCALAR_OP_TANH: ScalarOp
SCALAR_OP_SOFTPLUS: ScalarOp
SCALAR_OP_POWER: ScalarOp
SCALAR_OP_SIN: ScalarOp
SCALAR_OP_COS: ScalarOp
SCALAR_OP_LOG1P: ScalarOp
SCALAR_OP_EXPM1: ScalarOp
SCALAR_OP_ERF: ScalarOp
SCALAR_OP_LESS: ScalarOp
SCALAR_OP_EQUAL: ScalarOp
SCALAR_OP_SELECT: ScalarOp

class Graph(_message.Message):
    __slots__ = ("nodes", "loss", "ties")
    NODES_FIELD_NUMBER: _ClassVar[int]
    LOSS_FIELD_NUMBER: _ClassVar[int]
    TIES_FIELD_NUMBER: _ClassVar[int]
    nodes: _containers.RepeatedCompositeFieldContainer[Node]
    loss: int
    ties: TieRule
    def __init__(self, nodes: _Optional[_Iterable[_Union[Node, _Mapping]]] = ..., loss: _Optional[int] = ..., ties: _Optional[_Union[TieRule, str]] = ...) -> None: ...

class Node(_message.Message):
    __slots__ = ("name", "parameter", "input", "constant", "add", "mul", "max", "sigmoid", "exp", "log", "tanh", "softplus", "power", "sum", "reduce_max", "matmul", "reshape", "transpose", "take", "scalars", "logsumexp", "less", "equal", "select", "sin", "cos", "log1p", "expm1", "erf", "cumsum", "concatenate", "slice", "scatter_add", "stop_gradient")
    NAME_FIELD_NUMBER: _ClassVar[int]
    PARAMETER_FIELD_NUMBER: _ClassVar[int]
    INPUT_FIELD_NUMBER: _ClassVar[int]
    CONSTANT_FIELD_NUMBER: _ClassVar[int]
    ADD_FIELD_NUMBER: _ClassVar[int]
    MUL_FIELD_NUMBER: _ClassVar[int]
    MAX_FIELD_NUMBER: _ClassVar[int]
    SIGMOID_FIELD_NUMBER: _ClassVar[int]
    EXP_FIELD_NUMBER: _ClassVar[int]
    LOG_FIELD_NUMBER: _ClassVar[int]
    TANH_FIELD_NUMBER: _ClassVar[int]
    SOFTPLUS_FIELD_NUMBER: _ClassVar[int]
    POWER_FIELD_NUMBER: _ClassVar[int]
    SUM_FIELD_NUMBER: _ClassVar[int]
    REDUCE_MAX_FIELD_NUMBER: _ClassVar[int]
    MATMUL_FIELD_NUMBER: _ClassVar[int]
    RESHAPE_FIELD_NUMBER: _ClassVar[int]
    TRANSPOSE_FIELD_NUMBER: _ClassVar[int]
    TAKE_FIELD_NUMBER: _ClassVar[int]
    SCALARS_FIELD_NUMBER: _ClassVar[int]
    LOGSUMEXP_FIELD_NUMBER: _ClassVar[int]
    LESS_FIELD_NUMBER: _ClassVar[int]
    EQUAL_FIELD_NUMBER: _ClassVar[int]
    SELECT_FIELD_NUMBER: _ClassVar[int]
    SIN_FIELD_NUMBER: _ClassVar[int]
    COS_FIELD_NUMBER: _ClassVar[int]
    LOG1P_FIELD_NUMBER: _ClassVar[int]
    EXPM1_FIELD_NUMBER: _ClassVar[int]
    ERF_FIELD_NUMBER: _ClassVar[int]
    CUMSUM_FIELD_NUMBER: _ClassVar[int]
    CONCATENATE_FIELD_NUMBER: _ClassVar[int]
    SLICE_FIELD_NUMBER: _ClassVar[int]
    SCATTER_ADD_FIELD_NUMBER: _ClassVar[int]
    STOP_GRADIENT_FIELD_NUMBER: _ClassVar[int]
    name: str
    parameter: Parameter
    input: Input
    constant: Constant
    add: Add
    mul: Mul
    max: Max
    sigmoid: Sigmoid
    exp: Exp
    log: Log
    tanh: Tanh
    softplus: Softplus
    power: Power
    sum: Sum
    reduce_max: ReduceMax
    matmul: Matmul
    reshape: Reshape
    transpose: Transpose
    take: Take
    scalars: Scalars
    logsumexp: Logsumexp
    less: Less
    equal: Equal
    select: Select
    sin: Sin
    cos: Cos
    log1p: Log1p
    expm1: Expm1
    erf: Erf
    cumsum: Cumsum
    concatenate: Concatenate
    slice: Slice
    scatter_add: ScatterAdd
    stop_gradient: StopGradient
    def __init__(self, name: _Optional[str] = ..., parameter: _Optional[_Union[Parameter, _Mapping]] = ..., input: _Optional[_Union[Input, _Mapping]] = ..., constant: _Optional[_Union[Constant, _Mapping]] = ..., add: _Optional[_Union[Add, _Mapping]] = ..., mul: _Optional[_Union[Mul, _Mapping]] = ..., max: _Optional[_Union[Max, _Mapping]] = ..., sigmoid: _Optional[_Union[Sigmoid, _Mapping]] = ..., exp: _Optional[_Union[Exp, _Mapping]] = ..., log: _Optional[_Union[Log, _Mapping]] = ..., tanh: _Optional[_Union[Tanh, _Mapping]] = ..., softplus: _Optional[_Union[Softplus, _Mapping]] = ..., power: _Optional[_Union[Power, _Mapping]] = ..., sum: _Optional[_Union[Sum, _Mapping]] = ..., reduce_max: _Optional[_Union[ReduceMax, _Mapping]] = ..., matmul: _Optional[_Union[Matmul, _Mapping]] = ..., reshape: _Optional[_Union[Reshape, _Mapping]] = ..., transpose: _Optional[_Union[Transpose, _Mapping]] = ..., take: _Optional[_Union[Take, _Mapping]] = ..., scalars: _Optional[_Union[Scalars, _Mapping]] = ..., logsumexp: _Optional[_Union[Logsumexp, _Mapping]] = ..., less: _Optional[_Union[Less, _Mapping]] = ..., equal: _Optional[_Union[Equal, _Mapping]] = ..., select: _Optional[_Union[Select, _Mapping]] = ..., sin: _Optional[_Union[Sin, _Mapping]] = ..., cos: _Optional[_Union[Cos, _Mapping]] = ..., log1p: _Optional[_Union[Log1p, _Mapping]] = ..., expm1: _Optional[_Union[Expm1, _Mapping]] = ..., erf: _Optional[_Union[Erf, _Mapping]] = ..., cumsum: _Optional[_Union[Cumsum, _Mapping]] = ..., concatenate: _Optional[_Union[Concatenate, _Mapping]] = ..., slice: _Optional[_Union[Slice, _Mapping]] = ..., scatter_add: _Optional[_Union[ScatterAdd, _Mapping]] = ..., stop_gradient: _Optional[_Union[StopGradient, _Mapping]] = ...) -> None: ...

class Parameter(_message.Message):
    __slots__ = ("shape",)
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    shape: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, shape: _Optional[_Iterable[int]] = ...) -> None: ...

class Input(_message.Message):
    __slots__ = ("shape", "per_example", "dtype")
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    PER_EXAMPLE_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    shape: _containers.RepeatedScalarFieldContainer[int]
    per_example: bool
    dtype: _tensor_pb2.Dtype
    def __init__(self, shape: _Optional[_Iterable[int]] = ..., per_example: bool = ..., dtype: _Optional[_Union[_tensor_pb2.Dtype, str]] = ...) -> None: ...

class Constant(_message.Message):
    __slots__ = ("value",)
    VALUE_FIELD_NUMBER: _ClassVar[int]
    value: _tensor_pb2.Tensor
    def __init__(self, value: _Optional[_Union[_tensor_pb2.Tensor, _Mapping]] = ...) -> None: ...

class Add(_message.Message):
    __slots__ = ("operands",)
    OPERANDS_FIELD_NUMBER: _ClassVar[int]
    operands: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, operands: _Optional[_Iterable[int]] = ...) -> None: ...

class Mul(_message.Message):
    __slots__ = ("operands",)
    OPERANDS_FIELD_NUMBER: _ClassVar[int]
    operands: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, operands: _Optional[_Iterable[int]] = ...) -> None: ...

class Max(_message.Message):
    __slots__ = ("operands",)
    OPERANDS_FIELD_NUMBER: _ClassVar[int]
    operands: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, operands: _Optional[_Iterable[int]] = ...) -> None: ...

class Sigmoid(_message.Message):
    __slots__ = ("operands",)
    OPERANDS_FIELD_NUMBER: _ClassVar[int]
    operands: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, operands: _Optional[_Iterable[int]] = ...) -> None: ...

class Exp(_message.Message):
    __slots__ = ("operands",)
    OPERANDS_FIELD_NUMBER: _ClassVar[int]
    operands: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, operands: _Optional[_Iterable[int]] = ...) -> None: ...

class Log(_message.Message):
    __slots__ = ("operands",)
    OPERANDS_FIELD_NUMBER: _ClassVar[int]
    operands: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, operands: _Optional[_Iterable[int]] = ...) -> None: ...

class Tanh(_message.Message):
    __slots__ = ("operands",)
    OPERANDS_FIELD_NUMBER: _ClassVar[int]
    operands: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, operands: _Optional[_Iterable[int]] = ...) -> None: ...

class Softplus(_message.Message):
    __slots__ = ("operands",)
    OPERANDS_FIELD_NUMBER: _ClassVar[int]
    operands: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, operands: _Optional[_Iterable[int]] = ...) -> None: ...

class Power(_message.Message):
    __slots__ = ("operands", "exponent")
    OPERANDS_FIELD_NUMBER: _ClassVar[int]
    EXPONENT_FIELD_NUMBER: _ClassVar[int]
    operands: _containers.RepeatedScalarFieldContainer[int]
    exponent: float
    def __init__(self, operands: _Optional[_Iterable[int]] = ..., exponent: _Optional[float] = ...) -> None: ...

class Less(_message.Message):
    __slots__ = ("operands",)
    OPERANDS_FIELD_NUMBER: _ClassVar[int]
    operands: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, operands: _Optional[_Iterable[int]] = ...) -> None: ...

class Equal(_message.Message):
    __slots__ = ("operands",)
    OPERANDS_FIELD_NUMBER: _ClassVar[int]
    operands: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, operands: _Optional[_Iterable[int]] = ...) -> None: ...

class Select(_message.Message):
    __slots__ = ("operands",)
    OPERANDS_FIELD_NUMBER: _ClassVar[int]
    operands: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, operands: _Optional[_Iterable[int]] = ...) -> None: ...

class Sin(_message.Message):
    __slots__ = ("operands",)
    OPERANDS_FIELD_NUMBER: _ClassVar[int]
    operands: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, operands: _Optional[_Iterable[int]] = ...) -> None: ...

class Cos(_message.Message):
    __slots__ = ("operands",)
    OPERANDS_FIELD_NUMBER: _ClassVar[int]
    operands: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, operands: _Optional[_Iterable[int]] = ...) -> None: ...

class Log1p(_message.Message):
    __slots__ = ("operands",)
    OPERANDS_FIELD_NUMBER: _ClassVar[int]
    operands: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, operands: _Optional[_Iterable[int]] = ...) -> None: ...

class Expm1(_message.Message):
    __slots__ = ("operands",)
    OPERANDS_FIELD_NUMBER: _ClassVar[int]
    operands: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, operands: _Optional[_Iterable[int]] = ...) -> None: ...

class Erf(_message.Message):
    __slots__ = ("operands",)
    OPERANDS_FIELD_NUMBER: _ClassVar[int]
    operands: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, operands: _Optional[_Iterable[int]] = ...) -> None: ...

class Sum(_message.Message):
    __slots__ = ("operands", "axes", "keepdims")
    OPERANDS_FIELD_NUMBER: _ClassVar[int]
    AXES_FIELD_NUMBER: _ClassVar[int]
    KEEPDIMS_FIELD_NUMBER: _ClassVar[int]
    operands: _containers.RepeatedScalarFieldContainer[int]
    axes: _containers.RepeatedScalarFieldContainer[int]
    keepdims: bool
    def __init__(self, operands: _Optional[_Iterable[int]] = ..., axes: _Optional[_Iterable[int]] = ..., keepdims: bool = ...) -> None: ...

class ReduceMax(_message.Message):
    __slots__ = ("operands", "axes", "keepdims")
    OPERANDS_FIELD_NUMBER: _ClassVar[int]
    AXES_FIELD_NUMBER: _ClassVar[int]
    KEEPDIMS_FIELD_NUMBER: _ClassVar[int]
    operands: _containers.RepeatedScalarFieldContainer[int]
    axes: _containers.RepeatedScalarFieldContainer[int]
    keepdims: bool
    def __init__(self, operands: _Optional[_Iterable[int]] = ..., axes: _Optional[_Iterable[int]] = ..., keepdims: bool = ...) -> None: ...

class Logsumexp(_message.Message):
    __slots__ = ("operands", "axes", "keepdims")
    OPERANDS_FIELD_NUMBER: _ClassVar[int]
    AXES_FIELD_NUMBER: _ClassVar[int]
    KEEPDIMS_FIELD_NUMBER: _ClassVar[int]
    operands: _containers.RepeatedScalarFieldContainer[int]
    axes: _containers.RepeatedScalarFieldContainer[int]
    keepdims: bool
    def __init__(self, operands: _Optional[_Iterable[int]] = ..., axes: _Optional[_Iterable[int]] = ..., keepdims: bool = ...) -> None: ...

class Matmul(_message.Message):
    __slots__ = ("operands",)
    OPERANDS_FIELD_NUMBER: _ClassVar[int]
    operands: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, operands: _Optional[_Iterable[int]] = ...) -> None: ...

class Reshape(_message.Message):
    __slots__ = ("operands", "shape")
    OPERANDS_FIELD_NUMBER: _ClassVar[int]
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    operands: _containers.RepeatedScalarFieldContainer[int]
    shape: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, operands: _Optional[_Iterable[int]] = ..., shape: _Optional[_Iterable[int]] = ...) -> None: ...

class Transpose(_message.Message):
    __slots__ = ("operands", "axes")
    OPERANDS_FIELD_NUMBER: _ClassVar[int]
    AXES_FIELD_NUMBER: _ClassVar[int]
    operands: _containers.RepeatedScalarFieldContainer[int]
    axes: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, operands: _Optional[_Iterable[int]] = ..., axes: _Optional[_Iterable[int]] = ...) -> None: ...

class Take(_message.Message):
    __slots__ = ("operands", "axis")
    OPERANDS_FIELD_NUMBER: _ClassVar[int]
    AXIS_FIELD_NUMBER: _ClassVar[int]
    operands: _containers.RepeatedScalarFieldContainer[int]
    axis: int
    def __init__(self, operands: _Optional[_Iterable[int]] = ..., axis: _Optional[int] = ...) -> None: ...

class StopGradient(_message.Message):
    __slots__ = ("operands",)
    OPERANDS_FIELD_NUMBER: _ClassVar[int]
    operands: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, operands: _Optional[_Iterable[int]] = ...) -> None: ...

class ScatterAdd(_message.Message):
    __slots__ = ("operands", "axis", "size")
    OPERANDS_FIELD_NUMBER: _ClassVar[int]
    AXIS_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    operands: _containers.RepeatedScalarFieldContainer[int]
    axis: int
    size: int
    def __init__(self, operands: _Optional[_Iterable[int]] = ..., axis: _Optional[int] = ..., size: _Optional[int] = ...) -> None: ...

class Concatenate(_message.Message):
    __slots__ = ("operands", "axis")
    OPERANDS_FIELD_NUMBER: _ClassVar[int]
    AXIS_FIELD_NUMBER: _ClassVar[int]
    operands: _containers.RepeatedScalarFieldContainer[int]
    axis: int
    def __init__(self, operands: _Optional[_Iterable[int]] = ..., axis: _Optional[int] = ...) -> None: ...

class Slice(_message.Message):
    __slots__ = ("operands", "starts", "sizes", "steps")
    OPERANDS_FIELD_NUMBER: _ClassVar[int]
    STARTS_FIELD_NUMBER: _ClassVar[int]
    SIZES_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    operands: _containers.RepeatedScalarFieldContainer[int]
    starts: _containers.RepeatedScalarFieldContainer[int]
    sizes: _containers.RepeatedScalarFieldContainer[int]
    steps: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, operands: _Optional[_Iterable[int]] = ..., starts: _Optional[_Iterable[int]] = ..., sizes: _Optional[_Iterable[int]] = ..., steps: _Optional[_Iterable[int]] = ...) -> None: ...

class Cumsum(_message.Message):
    __slots__ = ("operands", "axis")
    OPERANDS_FIELD_NUMBER: _ClassVar[int]
    AXIS_FIELD_NUMBER: _ClassVar[int]
    operands: _containers.RepeatedScalarFieldContainer[int]
    axis: int
    def __init__(self, operands: _Optional[_Iterable[int]] = ..., axis: _Optional[int] = ...) -> None: ...

class Scalars(_message.Message):
    __slots__ = ("operands", "constants", "ops", "arities", "arguments", "exponents", "results")
    OPERANDS_FIELD_NUMBER: _ClassVar[int]
    CONSTANTS_FIELD_NUMBER: _ClassVar[int]
    OPS_FIELD_NUMBER: _ClassVar[int]
    ARITIES_FIELD_NUMBER: _ClassVar[int]
    ARGUMENTS_FIELD_NUMBER: _ClassVar[int]
    EXPONENTS_FIELD_NUMBER: _ClassVar[int]
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    operands: _containers.RepeatedScalarFieldContainer[int]
    constants: _containers.RepeatedScalarFieldContainer[float]
    ops: _containers.RepeatedScalarFieldContainer[ScalarOp]
    arities: _containers.RepeatedScalarFieldContainer[int]
    arguments: _containers.RepeatedScalarFieldContainer[int]
    exponents: _containers.RepeatedScalarFieldContainer[float]
    results: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, operands: _Optional[_Iterable[int]] = ..., constants: _Optional[_Iterable[float]] = ..., ops: _Optional[_Iterable[_Union[ScalarOp, str]]] = ..., arities: _Optional[_Iterable[int]] = ..., arguments: _Optional[_Iterable[int]] = ..., exponents: _Optional[_Iterable[float]] = ..., results: _Optional[_Iterable[int]] = ...) -> None: ...
