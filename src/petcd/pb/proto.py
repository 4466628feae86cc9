"""Writes ``.proto`` files from the declarations: ``python -m petcd.pb.proto DIRECTORY``.

For users who generate stubs in another language, and for the tests, which let protobuf's own compiler read
them. The files carry no options of any language. Paths are ``<package>/<file>.proto`` under the directory.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from enum import IntEnum
from pathlib import Path
from typing import Final, NamedTuple

from petcd.pb import etcdserverpb, healthpb, leasepb, membershippb, raftpb, services, snappb, walpb
from petcd.pb.message import ENUM_NAMES, REGISTRY, Field, Message

_MODULES: Final = (etcdserverpb, healthpb, leasepb, membershippb, raftpb, snappb, walpb)
"""Imported so that their messages are registered; the others come along."""

_INTERNAL: Final = ("RequestHeader", "InternalRaftRequest", "EmptyResponse", "InternalAuthenticateRequest")
_FILE_NAMES: Final = {
    "authpb": "authpb/auth.proto",
    "grpc.health.v1": "grpc/health/v1/health.proto",
    "leasepb": "leasepb/lease.proto",
    "membershippb": "membershippb/membership.proto",
    "mvccpb": "mvccpb/kv.proto",
    "raftpb": "raftpb/raft.proto",
    "snappb": "snappb/snap.proto",
    "v3electionpb": "v3electionpb/v3election.proto",
    "v3lockpb": "v3lockpb/v3lock.proto",
    "walpb": "walpb/record.proto",
}


def file_of(cls: type[Message]) -> str:
    """Path of the file that declares a message."""
    if cls.PACKAGE != "etcdserverpb":
        return _FILE_NAMES[cls.PACKAGE]
    if cls.SYNTAX == "proto2":
        return "etcdserverpb/etcdserver.proto"
    return f"etcdserverpb/{'raft_internal' if cls.__name__ in _INTERNAL else 'rpc'}.proto"


class _File(NamedTuple):
    package: str
    syntax: str
    messages: list[type[Message]]
    enums: list[type[IntEnum]]


def _enum(cls: type[IntEnum], indent: str) -> Iterator[str]:
    yield f"{indent}enum {ENUM_NAMES[cls].rpartition('.')[2]} {{"
    yield from (f"{indent}  {name} = {member.value};" for name, member in cls.__members__.items())
    yield f"{indent}}}"


def _type(field: Field) -> str:
    if field.kind == "message":
        return "." + field.message_type.FULL_NAME
    return "." + ENUM_NAMES[field.enum_type] if field.kind == "enum" else field.kind


def _field(field: Field, syntax: str, indent: str) -> str:
    label = ""
    options = ""
    if field.repeated:
        label = "repeated "
        if field.kind not in ("bytes", "string", "message") and field.packed != (syntax == "proto3"):
            options = f" [packed = {'true' if field.packed else 'false'}]"
    elif syntax == "proto2" and (not field.oneof or field.oneof.startswith("_")):
        label = "optional "
    return f"{indent}{label}{_type(field)} {field.name} = {field.number}{options};"


def _message(cls: type[Message], indent: str) -> Iterator[str]:
    yield f"{indent}message {cls.FULL_NAME.rpartition('.')[2]} {{"
    inner = indent + "  "
    for enum, name in ENUM_NAMES.items():
        if name.rpartition(".")[0] == cls.FULL_NAME:
            yield from _enum(enum, inner)
    for nested in REGISTRY.values():
        if nested.FULL_NAME.rpartition(".")[0] == cls.FULL_NAME:
            yield from _message(nested, inner)
    oneof = None
    for field in cls.FIELDS:
        wanted = field.oneof if field.oneof and not field.oneof.startswith("_") else None
        if wanted != oneof:
            if oneof:
                yield f"{inner}}}"
            if wanted:
                yield f"{inner}oneof {wanted} {{"
            oneof = wanted
        yield _field(field, cls.SYNTAX, inner + "  " if oneof else inner)
    if oneof:
        yield f"{inner}}}"
    yield f"{indent}}}"


def _services(package: str) -> Iterator[str]:
    for name, methods in services.SERVICES.items():
        if name.rpartition(".")[0] != package:
            continue
        yield ""
        yield f"service {name.rpartition('.')[2]} {{"
        for method in methods:
            request = f"{'stream ' if method.client_stream else ''}.{method.request.FULL_NAME}"
            response = f"{'stream ' if method.server_stream else ''}.{method.response.FULL_NAME}"
            yield f"  rpc {method.name}({request}) returns ({response}) {{}}"
        yield "}"


def _file_text(path: str, file: _File) -> str:
    has_services = not path.endswith(("raft_internal.proto", "etcdserver.proto"))
    used = [f.message_type for cls in file.messages for f in cls.FIELDS if f.kind == "message"]
    imports = sorted({file_of(cls) for cls in used} - {path})
    lines = [f'syntax = "{file.syntax}";', "", f"package {file.package};"]
    if imports:
        lines += ["", *(f'import "{name}";' for name in imports)]
    for enum in file.enums:
        lines += ["", *_enum(enum, "")]
    for cls in file.messages:
        lines += ["", *_message(cls, "")]
    if has_services:
        lines += _services(file.package)
    return "\n".join(lines) + "\n"


def files() -> dict[str, str]:
    """The text of every file, by its path."""
    found: dict[str, _File] = {}
    for cls in REGISTRY.values():
        path = file_of(cls)
        file = found.setdefault(path, _File(cls.PACKAGE, cls.SYNTAX, [], []))
        if cls.FULL_NAME.rpartition(".")[0] == cls.PACKAGE:
            file.messages.append(cls)
    for enum, name in ENUM_NAMES.items():
        package = name.rpartition(".")[0]
        if package not in REGISTRY:
            path = _FILE_NAMES.get(package, "etcdserverpb/rpc.proto")
            found[path].enums.append(enum)
    return {path: _file_text(path, file) for path, file in sorted(found.items())}


def main(arguments: Sequence[str]) -> int:
    """Write all files under the one directory named."""
    if len(arguments) != 1:
        print("usage: python -m petcd.pb.proto DIRECTORY", file=sys.stderr)
        return 2
    for path, text in files().items():
        target = Path(arguments[0]) / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
