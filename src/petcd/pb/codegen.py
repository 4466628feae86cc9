"""Writes each message's constructor, encoder and decoder as straight-line Python, and compiles it.

What makes the decoders fast, in order of effect:

- a one-byte tag is compared as an integer, the frequent fields first;
- varints and lengths of one or two bytes (up to 16,383) are read in place;
- fields live in locals until the end and are then stored into slots, without calling ``__init__``;
- no bound is checked in the middle: a read past the input raises IndexError, a field that reaches past its
  message makes the position differ from ``end``, and both become DecodeError.

A longer tag, which can also be an overlong spelling of a short one, goes once more through the same
comparisons (the inner ``while True``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from petcd.pb.wire import NESTING_MAX, VARINTS, DecodeError, long_varint, skip, tag, varint

if TYPE_CHECKING:
    from petcd.pb.message import Field, Message

_ZERO = {"bytes": "b''", "string": "''", "bool": "False", "message": "None"}
_DELIMITED = ("bytes", "string", "message")


def _wire_type(field: Field) -> int:
    return 2 if field.kind in _DELIMITED or field.packed else 0


def _default(field: Field) -> str:
    return "None" if field.oneof else _ZERO.get(field.kind, "0")


def _compile(name: str, cls: type[Message], lines: list[str], names: dict[str, Any]) -> Callable[..., Any]:
    source = "\n".join(lines) + "\n"
    exec(compile(source, f"<{cls.FULL_NAME}.{name}>", "exec"), names)
    function: Callable[..., Any] = names[name]
    function.__qualname__ = f"{cls.__name__}.{name}"
    return function


def compile_init(cls: type[Message]) -> Callable[..., None]:
    """``__init__`` with one keyword per field."""
    keywords = [f"{f.attribute}={'None' if f.repeated else _default(f)}" for f in cls.FIELDS]
    lines = [f"def __init__(self{', *, ' if keywords else ''}{', '.join(keywords)}):"]
    for f in cls.FIELDS:
        value = f"[] if {f.attribute} is None else {f.attribute}" if f.repeated else f.attribute
        lines.append(f"    self.{f.attribute} = {value}")
    return _compile("__init__", cls, [*lines, "    return None"], {})


# --- encode ---------------------------------------------------------------------------------------------


def _varint_expression(field: Field, value: str) -> str:
    """The varint of a scalar held in a local, without a call where it is small."""
    if field.kind == "bool":
        return f"(b'\\x01' if {value} else b'\\x00')"
    return f"VARINTS[{value}] if 0 <= {value} < {len(VARINTS)} else varint({value})"


def _encode_value(field: Field, value: str, field_tag: bytes, indent: str) -> Iterator[str]:
    """Lines that add one occurrence of the field, whose value is in the local ``value``."""
    if field.kind in _DELIMITED:
        if field.kind == "message":
            yield f"{indent}{value} = {value}.encode()"
        elif field.kind == "string":
            how = "" if field.strict else "'utf-8', 'surrogateescape'"
            yield f"{indent}{value} = {value}.encode({how})"
        yield f"{indent}n = len({value})"
        yield f"{indent}out.append({field_tag!r})"
        yield f"{indent}out.append(VARINTS[n] if n < {len(VARINTS)} else varint(n))"
        yield f"{indent}out.append({value})"
    elif field.kind == "bool" and not (field.repeated or field.always or field.oneof):
        yield f"{indent}out.append({field_tag + bytes((1,))!r})"
    else:
        yield f"{indent}out.append({field_tag!r})"
        yield f"{indent}out.append({_varint_expression(field, value)})"


def compile_encode(cls: type[Message]) -> Callable[..., bytes]:
    """``encode``; pieces are gathered in a list and joined once."""
    names: dict[str, Any] = {"VARINTS": VARINTS, "varint": varint}
    if not cls.FIELDS:
        return _compile("encode", cls, ["def encode(self):", "    return b''"], names)
    lines = ["def encode(self):", "    out = []"]
    for f in cls.FIELDS:
        field_tag = tag(f.number, _wire_type(f))
        lines.append(f"    v = self.{f.attribute}")
        if f.packed:
            lines.append("    if v:")
            lines.append("        v = b''.join([varint(x) for x in v])")
            lines.append(f"        out.append({field_tag!r} + varint(len(v)) + v)")
        elif f.repeated:
            lines.append("    for x in v:")
            lines.extend(_encode_value(f, "x", field_tag, "        "))
        elif f.always and f.kind == "message":
            names[f"EMPTY{f.number}"] = f.message_type
            lines.append("    if v is None:")
            lines.append(f"        v = EMPTY{f.number}()")
            lines.extend(_encode_value(f, "v", field_tag, "    "))
        elif f.always:
            lines.extend(_encode_value(f, "v", field_tag, "    "))
        else:
            lines.append("    if v is not None:" if f.oneof or f.kind == "message" else "    if v:")
            lines.extend(_encode_value(f, "v", field_tag, "        "))
    return _compile("encode", cls, [*lines, "    return b''.join(out)"], names)


# --- decode ---------------------------------------------------------------------------------------------


def _reaches_itself(cls: type[Message]) -> bool:
    """Whether a message of this type can hold another; only those count their depth."""
    seen: set[type[Message]] = set()
    todo = [cls]
    while todo:
        for field in todo.pop().FIELDS:
            if field.kind == "message" and field.message_type not in seen:
                seen.add(field.message_type)
                todo.append(field.message_type)
    return cls in seen


def _read_varint(target: str, kind: str, indent: str) -> Iterator[str]:
    """Lines that read a varint of a field's kind at ``i`` into ``target``."""
    yield f"{indent}{target} = data[i]"
    yield f"{indent}i += 1"
    yield f"{indent}if {target} > 127:"
    yield f"{indent}    n = data[i]"
    yield f"{indent}    if n < 128:"
    yield f"{indent}        {target} += (n << 7) - 128"
    yield f"{indent}        i += 1"
    yield f"{indent}    else:"
    yield f"{indent}        {target}, i = long_varint(data, i - 1)"
    if kind == "int64":
        yield f"{indent}        if {target} >> 63:"
        yield f"{indent}            {target} -= {1 << 64}"
    elif kind in ("int32", "enum"):
        yield f"{indent}        {target} &= {0xFFFFFFFF}"
        yield f"{indent}        if {target} >> 31:"
        yield f"{indent}            {target} -= {1 << 32}"
    elif kind == "uint32":
        yield f"{indent}        {target} &= {0xFFFFFFFF}"
    if kind == "bool":
        yield f"{indent}{target} = {target} != 0"


def _read_delimited(field: Field, depth: str, indent: str) -> Iterator[str]:
    """Lines that read a length-delimited field into its local (or onto its list)."""
    local = f"f{field.number}"
    yield from _read_varint("j", "", indent)
    yield f"{indent}j += i"
    if field.kind == "bytes":
        value = "data[i:j]"
    elif field.kind == "string":
        value = "str(data[i:j], 'utf-8')" if field.strict else "str(data[i:j], 'utf-8', 'surrogateescape')"
    elif field.repeated:
        value = f"T{field.number}.decode(data, i, j{depth})"
    else:
        yield f"{indent}if {local} is None:"
        yield f"{indent}    {local} = T{field.number}.decode(data, i, j{depth})"
        yield f"{indent}else:"
        yield f"{indent}    T{field.number}.merge({local}, data, i, j{depth})"
        value = ""
    if field.repeated:
        yield f"{indent}{local}.append({value})"
    elif value:
        yield f"{indent}{local} = {value}"
    yield f"{indent}i = j"


def _read_packed(field: Field, indent: str) -> Iterator[str]:
    yield from _read_varint("j", "", indent)
    yield f"{indent}j += i"
    yield f"{indent}if j > end:"
    yield f"{indent}    raise DecodeError('field reaches past its message')"
    yield f"{indent}while i < j:"
    yield from _read_varint("v", field.kind, indent + "    ")
    yield f"{indent}    f{field.number}.append(v)"
    yield f"{indent}if i != j:"
    yield f"{indent}    raise DecodeError('packed field does not end with a value')"


def _branches(cls: type[Message], depth: str) -> Iterator[tuple[int, list[str]]]:
    """Per tag the decoder knows: the lines that read the field. Hot fields first."""
    indent = " " * 20
    order = {number: place for place, number in enumerate(cls.HOT)}
    for field in sorted(cls.FIELDS, key=lambda f: (order.get(f.number, len(order)), f.number)):
        clear = [
            f"{indent}f{other.number} = None"
            for other in cls.FIELDS
            if field.oneof and other.oneof == field.oneof and other is not field
        ]
        if field.kind in _DELIMITED:
            yield field.number << 3 | 2, [*_read_delimited(field, depth, indent), *clear]
        elif field.repeated:
            packed = list(_read_packed(field, indent))
            single = [*_read_varint("v", field.kind, indent), f"{indent}f{field.number}.append(v)"]
            yield from ((field.number << 3 | 2, packed), (field.number << 3, single))
        else:
            yield field.number << 3, [*_read_varint(f"f{field.number}", field.kind, indent), *clear]


def compile_decode(
    cls: type[Message], *, merge: bool = False, row: type[tuple[Any, ...]] | None = None
) -> Callable[..., Any]:
    """``decode(data, start, end, depth)``, or ``merge(into, data, start, end, depth)``.

    ``row`` is a named tuple whose fields have the names of the message's: ``decode`` makes that instead.
    """
    name = "merge" if merge else "decode"
    names: dict[str, Any] = {"long_varint": long_varint, "skip": skip, "DecodeError": DecodeError, "C": cls}
    names["new"] = object.__new__
    names.update((f"T{f.number}", f.message_type) for f in cls.FIELDS if f.kind == "message")
    recursive = _reaches_itself(cls)
    lines = [f"def {name}({'into, ' if merge else ''}data, start=0, end=None, depth=0):"]
    if recursive:
        lines += [f"    if depth > {NESTING_MAX}:", "        raise DecodeError('messages nest too deep')"]
    lines += ["    if end is None:", "        end = len(data)", "    i = start"]
    for f in cls.FIELDS:
        first = f"into.{f.attribute}" if merge else "[]" if f.repeated else _default(f)
        lines.append(f"    f{f.number} = {first}")
    branches = list(_branches(cls, ", depth + 1" if recursive else ""))
    short = [(number, body) for number, body in branches if number < 128]
    long = [(number, body) for number, body in branches if number >= 128]
    chain: list[tuple[str, list[str]]] = [(f"tag == {number}", body) for number, body in short]
    indent = " " * 20
    after_long = [f"{indent}    i = skip(data, i, end, tag)"]
    longer = [f"{indent}tag, i = long_varint(data, i - 1)", f"{indent}if tag < 128:", f"{indent}    continue"]
    if long:
        longer[:1] = [
            f"{indent}n = data[i]",
            f"{indent}if n < 128:",
            f"{indent}    tag += (n << 7) - 128",
            f"{indent}    i += 1",
            f"{indent}else:",
            f"{indent}    tag, i = long_varint(data, i - 1)",
        ]
        for place, (number, body) in enumerate(long):
            longer.append(f"{indent}{'elif' if place else 'if'} tag == {number}:")
            longer += ["    " + line for line in body]
        longer.append(f"{indent}else:")
        longer += after_long
    else:
        longer.append(after_long[0][4:])
    hot = sum(1 for number, _ in short if number >> 3 in cls.HOT) if long else len(chain)
    chain.insert(hot, ("tag > 127", longer))
    lines += ["    try:", "        while i < end:", "            tag = data[i]", "            i += 1"]
    lines.append("            while True:")
    for place, (condition, body) in enumerate(chain):
        lines.append(f"                {'elif' if place else 'if'} {condition}:")
        lines += body
    lines += ["                else:", f"{indent}i = skip(data, i, end, tag)", "                break"]
    lines += ["    except IndexError:", "        raise DecodeError('unexpected end of message') from None"]
    if any(f.kind == "string" for f in cls.FIELDS):
        lines += [
            "    except UnicodeDecodeError:",
            "        raise DecodeError('string is not UTF-8') from None",
        ]
    lines += ["    if i != end:", "        raise DecodeError('field reaches past its message')"]
    if merge:
        lines += [f"    into.{f.attribute} = f{f.number}" for f in cls.FIELDS]
        lines.append("    return into")
    elif row is not None:
        numbers = {f.attribute: f.number for f in cls.FIELDS}
        names.update(new=tuple.__new__, R=row)
        values = ", ".join(f"f{numbers[attribute]}" for attribute in row._fields)  # type: ignore[attr-defined]
        lines.append(f"    return new(R, ({values},))")
    else:
        lines.append("    m = new(C)")
        lines += [f"    m.{f.attribute} = f{f.number}" for f in cls.FIELDS]
        lines.append("    return m")
    return _compile(name, cls, lines, names)
