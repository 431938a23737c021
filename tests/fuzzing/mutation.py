"""Mutations of messages by their descriptors, so that what comes out still parses and mostly means something."""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Collection, Iterator, Sequence
from random import Random
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from gradwire.v1 import gradient_service_pb2 as pb
from gradwire.v1 import graph_pb2, tensor_pb2

EDGES = [0, 1, 2, 3, 7, 31, 32, 33, 255, 256, 1 << 16, 1 << 20]
EDGES += [(1 << bits) + near for bits in (30, 31, 32, 53, 59, 60, 62, 63, 64) for near in (-1, 0, 1)]
FLOATS = [0.0, -0.0, 1.0, -1.0, 0.5, 2.0, 3.0, 1e-9, 1e-300, 5e-324, -30.0, 1e4, 1e200, math.inf, -math.inf, math.nan]
TEXTS = ["", "w", "x", "a" * 257, "a\nb", "\0", "\x1b[31m", "\u202e", "%s{}", "ключ", "@0", "@1", "0" * 64, "loss"]

RANGES = {
    FieldDescriptor.CPPTYPE_INT32: (-(1 << 31), (1 << 31) - 1),
    FieldDescriptor.CPPTYPE_INT64: (-(1 << 63), (1 << 63) - 1),
    FieldDescriptor.CPPTYPE_UINT32: (0, (1 << 32) - 1),
    FieldDescriptor.CPPTYPE_UINT64: (0, (1 << 64) - 1),
    FieldDescriptor.CPPTYPE_ENUM: (-(1 << 31), (1 << 31) - 1),
}
MANY = 300
"""Times that an element of a list may be repeated at once."""

SMALL = 64
"""Elements of a tensor that is made to fit."""


def mutate(message: Message, random: Random) -> None:
    """Change a message in place: a few fields, and then, mostly, what no longer fits them."""
    for _ in range(random.choice((1, 1, 1, 2, 4))):
        every = list(_messages(message))
        _change(random.choice(every), every, random)
    if random.random() < 0.7:
        for found in list(_messages(message)):
            if isinstance(found, graph_pb2.Graph):
                mend_graph(found, random)
        uploads = [found for found in _messages(message) if isinstance(found, pb.UploadExamplesHead)]
        kept = {tensor.name for head in uploads for tensor in head.tensors}
        for found in list(_messages(message)):
            if {"graph", "tensors"} <= set(found.DESCRIPTOR.fields_by_name):
                mend_tensors(found, kept, random)
            if found.DESCRIPTOR.name == "Upload":
                mend_upload(found, random)


def _messages(message: Message) -> Iterator[Message]:
    """A message and all inside it."""
    pending = [message]
    while pending:
        found = pending.pop()
        yield found
        for field, value in found.ListFields():
            if field.message_type is None:
                continue
            if _is_map(field):
                if field.message_type.fields_by_name["value"].message_type is not None:
                    pending.extend(value.values())
            elif field.is_repeated:
                pending.extend(value)
            else:
                pending.append(value)


def _is_map(field: Any) -> bool:
    return field.message_type is not None and bool(field.message_type.GetOptions().map_entry)


def _change(message: Message, every: list[Message], random: Random) -> None:
    fields: Sequence[Any] = message.DESCRIPTOR.fields
    if not fields:
        return
    present = [field for field, _ in message.ListFields()]
    field = random.choice(present if present and random.random() < 0.7 else fields)
    if _is_map(field):
        _change_map(message, field, every, random)
    elif field.is_repeated:
        _change_list(getattr(message, field.name), field, every, random)
    elif random.random() < 0.1:
        message.ClearField(field.name)
    elif field.message_type is not None:
        inside = getattr(message, field.name)
        inside.SetInParent()
        _fill(inside, every, random)
    else:
        setattr(message, field.name, _scalar(field, getattr(message, field.name), every, random))


def _change_list(values: Any, field: FieldDescriptor, every: list[Message], random: Random) -> None:
    kind = random.randrange(6)
    if kind == 0 and values:
        del values[random.randrange(len(values))]
    elif kind == 1 and values:
        repeated = values[random.randrange(len(values))]
        for _ in range(random.choice((1, 2, MANY))):
            values.append(repeated)
    elif kind == 2 and len(values) > 1:
        shuffled = list(values)
        random.shuffle(shuffled)
        copies = [_copy(value) if field.message_type is not None else value for value in shuffled]
        del values[:]
        values.extend(copies)
    elif field.message_type is not None:
        _fill(values.add(), every, random)
    elif kind == 3 and values:
        place = random.randrange(len(values))
        values[place] = _scalar(field, values[place], every, random)
    else:
        near = values[-1] if values else None
        values.append(_scalar(field, near, every, random))


def _change_map(message: Message, field: Any, every: list[Message], random: Random) -> None:
    entries = getattr(message, field.name)
    key_field = field.message_type.fields_by_name["key"]
    keys = list(entries)
    if keys and random.random() < 0.3:
        del entries[random.choice(keys)]
    elif keys and random.random() < 0.5:
        _change(entries[random.choice(keys)], every, random)
    else:
        _fill(entries[_scalar(key_field, None, every, random)], every, random)


def _copy(message: Message) -> Message:
    copy = type(message)()
    copy.CopyFrom(message)
    return copy


def _fill(message: Message, every: list[Message], random: Random) -> None:
    """Make it like another one of its kind, or like none."""
    alike = [other for other in every if other.DESCRIPTOR is message.DESCRIPTOR and other is not message]
    if alike and random.random() < 0.6:
        message.CopyFrom(_copy(random.choice(alike)))
    for _ in range(random.randrange(3)):
        _change(message, every, random)


def _scalar(field: Any, near: Any, every: list[Message], random: Random) -> Any:
    """Another number, text or string of bytes, often one ``near`` the one that is there."""
    if field.type == FieldDescriptor.TYPE_BYTES:
        return _bytes(near or b"", random)
    if field.cpp_type in RANGES:
        return _whole(field, near, random)
    return _OTHERS[field.cpp_type](every, random)


def _float(_: list[Message], random: Random) -> float:
    return random.choice(FLOATS) if random.random() < 0.5 else random.uniform(-3, 3)


def _text(every: list[Message], random: Random) -> str:
    names = [name for message in every if (name := getattr(message, "name", ""))]
    return random.choice(names if names and random.random() < 0.6 else TEXTS)


_OTHERS: dict[int, Callable[[list[Message], Random], Any]] = {
    FieldDescriptor.CPPTYPE_BOOL: lambda _, random: random.random() < 0.5,
    FieldDescriptor.CPPTYPE_DOUBLE: _float,
    FieldDescriptor.CPPTYPE_FLOAT: _float,
    FieldDescriptor.CPPTYPE_STRING: _text,
}


def _whole(field: Any, near: int | None, random: Random) -> int:
    if field.enum_type is not None and random.random() < 0.9:
        number: int = random.choice(field.enum_type.values).number
        return number
    low, high = RANGES[field.cpp_type]
    if near is not None and random.random() < 0.4:
        return min(max(near + random.choice((-2, -1, 1, 2)), low), high)
    if random.random() < 0.6:
        return random.randrange(6)
    return min(max(random.choice(EDGES) * random.choice((1, 1, -1)), low), high)


def _bytes(found: bytes, random: Random) -> bytes:
    kind = random.randrange(4)
    if kind == 0:
        return found[: random.randrange(len(found) + 1)]
    if kind == 1:
        return found + random.randbytes(random.choice((1, 7, 8, 64)))
    changed = bytearray(found or bytes(8))
    changed[random.randrange(len(changed))] = random.randrange(256)
    return bytes(changed)


def mend_graph(graph: Any, random: Random) -> None:
    """Give sources names of their own, and operations operands that come first, so that the graph means something."""
    names: set[str] = set()
    for index, node in enumerate(graph.nodes):
        kind = node.WhichOneof("kind")
        if kind is None:
            continue
        if node.name in names or kind in ("parameter", "input"):
            node.name = node.name[:8] if node.name[:8] not in names | {""} else f"n{index}"
        names.add(node.name)
        operands = getattr(getattr(node, kind), "operands", None)
        if operands is None:
            continue
        for slot, operand in enumerate(operands):
            if operand >= index:
                operands[slot] = random.randrange(index) if index else 0
    if graph.nodes and random.random() < 0.5:
        last = graph.nodes[-1].WhichOneof("kind")
        if last != "sum" or graph.nodes[-1].sum.axes:
            graph.nodes.add(sum=graph_pb2.Sum(operands=[len(graph.nodes) - 1]))
        graph.loss = len(graph.nodes) - 1


def mend_upload(upload: Any, random: Random) -> None:
    """Give an upload the chunks that its head asks for."""
    head = next((frame.head for frame in upload.frames if frame.WhichOneof("frame") == "head"), None)
    if head is None:
        return
    examples = random.choice((1, 2, 3, 5))
    del upload.frames[:]
    upload.frames.add().head.CopyFrom(head)
    for tensor in upload.frames[0].head.tensors:
        if tensor.shape and 0 <= tensor.shape[0] <= SMALL:
            tensor.shape[0] = examples
        count = math.prod(tensor.shape)
        if not 0 < count <= SMALL * SMALL:
            continue
        code = {tensor_pb2.DTYPE_FLOAT32: "f", tensor_pb2.DTYPE_INT64: "q"}.get(tensor.dtype, "d")
        numbers = (random.choice((0, 0, 1, 2)) if code == "q" else random.uniform(-2, 2) for _ in range(count))
        upload.frames.add(chunk=array(code, numbers).tobytes())


def mend_tensors(request: Any, kept: Collection[str], random: Random) -> None:
    """Give a request with a graph of its own the tensors that this asks for, unless it names ``kept`` ones."""
    if request.WhichOneof("program") != "graph":
        return
    examples = random.choice((1, 1, 2, 3, 5))
    request.tensors.clear()
    for node in request.graph.nodes:
        kind = node.WhichOneof("kind")
        if kind not in ("parameter", "input"):
            continue
        source = getattr(node, kind)
        if len(source.shape) > 4 or not all(0 <= length <= SMALL for length in source.shape):
            continue
        if node.name in kept and "examples" in request.DESCRIPTOR.fields_by_name and request.HasField("examples"):
            continue
        batch = [examples] if kind == "input" and node.input.per_example else []
        shape = batch + list(source.shape)
        count = math.prod(shape)
        if count > SMALL * SMALL:
            continue
        tensor = request.tensors[node.name]
        tensor.shape.extend(shape)
        if kind == "input" and node.input.dtype == tensor_pb2.DTYPE_INT64:
            tensor.dtype = tensor_pb2.DTYPE_INT64
            tensor.values.extend(random.choice((0, 0, 1, -1, 2)) for _ in range(count))
        else:
            moderate = random.random() < 0.7
            tensor.values.extend(random.uniform(-2, 2) if moderate else random.choice(FLOATS) for _ in range(count))
