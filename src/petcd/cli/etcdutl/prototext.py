"""Messages as protobuf's text on one line: ``ID:6 put:{key:"foo" lease:1}`` (contract cli section 7.3).

The form of release 3.7, with single blanks where its library varies them from build to build.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from petcd.pb.message import Field, Message

_NAMED: Final = {0x0A: "\\n", 0x0D: "\\r", 0x09: "\\t", 0x22: '\\"', 0x5C: "\\\\"}


def text(message: Message) -> str:
    """Fields in the order of their declarations; what is not set is left out, and so are proto3's zeros."""
    parts: list[str] = []
    # All messages declare their fields in ascending order but for a request's header.
    for field in sorted(type(message).FIELDS, key=lambda field: field.name != "header"):
        value = getattr(message, field.attribute)
        if value is None or (not value and not field.always and field.kind != "message" and not field.oneof):
            continue
        values = value if field.repeated else (value,)
        parts.extend(f"{field.name}:{_value(field, one)}" for one in values)
    return " ".join(parts)


def _value(field: Field, value: Any) -> str:
    kind = field.kind
    if kind == "message":
        return "{" + text(value) + "}"
    if kind == "bytes":
        return quoted(value)
    if kind == "string":
        return quoted(value.encode("utf-8", "surrogateescape"))
    if kind == "bool":
        return "true" if value else "false"
    if kind == "enum":
        try:
            return field.enum_type(value).name
        except ValueError:
            return str(value)
    return str(value)


def quoted(data: bytes) -> str:
    """A string or bytes value; what cannot be read as text is ``\\xNN``."""
    out = []
    for char in data.decode("utf-8", "surrogateescape"):
        number = ord(char)
        if number in _NAMED:
            out.append(_NAMED[number])
        elif number < 0x20 or number == 0x7F:
            out.append(f"\\x{number:02x}")
        elif 0xDC80 <= number <= 0xDCFF:
            out.append(f"\\x{number - 0xDC00:02x}")
        else:
            out.append(char)
    return f'"{"".join(out)}"'


def octal(data: bytes) -> str:
    """The older form of a bytes value: what is not printable ASCII is ``\\ooo``."""
    out = []
    for byte in data:
        named = _NAMED.get(byte)
        out.append(named or (chr(byte) if 0x20 <= byte < 0x7F else f"\\{byte:03o}"))
    return f'"{"".join(out)}"'
