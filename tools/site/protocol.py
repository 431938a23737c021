"""The contract as pages: services, messages and enums with their comments, from the descriptors that protoc writes."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TypeAlias

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
    ServiceDescriptorProto,
)
from grpc_tools import protoc

from tools.generate_stubs import PROTOS

NAMES = '<div class="names" markdown>\n\n'
"""Begins a table whose first column does not break; ``</div>`` ends it."""

_PACKAGE = "gradwire.v1."
_IDENTIFIER = re.compile(r"(?<![\w`])([a-z]+_[a-z_]+|[A-Z]+(?:_[A-Z]+)+_?)(?![\w`])")
"""What is set as code where a comment does not say so itself."""
_Place: TypeAlias = tuple[int, ...]
"""Field numbers and indices that lead to something in a file."""

_MESSAGES, _ENUMS, _SERVICES = 4, 5, 6
"""Field numbers of a FileDescriptorProto, as paths of comments begin."""
_FIELDS, _NESTED, _NESTED_ENUMS = 2, 3, 4
"""Those of a DescriptorProto; methods of a service and values of an enum are 2, too."""


class Contract:
    """The files in ``protos/``, read with their comments."""

    def __init__(self) -> None:
        files = [str(path) for path in sorted(PROTOS.rglob("*.proto"))]
        with tempfile.NamedTemporaryFile() as out:
            known = Path(protoc.__file__).parent / "_proto"
            flags = [f"--descriptor_set_out={out.name}", "--include_source_info"]
            if protoc.main(["protoc", f"-I{PROTOS}", f"-I{known}", *flags, *files]) != 0:
                raise RuntimeError("protoc failed")
            self._files = FileDescriptorSet.FromString(Path(out.name).read_bytes()).file
        self._pages: dict[str, str] = {}
        self._comments: dict[str, str] = {}
        for file in self._files:
            comments = {tuple(place.path): place.leading_comments for place in file.source_code_info.location}
            stem = Path(file.name).stem
            for name, path in _paths(file):
                self._pages[name] = stem
                self._comments[name] = comments.get(path, "").strip()

    def comment(self, name: str) -> str:
        """What the contract says above a message, field, enum, value, service or method, by its full name."""
        paragraphs = [" ".join(part.split()) for part in self._comments[name].split("\n\n")]
        text = "\n\n".join(part for part in paragraphs if part).replace("*", "\\*")
        return _IDENTIFIER.sub(r"`\1`", text)

    def _cell(self, name: str) -> str:
        return self.comment(name).replace("\n\n", " ").replace("|", "\\|")

    def pages(self) -> Iterator[tuple[str, str]]:
        """Name and text of a page for each file."""
        for file in self._files:
            yield f"{Path(file.name).stem}.md", "\n".join(self._page(file)) + "\n"

    def _page(self, file: FileDescriptorProto) -> Iterator[str]:
        yield f"# {Path(file.name).name}\n"
        yield f"Package `{file.package}`, from the comments of `protos/{file.name}`.\n"
        for service in file.service:
            yield from self._service(service)
        for enum in file.enum_type:
            yield from self._enum(enum, enum.name)
        for message in file.message_type:
            yield from self._message(message, message.name)

    def _service(self, service: ServiceDescriptorProto) -> Iterator[str]:
        yield f"## {service.name}\n\n{self.comment(_PACKAGE + service.name)}\n"
        for method in service.method:
            asked, answered = self._link(method.input_type), self._link(method.output_type)
            asked, answered = (
                f"{'stream of ' * streams}{link}"
                for link, streams in ((asked, method.client_streaming), (answered, method.server_streaming))
            )
            yield f"### {method.name}\n\n{self.comment(f'{_PACKAGE}{service.name}.{method.name}')}\n"
            yield f"Takes {asked}, returns {answered}.\n"

    def _message(self, message: DescriptorProto, name: str) -> Iterator[str]:
        yield f"## {name} {{ #{name.lower()} }}\n\n{self.comment(_PACKAGE + name)}\n"
        entries = {f".{_PACKAGE}{name}.{each.name}": each for each in message.nested_type if each.options.map_entry}
        if message.field:
            yield f"{NAMES}| field | number | type | meaning |\n|---|---|---|---|"
        for field in message.field:
            entry = entries.get(field.type_name)
            pair = " to ".join(self._type(part) for part in entry.field) if entry else None
            kind = f"map of {pair}" if pair else self._kind(message, field)
            yield f"| `{field.name}` | {field.number} | {kind} | {self._cell(f'{_PACKAGE}{name}.{field.name}')} |"
        yield "\n</div>\n" if message.field else ""
        for enum in message.enum_type:
            yield from self._enum(enum, f"{name}.{enum.name}")
        for nested in message.nested_type:
            if not nested.options.map_entry:
                yield from self._message(nested, f"{name}.{nested.name}")

    def _enum(self, enum: EnumDescriptorProto, name: str) -> Iterator[str]:
        yield f"## {name} {{ #{name.lower()} }}\n\n{self.comment(_PACKAGE + name)}\n"
        yield f"{NAMES}| value | number | meaning |\n|---|---|---|"
        for value in enum.value:
            yield f"| `{value.name}` | {value.number} | {self._cell(f'{_PACKAGE}{name}.{value.name}')} |"
        yield "\n</div>\n"

    def _kind(self, message: DescriptorProto, field: FieldDescriptorProto) -> str:
        if field.label == field.LABEL_REPEATED:
            return f"repeated {self._type(field)}"
        if field.proto3_optional:
            return f"optional {self._type(field)}"
        choice = message.oneof_decl[field.oneof_index].name if field.HasField("oneof_index") else None
        return f"{self._type(field)}, one of `{choice}`" if choice else self._type(field)

    def _type(self, field: FieldDescriptorProto) -> str:
        if field.type_name:
            return self._link(field.type_name)
        return FieldDescriptorProto.Type.Name(field.type).removeprefix("TYPE_").lower()

    def _link(self, name: str) -> str:
        name = name.removeprefix(".")
        short = name.removeprefix(_PACKAGE)
        return f"[{short}]({self._pages[name]}.md#{short.lower()})" if name in self._pages else f"`{name}`"


def _paths(file: FileDescriptorProto) -> Iterator[tuple[str, _Place]]:
    """Full name and path of everything that may have a comment."""
    for number, service in enumerate(file.service):
        yield f"{_PACKAGE}{service.name}", (_SERVICES, number)
        for at, method in enumerate(service.method):
            yield f"{_PACKAGE}{service.name}.{method.name}", (_SERVICES, number, _FIELDS, at)
    for number, enum in enumerate(file.enum_type):
        yield from _enum_paths(enum, _PACKAGE, (_ENUMS, number))
    for number, message in enumerate(file.message_type):
        yield from _message_paths(message, _PACKAGE, (_MESSAGES, number))


def _message_paths(message: DescriptorProto, prefix: str, path: _Place) -> Iterator[tuple[str, _Place]]:
    name = f"{prefix}{message.name}"
    yield name, path
    for number, field in enumerate(message.field):
        yield f"{name}.{field.name}", (*path, _FIELDS, number)
    for number, nested in enumerate(message.nested_type):
        yield from _message_paths(nested, f"{name}.", (*path, _NESTED, number))
    for number, enum in enumerate(message.enum_type):
        yield from _enum_paths(enum, f"{name}.", (*path, _NESTED_ENUMS, number))


def _enum_paths(enum: EnumDescriptorProto, prefix: str, path: _Place) -> Iterator[tuple[str, _Place]]:
    yield f"{prefix}{enum.name}", path
    for number, value in enumerate(enum.value):
        yield f"{prefix}{enum.name}.{value.name}", (*path, _FIELDS, number)
