"""What the fuzzer plays: a list of calls, itself a message, so that it can be mutated like one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from google.protobuf import descriptor_pool, message_factory
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.message import DecodeError

from gradwire.v1 import gradient_service_pb2 as pb

METHODS = tuple(method.name for method in pb.DESCRIPTOR.services_by_name["GradientService"].methods)
STREAM = "StreamGradients"


def _declared() -> Any:
    """``Script { repeated Call calls = 1; }``.

    A ``Call`` is a oneof of the requests of all methods (of the stream: its frames), and of bytes for any of them.
    """
    file = FileDescriptorProto(name="tests/fuzzing/script.proto", package="gradwire.fuzzing", syntax="proto3")
    file.dependency.append(pb.DESCRIPTOR.name)
    message, single, many = FieldDescriptorProto.TYPE_MESSAGE, 1, 3
    script = file.message_type.add(name="Script")
    script.field.add(name="calls", number=1, type=message, label=many, type_name=".gradwire.fuzzing.Call")
    frames = file.message_type.add(name="Frames")
    frames.field.add(name="frames", number=1, type=message, label=many, type_name=".gradwire.v1.StreamGradientsRequest")
    garbage = file.message_type.add(name="Garbage")
    garbage.field.add(name="method", number=1, type=FieldDescriptorProto.TYPE_UINT32, label=single)
    garbage.field.add(name="messages", number=2, type=FieldDescriptorProto.TYPE_BYTES, label=many)
    call = file.message_type.add(name="Call")
    call.oneof_decl.add(name="call")
    kinds = {name: f".gradwire.v1.{name}Request" for name in METHODS}
    kinds |= {STREAM: ".gradwire.fuzzing.Frames", "garbage": ".gradwire.fuzzing.Garbage"}
    for number, (name, kind) in enumerate(kinds.items(), start=1):
        call.field.add(name=name, number=number, type=message, label=single, type_name=kind, oneof_index=0)
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


def sendings(script: Any, ids: Sequence[str]) -> Iterator[tuple[str, list[bytes]]]:
    """Method and messages of each call; ``@1`` as a graph_id stands for the second one of ``ids``."""
    for call in script.calls:
        kind = call.WhichOneof("call")
        if kind is None:
            continue
        content = getattr(call, kind)
        if kind == "garbage":
            yield METHODS[content.method % len(METHODS)], list(content.messages)
        elif kind == STREAM:
            for frame in content.frames:
                _resolve(frame.head.request, ids)
            yield kind, [frame.SerializeToString() for frame in content.frames]
        else:
            _resolve(content, ids)
            yield kind, [content.SerializeToString()]


def _resolve(request: Any, ids: Sequence[str]) -> None:
    graph_id = getattr(request, "graph_id", "")
    if graph_id[:1] == "@" and graph_id[1:].isdecimal() and ids:
        request.graph_id = ids[int(graph_id[1:4]) % len(ids)]
