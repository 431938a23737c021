"""Vectors of LLVM as values of kernels: as many numbers as a cache line has, loaded, computed with and stored at once.

What LLVM makes of a loop over lanes checks first whether what it reads may be what it writes, and has a remainder;
for the few lanes of a scalar operation that costs as much as the operation. A function that is written with operators
and ``select`` serves single numbers and vectors alike.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir
from numba import types
from numba.core.datamodel import register_default
from numba.core.datamodel.models import PrimitiveModel
from numba.core.imputils import lower_builtin
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import intrinsic

from gradwire_server.engine.machine.memory import inlined

LINE = 64
"""Bytes of a vector. LLVM splits it where registers are shorter."""


class Vector(types.Type):
    """Numbers, or of a comparison whether it holds, for each lane."""

    def __init__(self, element: types.Type, count: int) -> None:
        self.element, self.count = element, count
        super().__init__(name=f"Vector({element}, {count})")


@register_default(Vector)
class _Model(PrimitiveModel):
    def __init__(self, manager: Any, kind: Vector) -> None:
        own = ir.IntType(1) if kind.element == types.boolean else manager.lookup(kind.element).get_value_type()
        super().__init__(manager, kind, ir.VectorType(own, kind.count))


def _alike(kind: types.Type, own: types.Type) -> types.Type:
    """The type of ``own``, for each lane if ``kind`` is."""
    return Vector(own, kind.count) if isinstance(kind, Vector) else own


def _widest(*kinds: types.Type) -> types.Type:
    """A vector if one is."""
    return next((kind for kind in kinds if isinstance(kind, Vector)), kinds[0])


def _spread(builder: Any, kinds: Sequence[types.Type], values: Sequence[Any]) -> list[Any]:
    """The values, those that are one for all lanes for each lane if another is a vector."""
    kind = _widest(*kinds)
    if not isinstance(kind, Vector):
        return list(values)
    return [
        value if isinstance(own, Vector) else _repeat(builder, value, kind.count)
        for own, value in zip(kinds, values, strict=True)
    ]


def _repeat(builder: Any, value: Any, count: int) -> Any:
    nothing = ir.Constant(ir.VectorType(value.type, count), ir.Undefined)
    first = builder.insert_element(nothing, value, ir.Constant(ir.IntType(32), 0))
    return builder.shuffle_vector(first, nothing, ir.Constant(ir.VectorType(ir.IntType(32), count), None))


def _call(builder: Any, name: str, result: Any, *arguments: Any) -> Any:
    """Call an intrinsic function of LLVM."""
    function_type = ir.FunctionType(result, [argument.type for argument in arguments])
    return builder.call(builder.module.globals.get(name) or ir.Function(builder.module, function_type, name), arguments)


def _suffix(kind: Any) -> str:
    """What an intrinsic function's name says of the type it is for."""
    name: str = (
        f"v{kind.count}{kind.element.intrinsic_name}" if isinstance(kind, ir.VectorType) else kind.intrinsic_name
    )
    return name


@intrinsic
def line(typing: Any, number: Any) -> Any:
    """A vector of one number."""
    kind = Vector(number, LINE * 8 // number.bitwidth)

    def generate(context: Any, builder: Any, signature: Any, arguments: Sequence[Any]) -> Any:
        return _repeat(builder, arguments[0], kind.count)

    return kind(number), generate


@intrinsic
def lanes_of(typing: Any, like: Any) -> Any:
    """How many numbers a vector has; 1 for a number."""
    count = like.count if isinstance(like, Vector) else 1
    return types.uint64(like), lambda context, *_: context.get_constant(types.uint64, count)


def _place(builder: Any, numbers: Any, index: Any, like: Any) -> Any:
    return builder.bitcast(builder.gep(numbers, [index]), ir.PointerType(like.type))


@intrinsic
def load(typing: Any, numbers: Any, index: Any, like: Any) -> Any:
    """What is at ``index``, and for a vector behind it; ``like`` says which of both."""
    size = numbers.dtype.bitwidth // 8

    def generate(context: Any, builder: Any, signature: Any, arguments: Sequence[Any]) -> Any:
        return builder.load(_place(builder, *arguments), align=size)

    return like(numbers, index, like), generate


@intrinsic
def store(typing: Any, numbers: Any, index: Any, given: Any) -> Any:
    """Put what is given at ``index``, and for a vector behind it."""
    size = numbers.dtype.bitwidth // 8

    def generate(context: Any, builder: Any, signature: Any, arguments: Sequence[Any]) -> Any:
        builder.store(arguments[2], _place(builder, *arguments), align=size)
        return context.get_dummy_value()

    return types.void(numbers, index, given), generate


@intrinsic
def widened(typing: Any, x: Any) -> Any:
    """The numbers of a vector in float64."""
    kind = Vector(types.float64, x.count)

    def generate(context: Any, builder: Any, signature: Any, arguments: Sequence[Any]) -> Any:
        wide = context.get_value_type(kind)
        return arguments[0] if arguments[0].type == wide else builder.fpext(arguments[0], wide)

    return kind(x), generate


@intrinsic
def sum_of_lanes(typing: Any, x: Any) -> Any:
    """The sum of the numbers of a vector, in pairs of both halves."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Sequence[Any]) -> Any:
        numbers, count = arguments[0], x.count
        while count > 1:
            count //= 2
            halves = [
                builder.shuffle_vector(
                    numbers, numbers, ir.Constant(ir.VectorType(ir.IntType(32), count), list(places))
                )
                for places in (range(count), range(count, 2 * count))
            ]
            numbers = builder.fadd(*halves)
        return builder.extract_element(numbers, ir.Constant(ir.IntType(32), 0))

    return x.element(x), generate


@intrinsic
def select(typing: Any, condition: Any, x: Any, y: Any) -> Any:
    """x where the condition holds, y elsewhere, without a branch."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Sequence[Any]) -> Any:
        return builder.select(*_spread(builder, signature.args, arguments))

    return _widest(x, y, _alike(condition, x))(condition, x, y), generate


@intrinsic
def root(typing: Any, x: Any) -> Any:
    """The square root."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Sequence[Any]) -> Any:
        kind = arguments[0].type
        return _call(builder, f"llvm.sqrt.{_suffix(kind)}", kind, arguments[0])

    return x(x), generate


def _operate(symbol: Any, generate: Callable[..., Any], *, compares: bool = False) -> None:
    """Let an operator take vectors, or a vector and one number; ``generate`` makes the instruction."""

    @infer_global(symbol)
    class _Typed(AbstractTemplate):
        def generic(self, args: Any, kws: Any) -> Any:
            kind = _widest(*args)
            if not isinstance(kind, Vector):
                return None
            return signature(_alike(kind, types.boolean) if compares else kind, *args)

    def lower(context: Any, builder: Any, signed: Any, arguments: Sequence[Any]) -> Any:
        return generate(builder, *_spread(builder, signed.args, arguments))

    for kinds in ((Vector,), (Vector, Vector), (Vector, types.Float), (types.Float, Vector)):
        lower_builtin(symbol, *kinds)(lower)


def _compare(sign: str) -> Callable[..., Any]:
    return lambda builder, x, y: builder.fcmp_ordered(sign, x, y)


def _power(builder: Any, x: Any, y: Any) -> Any:
    return _call(builder, f"llvm.pow.{_suffix(x.type)}", x.type, x, y)


_operate(operator.neg, ir.IRBuilder.fneg)
_operate(operator.add, ir.IRBuilder.fadd)
_operate(operator.sub, ir.IRBuilder.fsub)
_operate(operator.mul, ir.IRBuilder.fmul)
_operate(operator.truediv, ir.IRBuilder.fdiv)
_operate(operator.pow, _power)
_operate(operator.or_, ir.IRBuilder.or_)
_operate(operator.gt, _compare(">"), compares=True)
_operate(operator.ge, _compare(">="), compares=True)
_operate(operator.eq, _compare("=="), compares=True)
_operate(operator.ne, lambda builder, x, y: builder.fcmp_unordered("!=", x, y), compares=True)


@inlined
def larger(a: Any, b: Any) -> Any:
    """The larger one; NaN of either wins, and of two zeros the second, as with NumPy."""
    return select((a > b) | (a != a), a, b)  # noqa: PLR0124  (NaN)
