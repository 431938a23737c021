"""What the fuzzer plays: a list of calls, itself a message, so that it can be mutated like one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from google.protobuf import descriptor_pool, message_factory
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.message import DecodeError

from gradwire.v1 import gradient_service_pb2 as pb

STREAM, UPLOAD, GARBAGE = "StreamGradients", "UploadExamples", "garbage"

NUMBERS = {
    "RegisterGraph": 1,
    "ComputeGradients": 2,
    STREAM: 3,
    "TraceGraph": 4,
    "CheckGradients": 5,
    "GetServerInfo": 6,
    GARBAGE: 7,
    UPLOAD: 8,
}
"""Numbers of the kinds of calls, which stay, so that the scripts of the corpus keep their meaning."""

METHODS = tuple(name for name in NUMBERS if name != GARBAGE)
assert {*METHODS} == {method.name for method in pb.DESCRIPTOR.services_by_name["GradientService"].methods}


class Ids(NamedTuple):
    """What a server has answered to the calls of a script so far."""

    graphs: list[str]
    examples: list[str]


def _declared() -> Any:
    """``Script { repeated Call calls = 1; }``.

    A ``Call`` is a oneof of the requests of all methods (where they are streams: their frames), and of bytes for any of
    them.
    """
    file = FileDescriptorProto(name="tests/fuzzing/script.proto", package="gradwire.fuzzing", syntax="proto3")
    file.dependency.append(pb.DESCRIPTOR.name)
    message, single, many = FieldDescriptorProto.TYPE_MESSAGE, 1, 3
    script = file.message_type.add(name="Script")
    script.field.add(name="calls", number=1, type=message, label=many, type_name=".gradwire.fuzzing.Call")
    kinds = {name: f".gradwire.v1.{name}Request" for name in METHODS}
    for name, method in {"Frames": STREAM, "Upload": UPLOAD}.items():
        frames = file.message_type.add(name=name)
        frames.field.add(name="frames", number=1, type=message, label=many, type_name=kinds[method])
        kinds[method] = f".gradwire.fuzzing.{name}"
    garbage = file.message_type.add(name="Garbage")
    garbage.field.add(name="method", number=1, type=FieldDescriptorProto.TYPE_UINT32, label=single)
    garbage.field.add(name="messages", number=2, type=FieldDescriptorProto.TYPE_BYTES, label=many)
    call = file.message_type.add(name="Call")
    call.oneof_decl.add(name="call")
    kinds[GARBAGE] = ".gradwire.fuzzing.Garbage"
    for name, kind in kinds.items():
        call.field.add(name=name, number=NUMBERS[name], type=message, label=single, type_name=kind, oneof_index=0)
    pool = descriptor_pool.Default()
    pool.AddSerializedFile(file.SerializeToString())
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("gradwire.fuzzing.Script"))


Script = _declared()


def script_of(data: bytes) -> Any:
    """The script that bytes are; bytes that are none are sent to every method."""
    try:
        return Script.FromString(data)
    except DecodeError:
        calls = [{"garbage": {"method": number, "messages": [data]}} for number in range(len(METHODS))]
        return Script(calls=calls)


def sendings(script: Any, ids: Ids) -> Iterator[tuple[str, list[bytes]]]:
    """Method and messages of each call; ``@1`` as an id stands for the second graph or set of examples of ``ids``."""
    for call in script.calls:
        kind = call.WhichOneof("call")
        if kind is None:
            continue
        content = getattr(call, kind)
        if kind == GARBAGE:
            yield METHODS[content.method % len(METHODS)], list(content.messages)
        elif kind in (STREAM, UPLOAD):
            for frame in content.frames:
                if frame.WhichOneof("frame") == "head":
                    _resolve(frame.head if kind == UPLOAD else frame.head.request, ids)
            yield kind, [frame.SerializeToString() for frame in content.frames]
        else:
            _resolve(content, ids)
            yield kind, [content.SerializeToString()]


def _resolve(message: Any, ids: Ids) -> None:
    fields = message.DESCRIPTOR.fields_by_name
    if "graph_id" in fields and message.graph_id:
        message.graph_id = _resolved(message.graph_id, ids.graphs)
    if "examples_id" in fields and message.examples_id:
        message.examples_id = _resolved(message.examples_id, ids.examples)
    if "examples" in fields and message.HasField("examples"):
        _resolve(message.examples, ids)


def _resolved(found: str, known: Sequence[str]) -> str:
    return known[int(found[1:4]) % len(known)] if found[:1] == "@" and found[1:].isdecimal() and known else found
