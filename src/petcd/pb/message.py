"""Messages as small Python classes: how one is declared, and what each of them can do.

    class PutRequest(Message):
        PACKAGE = "etcdserverpb"
        key: bytes = bytes_(1)
        value: bytes = bytes_(2)
        lease: int = int64(3)

    PutRequest(key=b"a").encode()
    PutRequest.decode(data)

A class has one slot per field and no dict. Its constructor, encoder and decoder are straight-line Python
written by ``petcd.pb.codegen`` at the first use of each, so importing a hundred messages costs little and
decoding one costs about as much as a hand-written parser.

Semantics (contract/wire-v3.md section 1):

- a proto3 scalar at its zero value is not emitted; ``always=True`` marks the proto2 fields that etcd <= 3.6
  emits even then (section 1.14);
- a sub-message that is absent is None; one that is present and empty is emitted with length 0;
- the members of a oneof default to None and at most one is set; decoding keeps the last. A oneof named
  ``_x`` around the single field ``x`` is how proto2's explicit presence is written;
- enums are open: attributes are plain ints, the constants beside them are ``IntEnum``;
- a field that occurs again replaces (scalar), joins (repeated) or merges (sub-message);
- unknown fields, and known fields of another wire type, are skipped and not kept.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from typing import Any, ClassVar, Final, Literal, Self, TypeVar, cast, dataclass_transform, overload

from petcd.pb import codegen

M = TypeVar("M", bound="Message")
E = TypeVar("E", bound=type[IntEnum])

Kind = Literal["bytes", "string", "int32", "int64", "uint32", "uint64", "bool", "enum", "message"]

REGISTRY: Final[dict[str, type[Message]]] = {}
"""Every message declared so far, by its full protobuf name."""

ENUM_NAMES: Final[dict[type[IntEnum], str]] = {}
"""The full protobuf name of every enum declared with ``enumeration``."""


class Field:
    """One field of a message, as declared."""

    __slots__ = (
        "_type",
        "always",
        "attribute",
        "kind",
        "name",
        "number",
        "oneof",
        "packed",
        "repeated",
        "strict",
    )

    def __init__(
        self,
        number: int,
        kind: Kind,
        *,
        type_: type[Message] | type[IntEnum] | str | None = None,
        name: str = "",
        repeated: bool = False,
        packed: bool = False,
        always: bool = False,
        oneof: str | None = None,
        strict: bool = True,
    ) -> None:
        self.number = number
        self.kind: Kind = kind
        self.attribute = ""
        """The Python attribute: the protobuf name unless that is a keyword."""
        self.name = name
        self.repeated = repeated
        self.packed = packed
        """Written as one length-delimited run; only of repeated scalars. Both forms are read."""
        self.always = always
        self.oneof = oneof
        self.strict = strict
        """A string must be UTF-8; otherwise foreign bytes survive as lone surrogates."""
        self._type = type_

    @property
    def label(self) -> str:
        """``repeated``, ``oneof``, ``always`` or ``singular``."""
        if self.repeated:
            return "repeated"
        return "oneof" if self.oneof else "always" if self.always else "singular"

    @property
    def message_type(self) -> type[Message]:
        """The class of a message field; a forward name is looked up now."""
        if isinstance(self._type, str):
            self._type = REGISTRY[self._type]
        return cast("type[Message]", self._type)

    @property
    def enum_type(self) -> type[IntEnum]:
        return cast("type[IntEnum]", self._type)

    def __repr__(self) -> str:
        return f"<{self.number} {self.name} {self.label} {self.kind}>"


@dataclass_transform(kw_only_default=True, eq_default=True)
class MessageMeta(type):
    """Turns field declarations into slots, ``FIELDS`` and ``FULL_NAME``."""

    FIELDS: tuple[Field, ...]
    FULL_NAME: str

    def __new__(mcs, name: str, bases: tuple[type, ...], namespace: dict[str, Any]) -> MessageMeta:
        fields = [(key, value) for key, value in namespace.items() if type(value) is Field]
        for key, field in fields:
            field.attribute = key
            field.name = field.name or key
            del namespace[key]
        namespace["__slots__"] = tuple(key for key, _ in fields)
        cls = super().__new__(mcs, name, bases, namespace)
        cls.FIELDS = tuple(sorted((field for _, field in fields), key=lambda field: field.number))
        package = namespace.get("PACKAGE") or getattr(cls, "PACKAGE", "")
        if package and "PACKAGE" not in namespace:
            cls.FULL_NAME = f"{package}.{namespace.get('NAME', name)}"
            REGISTRY[cls.FULL_NAME] = cast("type[Message]", cls)
        return cls


class Message(metaclass=MessageMeta):
    """Base of all messages. Equality compares type and fields; messages are mutable and not hashable.

    A package declares an empty subclass that sets ``PACKAGE`` (and ``SYNTAX``); its messages derive from it.
    """

    PACKAGE: ClassVar[str] = ""
    SYNTAX: ClassVar[str] = "proto3"
    NAME: ClassVar[str]
    """The protobuf name where it is not the class's."""
    HOT: ClassVar[tuple[int, ...]] = ()
    """Field numbers the decoder tries first; the others follow in ascending order."""
    FIELDS: ClassVar[tuple[Field, ...]]
    FULL_NAME: ClassVar[str]

    # The three below compile the class's own version, put it in their place and run it.

    def __init__(self, **values: Any) -> None:
        cls = type(self)
        type.__setattr__(cls, "__init__", codegen.compile_init(cls))
        cls.__init__(self, **values)

    def encode(self) -> bytes:
        """The message's bytes: fields in ascending order, without a length."""
        cls = type(self)
        type.__setattr__(cls, "encode", codegen.compile_encode(cls))
        return cls.encode(self)

    @classmethod
    def decode(cls, data: bytes, start: int = 0, end: int | None = None, depth: int = 0) -> Self:
        """Decode ``data[start:end]``.

        ``depth`` counts the enclosing messages. Raises: DecodeError, and nothing else, for any bytes.
        """
        type.__setattr__(cls, "decode", staticmethod(codegen.compile_decode(cls, merge=False)))
        return cls.decode(data, start, end, depth)

    @classmethod
    def merge(cls, into: Self, data: bytes, start: int = 0, end: int | None = None, depth: int = 0) -> Self:
        """Decode ``data[start:end]`` over ``into``, as a repeated occurrence of a sub-message does."""
        type.__setattr__(cls, "merge", staticmethod(codegen.compile_decode(cls, merge=True)))
        return cls.merge(into, data, start, end, depth)

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return all(getattr(self, f.attribute) == getattr(other, f.attribute) for f in type(self).FIELDS)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        shown = (
            f"{field.attribute}={value!r}"
            for field in type(self).FIELDS
            if (value := getattr(self, field.attribute)) or (field.oneof and value is not None)
        )
        return f"{type(self).__name__}({', '.join(shown)})"


def which(message: Message, oneof: str) -> str | None:
    """The attribute of the oneof's member that is set, or None."""
    for field in type(message).FIELDS:
        if field.oneof == oneof and getattr(message, field.attribute) is not None:
            return field.attribute
    return None


def enumeration(full_name: str) -> Callable[[E], E]:
    """Give an IntEnum its full protobuf name (``package.Message.Enum`` for a nested one)."""

    def register(cls: E) -> E:
        ENUM_NAMES[cls] = full_name
        return cls

    return register


# Field specifiers. Each returns a Field but is typed as the attribute it declares, so that mypy checks
# the annotation against the specifier and derives the constructor (keyword only, everything optional).


@overload
def bytes_(number: int, *, always: bool = ...) -> bytes: ...
@overload
def bytes_(number: int, *, oneof: str) -> bytes | None: ...
def bytes_(number: int, *, always: bool = False, oneof: str | None = None) -> Any:
    """A ``bytes`` field; decoding slices it out of the input."""
    return Field(number, "bytes", always=always, oneof=oneof)


@overload
def string(number: int, *, always: bool = ..., strict: bool = ...) -> str: ...
@overload
def string(number: int, *, oneof: str) -> str | None: ...
def string(number: int, *, always: bool = False, oneof: str | None = None, strict: bool = True) -> Any:
    """A ``string`` field; ``strict=False`` keeps bytes that are not UTF-8 as lone surrogates."""
    return Field(number, "string", always=always, oneof=oneof, strict=strict)


@overload
def int64(number: int, *, always: bool = ...) -> int: ...
@overload
def int64(number: int, *, oneof: str) -> int | None: ...
def int64(number: int, *, always: bool = False, oneof: str | None = None) -> Any:
    return Field(number, "int64", always=always, oneof=oneof)


@overload
def uint64(number: int, *, always: bool = ..., name: str = ...) -> int: ...
@overload
def uint64(number: int, *, oneof: str) -> int | None: ...
def uint64(number: int, *, always: bool = False, oneof: str | None = None, name: str = "") -> Any:
    return Field(number, "uint64", always=always, oneof=oneof, name=name)


def int32(number: int, *, always: bool = False) -> int:
    return cast("int", Field(number, "int32", always=always))


def uint32(number: int, *, always: bool = False) -> int:
    return cast("int", Field(number, "uint32", always=always))


@overload
def bool_(number: int, *, always: bool = ...) -> bool: ...
@overload
def bool_(number: int, *, oneof: str) -> bool | None: ...
def bool_(number: int, *, always: bool = False, oneof: str | None = None) -> Any:
    return Field(number, "bool", always=always, oneof=oneof)


def enum(number: int, type_: type[IntEnum], *, always: bool = False) -> int:
    """An open enum: any 32-bit number may arrive."""
    return cast("int", Field(number, "enum", type_=type_, always=always))


@overload
def message(number: int, type_: type[M], *, always: bool = ..., oneof: str | None = ...) -> M | None: ...
@overload
def message(number: int, type_: str, *, always: bool = ..., oneof: str | None = ...) -> Any: ...
def message(
    number: int, type_: type[Message] | str, *, always: bool = False, oneof: str | None = None
) -> Any:
    """A sub-message; a forward reference is its full protobuf name. ``always``: None is emitted as empty."""
    return Field(number, "message", type_=type_, always=always, oneof=oneof)


def repeated_bytes(number: int) -> list[bytes]:
    return cast("list[bytes]", Field(number, "bytes", repeated=True))


def repeated_string(number: int) -> list[str]:
    return cast("list[str]", Field(number, "string", repeated=True))


def repeated_uint64(number: int, *, packed: bool = True) -> list[int]:
    return cast("list[int]", Field(number, "uint64", repeated=True, packed=packed))


def repeated_enum(number: int, type_: type[IntEnum], *, packed: bool = True) -> list[int]:
    return cast("list[int]", Field(number, "enum", type_=type_, repeated=True, packed=packed))


@overload
def repeated(number: int, type_: type[M]) -> list[M]: ...
@overload
def repeated(number: int, type_: str) -> list[Any]: ...
def repeated(number: int, type_: type[Message] | str) -> Any:
    """A list of sub-messages."""
    return Field(number, "message", type_=type_, repeated=True)
