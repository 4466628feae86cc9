"""Google's protobuf as the other side: its descriptors built from our ``.proto`` files' content.

``peer(cls)`` is protobuf's class for one of ours; ``to_peer`` and ``from_peer`` carry values across, field by
field, through Python attributes and not through bytes. ``random_message`` draws messages of any type.
"""

from __future__ import annotations

import random
import warnings
from typing import Any

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # protobuf's C module warns about itself on import
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
    from google.protobuf.message import DecodeError as PeerDecodeError

from petcd.pb import proto
from petcd.pb.message import ENUM_NAMES, REGISTRY, Field, Message

__all__ = ["ALL", "PeerDecodeError", "descriptors", "from_peer", "peer", "random_message", "to_peer"]

_TYPES = descriptor_pb2.FieldDescriptorProto
ALL = sorted(REGISTRY.values(), key=lambda cls: cls.FULL_NAME)
"""Every message class."""


def _field(field: Field, cls: type[Message], oneofs: list[str]) -> Any:
    out = descriptor_pb2.FieldDescriptorProto(
        name=field.name,
        number=field.number,
        type=getattr(_TYPES, f"TYPE_{field.kind.upper()}"),
        label=_TYPES.LABEL_REPEATED if field.repeated else _TYPES.LABEL_OPTIONAL,
    )
    if field.kind == "message":
        out.type_name = "." + field.message_type.FULL_NAME
    elif field.kind == "enum":
        out.type_name = "." + ENUM_NAMES[field.enum_type]
    if field.oneof in oneofs:
        out.oneof_index = oneofs.index(field.oneof)
    scalars = field.repeated and field.kind not in ("bytes", "string", "message")
    if scalars and field.packed != (cls.SYNTAX == "proto3"):
        out.options.packed = field.packed
    return out


def _enum(enum: Any) -> Any:
    out = descriptor_pb2.EnumDescriptorProto(name=ENUM_NAMES[enum].rpartition(".")[2])
    for name, member in enum.__members__.items():
        out.value.add(name=name, number=member.value)
    return out


def _message(cls: type[Message]) -> Any:
    out = descriptor_pb2.DescriptorProto(name=cls.FULL_NAME.rpartition(".")[2])
    oneofs = list(dict.fromkeys(f.oneof for f in cls.FIELDS if f.oneof and not f.oneof.startswith("_")))
    for name in oneofs:
        out.oneof_decl.add(name=name)
    out.field.extend(_field(field, cls, oneofs) for field in cls.FIELDS)
    inside = cls.FULL_NAME
    out.enum_type.extend(_enum(e) for e, name in ENUM_NAMES.items() if name.rpartition(".")[0] == inside)
    out.nested_type.extend(_message(c) for c in ALL if c.FULL_NAME.rpartition(".")[0] == inside)
    return out


def descriptors() -> dict[str, Any]:
    """One FileDescriptorProto per ``.proto`` file, made from the declarations and not from the text."""
    files: dict[str, Any] = {}
    for cls in REGISTRY.values():
        path = proto.file_of(cls)
        if path not in files:
            files[path] = descriptor_pb2.FileDescriptorProto(name=path, package=cls.PACKAGE)
            if cls.SYNTAX == "proto3":
                files[path].syntax = "proto3"
        if cls.FULL_NAME.rpartition(".")[0] == cls.PACKAGE:
            files[path].message_type.append(_message(cls))
        for field in cls.FIELDS:
            if field.kind == "message":
                used = proto.file_of(field.message_type)
                if used != path and used not in files[path].dependency:
                    files[path].dependency.append(used)
    for enum, name in ENUM_NAMES.items():
        package = name.rpartition(".")[0]
        if package not in REGISTRY:
            home = next(path for path in sorted(files, reverse=True) if files[path].package == package)
            files[home].enum_type.append(_enum(enum))
    return files


def _pool() -> Any:
    pool = descriptor_pool.DescriptorPool()
    files = descriptors()
    added: set[str] = set()

    def add(path: str) -> None:
        if path not in added:
            added.add(path)
            for needed in files[path].dependency:
                add(needed)
            pool.AddSerializedFile(files[path].SerializeToString())

    for path in files:
        add(path)
    return pool


_POOL = _pool()


def peer(cls: type[Message]) -> Any:
    """Protobuf's class for one of ours."""
    return message_factory.GetMessageClass(_POOL.FindMessageTypeByName(cls.FULL_NAME))


def to_peer(message: Message) -> Any:
    """The same message as protobuf's object."""
    out = peer(type(message))()
    _fill(message, out)
    return out


def _fill(message: Message, out: Any) -> None:
    for field in type(message).FIELDS:
        value = getattr(message, field.attribute)
        if field.repeated:
            target = getattr(out, field.name)
            if field.kind == "message":
                for item in value:
                    _fill(item, target.add())
            else:
                target.extend(value)
        elif field.kind == "message":
            if value is None and field.always:
                value = field.message_type()
            if value is not None:
                target = getattr(out, field.name)
                target.SetInParent()
                _fill(value, target)
        elif field.always or (value is not None if field.oneof else value):
            setattr(out, field.name, value)


def from_peer(cls: type[Message], other: Any) -> Message:
    """Protobuf's object as one of ours."""
    values: dict[str, Any] = {}
    for field in cls.FIELDS:
        value = getattr(other, field.name)
        if field.repeated:
            nested = field.kind == "message"
            values[field.attribute] = [from_peer(field.message_type, v) if nested else v for v in value]
        elif field.kind == "message":
            present = other.HasField(field.name)
            values[field.attribute] = from_peer(field.message_type, value) if present else None
        elif field.oneof:
            values[field.attribute] = value if other.HasField(field.name) else None
        else:
            values[field.attribute] = value
    return cls(**values)


_EDGES = (0, 1, 127, 128, 300, 16383, 16384, 2**21 - 1, 2**21, 2**28, 2**31 - 1)


def _integer(rng: random.Random, low: int, high: int) -> int:
    value = rng.choice((*_EDGES, high - 1, low, low + 1, -1, rng.getrandbits(63), rng.getrandbits(20)))
    return value if low <= value < high else rng.randrange(low, high)


def _scalar(rng: random.Random, field: Field, closed_enums: bool) -> Any:
    match field.kind:
        case "bytes":
            return rng.randbytes(rng.choice((0, 0, 1, 3, 24, 127, 128, 300)))
        case "string":
            return "".join(rng.choice('aé/0\x00€𝄞\n"<\\') for _ in range(rng.choice((0, 0, 1, 5, 130))))
        case "bool":
            return rng.random() < 0.5
        case "int64":
            return _integer(rng, -(2**63), 2**63)
        case "uint64":
            return _integer(rng, 0, 2**64)
        case "int32":
            return _integer(rng, -(2**31), 2**31)
        case "uint32":
            return _integer(rng, 0, 2**32)
        case _:
            known = [int(member) for member in field.enum_type]
            return rng.choice(known if closed_enums else [*known, 99, -1, 2**31 - 1])


def random_message(rng: random.Random, cls: type[Message], depth: int = 0) -> Message:
    """A message of random fields; deeper ones have fewer."""
    chosen: dict[str, Field] = {}
    for field in cls.FIELDS:
        if rng.random() < (0.6, 0.45, 0.3, 0.1)[min(depth, 3)] * (0.4 if len(cls.FIELDS) > 20 else 1):
            if field.oneof:
                chosen[field.oneof] = field
            else:
                chosen[field.name] = field
    values: dict[str, Any] = {}
    for field in chosen.values():

        def one(field: Field = field) -> Any:
            if field.kind == "message":
                return random_message(rng, field.message_type, depth + 1)
            return _scalar(rng, field, cls.SYNTAX == "proto2")

        values[field.attribute] = [one() for _ in range(rng.randrange(4))] if field.repeated else one()
    return cls(**values)
