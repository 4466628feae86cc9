"""Messages to and from JSON, by the mapping of the v3 JSON gateway.

Out: protobuf field names in declaration order, zero values left out, bytes as padded standard base64, 64-bit
integers as decimal strings, enums by name (an unknown number stays a number), compact.
In: protobuf names or lowerCamelCase; 64-bit integers as strings or numbers, integral exponents allowed; enums
by name or number; base64 of either alphabet, padding optional; null is the default. Unknown fields and
unknown enum names are ignored; a field given twice, or two members of a oneof, is refused.

Promises: any text gives a message or ``JsonError``.
Source: contract/wire-v3.md section 2.4; the protobuf JSON mapping as protojson reads it (etcd >= 3.6).
"""

from __future__ import annotations

import binascii
import json
import re
from base64 import b64decode, b64encode
from typing import Any, Final, TypeVar

from petcd.pb.message import Field, Message
from petcd.pb.wire import NESTING_MAX

M = TypeVar("M", bound=Message)

_URL_ALPHABET: Final = str.maketrans("-_", "+/")
_NUMBER: Final = re.compile(r"(-?(?:0|[1-9][0-9]*))(?:\.([0-9]+))?(?:[eE]([+-]?[0-9]+))?")
_SPACE: Final = re.compile(r"[ \t\n\r]*")
_DIGITS_MAX: Final = 20
"""Digits of the largest 64-bit number."""

_BOUNDS: Final = {
    "int32": (-(1 << 31), 1 << 31),
    "enum": (-(1 << 31), 1 << 31),
    "int64": (-(1 << 63), 1 << 63),
    "uint32": (0, 1 << 32),
    "uint64": (0, 1 << 64),
}


class JsonError(ValueError):
    """Text that is not JSON, or JSON that is not the message it was said to be."""


class _Number(str):
    """A JSON number as written; turned into an integer only where a field wants one."""

    __slots__ = ()


# --- out -------------------------------------------------------------------------------------------------


def _value_out(field: Field, value: Any) -> Any:
    kind = field.kind
    if kind == "message":
        return to_dict(value)
    if kind == "bytes":
        return b64encode(value).decode("ascii")
    if kind in ("int64", "uint64"):
        return str(value)
    if kind == "enum":
        try:
            return field.enum_type(value).name
        except ValueError:
            return value
    return value


def to_dict(message: Message) -> dict[str, Any]:
    """The message as what ``json.dumps`` takes."""
    out: dict[str, Any] = {}
    for field in type(message).FIELDS:
        value = getattr(message, field.attribute)
        if field.repeated:
            if value:
                out[field.name] = [_value_out(field, item) for item in value]
        elif value if field.kind != "message" and not field.oneof else value is not None:
            out[field.name] = _value_out(field, value)
    return out


def dumps(message: Message) -> str:
    """The message as compact JSON text."""
    return json.dumps(to_dict(message), ensure_ascii=False, separators=(",", ":"))


# --- in --------------------------------------------------------------------------------------------------


def _camel(name: str) -> str:
    """``range_end`` -> ``rangeEnd``, as protobuf derives JSON names."""
    return re.sub(r"_(.)?", lambda match: (match[1] or "").upper(), name)


_fields_of: Final[dict[type[Message], dict[str, Field]]] = {}


def _names(cls: type[Message]) -> dict[str, Field]:
    """Fields by both of their names."""
    names = _fields_of.get(cls)
    if names is None:
        names = {field.name: field for field in cls.FIELDS}
        names.update((_camel(field.name), field) for field in cls.FIELDS)
        _fields_of[cls] = names
    return names


def _integer(text: str) -> int | None:
    """The integer a JSON number stands for, or None: not a number, not integral, or longer than any field."""
    match = _NUMBER.fullmatch(text)
    if match is None:
        return None
    whole, fraction, exponent = match[1], (match[2] or "").rstrip("0"), match[3]
    if exponent is not None:
        if len(exponent.lstrip("+-0")) > 6:  # as far as it matters: only zero survives such a shift
            return 0 if not (whole + fraction).strip("-0") else None
        shift = int(exponent)
        digits = (whole + fraction).lstrip("-").lstrip("0")
        shift -= len(fraction)
        if not digits:
            return 0
        trimmed = digits.rstrip("0")
        shift += len(digits) - len(trimmed)
        if shift < 0 or len(trimmed) + shift > _DIGITS_MAX:
            return None
        magnitude = int(trimmed + "0" * shift)
        return -magnitude if whole.startswith("-") else magnitude
    if fraction or len(whole) > _DIGITS_MAX + 1:
        return None
    return int(whole)


def _bytes(text: str) -> bytes | None:
    """Base64 of either alphabet (not mixed); padding may be missing altogether."""
    if "-" in text or "_" in text:
        if "+" in text or "/" in text:
            return None
        text = text.translate(_URL_ALPHABET)
    if len(text) % 4:
        if "=" in text:
            return None
        text += "=" * (-len(text) % 4)
    try:
        return b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None


def _scalar_in(field: Field, value: Any) -> Any:
    """The attribute's value, or None for an enum name nobody knows."""
    kind = field.kind
    if kind == "bool":
        if isinstance(value, bool):
            return value
    elif kind == "bytes":
        if type(value) is str and (decoded := _bytes(value)) is not None:
            return decoded
    elif kind == "string":
        if type(value) is str:
            try:
                value.encode()
            except UnicodeEncodeError:
                raise JsonError(f"invalid UTF-8 in string field {field.name}") from None
            return value
    elif kind == "enum" and type(value) is str:
        member = field.enum_type.__members__.get(value)
        return None if member is None else int(member)
    elif isinstance(value, str):
        number = _integer(value)
        low, high = _BOUNDS[kind]
        if number is not None and low <= number < high:
            return number
    shown = str(value) if isinstance(value, _Number) else json.dumps(value)
    raise JsonError(f"invalid value for {kind} field {_camel(field.name)}: {shown}")


def from_dict(cls: type[M], value: Any, depth: int = 0) -> M:
    """The message a parsed JSON value stands for; numbers may be ``int`` or as ``loads`` keeps them.

    Raises: JsonError.
    """
    if not isinstance(value, dict):
        raise JsonError(f"{cls.FULL_NAME} must be a JSON object")
    if depth > NESTING_MAX:
        raise JsonError("exceeded max recursion depth")
    names = _names(cls)
    message = cls()
    seen: set[int | str] = set()
    for name, item in value.items():
        field = names.get(name)
        if field is None:
            continue
        if field.number in seen:
            raise JsonError(f'duplicate field "{name}"')
        seen.add(field.number)
        if item is None:
            continue
        if field.oneof:
            if field.oneof in seen:
                raise JsonError(f'error parsing "{name}", oneof {cls.FULL_NAME}.{field.oneof} is already set')
            seen.add(field.oneof)
        if not field.repeated:
            parsed = _value_in(field, item, depth)
            if parsed is not None:
                setattr(message, field.attribute, parsed)
        elif isinstance(item, list):
            parsed_items = [_value_in(field, element, depth) for element in item]
            setattr(message, field.attribute, [element for element in parsed_items if element is not None])
        else:
            raise JsonError(f'field "{name}" must be a JSON array')
    return message


def _value_in(field: Field, value: Any, depth: int) -> Any:
    if field.kind == "message":
        return from_dict(field.message_type, value, depth + 1)
    if type(value) is int:
        value = _Number(value)
    return _scalar_in(field, value)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise JsonError("duplicate field")
    return value


def _refuse_constant(text: str) -> Any:
    raise JsonError(f"invalid value {text}")


_DECODER: Final = json.JSONDecoder(
    object_pairs_hook=_object, parse_int=_Number, parse_float=_Number, parse_constant=_refuse_constant
)


def loads(cls: type[M], text: str | bytes) -> M:
    """The message in ``text``; text of nothing but space is the empty message.

    What follows the first JSON value is ignored, as the gateway reads one value and stops. Raises: JsonError.
    """
    message = loads_at(cls, _text(text), 0)[0]
    return cls() if message is None else message


def loads_at(cls: type[M], text: str, position: int) -> tuple[M | None, int]:
    """The message in the JSON value at ``position``, and the position after it; None where no value is left.

    For bodies that hold several values in a row. Raises: JsonError.
    """
    space = _SPACE.match(text, position)
    start = position if space is None else space.end()
    if start == len(text):
        return None, start
    try:
        value, end = _DECODER.raw_decode(text, start)
    except RecursionError:
        raise JsonError("exceeded max recursion depth") from None
    except json.JSONDecodeError as error:
        raise JsonError(f"syntax error (line {error.lineno}:{error.colno}): {error.msg}") from None
    return from_dict(cls, value), end


def _text(text: str | bytes) -> str:
    if isinstance(text, str):
        return text
    try:
        return text.decode()
    except UnicodeDecodeError:
        raise JsonError("syntax error: invalid UTF-8") from None
