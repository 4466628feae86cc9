"""Go's spellings: quoting, numbers, durations, sizes (docs/contract cli section 1).

Scripts compare these texts, so they follow Go's ``strconv``, ``time`` and ``fmt`` to the letter.
"""

from __future__ import annotations

from typing import Final

INT64_MIN: Final = -(1 << 63)
INT64_MAX: Final = (1 << 63) - 1
UINT64_MAX: Final = (1 << 64) - 1

_NAMED_ESCAPES: Final = {
    0x07: "\\a",
    0x08: "\\b",
    0x09: "\\t",
    0x0A: "\\n",
    0x0B: "\\v",
    0x0C: "\\f",
    0x0D: "\\r",
    0x22: '\\"',
    0x5C: "\\\\",
}
_UNESCAPES: Final = {
    "a": "\a",
    "b": "\b",
    "f": "\f",
    "n": "\n",
    "r": "\r",
    "t": "\t",
    "v": "\v",
    "\\": "\\",
    '"': '"',
}


class ParseError(ValueError):
    """A text Go's parsers refuse; the message is Go's."""


def raw(text: str) -> bytes:
    """The bytes of an argument as the system gave them."""
    return text.encode("utf-8", "surrogateescape")


def text_of(data: bytes) -> str:
    """The inverse of ``raw``: any bytes as a text that prints as those bytes."""
    return data.decode("utf-8", "surrogateescape")


def quote(value: bytes | str) -> str:
    """``%q`` of a Go string."""
    text = value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else value
    if text.isascii() and text.isprintable() and '"' not in text and "\\" not in text:
        return f'"{text}"'
    out = ['"']
    for char in text:
        number = ord(char)
        named = _NAMED_ESCAPES.get(number)
        if named is not None:
            out.append(named)
        elif number < 0x20 or number == 0x7F:
            out.append(f"\\x{number:02x}")
        elif number < 0x7F:
            out.append(char)
        elif 0xDC80 <= number <= 0xDCFF:
            out.append(f"\\x{number - 0xDC00:02x}")
        elif _is_print(char):
            out.append(char)
        elif number <= 0xFFFF:
            out.append(f"\\u{number:04x}")
        else:
            out.append(f"\\U{number:08x}")
    out.append('"')
    return "".join(out)


def _is_print(char: str) -> bool:
    from unicodedata import category

    return category(char)[0] in "LMNPS"


def scan_quoted(text: str, start: int) -> tuple[str, int] | None:
    """A Go string literal at ``start``: its value and the offset after it; None when there is none."""
    if start >= len(text):
        return None
    if text[start] == "`":
        end = text.find("`", start + 1)
        return None if end < 0 else (text[start + 1 : end], end + 1)
    if text[start] != '"':
        return None
    end = start + 1
    while end < len(text) and text[end] != '"':
        end += 2 if text[end] == "\\" else 1
    if end >= len(text):
        return None
    value = _unescape(text[start + 1 : end])
    return None if value is None else (value, end + 1)


def _unescape(body: str) -> str | None:
    if "\\" not in body:
        return body
    out = bytearray()
    at = 0
    while at < len(body):
        char = body[at]
        if char != "\\":
            out += raw(char)
            at += 1
            continue
        kind = body[at + 1 : at + 2]
        if kind in _UNESCAPES:
            out += _UNESCAPES[kind].encode()
            at += 2
            continue
        width = {"x": 2, "u": 4, "U": 8}.get(kind)
        try:
            if width is not None:
                digits = body[at + 2 : at + 2 + width]
                if len(digits) != width:
                    return None
                number = int(digits, 16)
                at += 2 + width
                out += bytes([number]) if kind == "x" else chr(number).encode()
            elif kind and kind in "01234567":
                number = int(body[at + 1 : at + 4], 8)
                if len(body[at + 1 : at + 4]) != 3 or number > 255:
                    return None
                out.append(number)
                at += 4
            else:
                return None
        except (ValueError, OverflowError, UnicodeEncodeError):
            return None
    return text_of(bytes(out))


def unquote(token: str) -> str | None:
    """``strconv.Unquote`` of a double-quoted or back-quoted literal; None when it is malformed."""
    found = scan_quoted(token, 0)
    return found[0] if found is not None and found[1] == len(token) else None


def _number(function: str, text: str, base: int, low: int, high: int) -> int:
    digits = text[1:] if text[:1] in ("+", "-") and low < 0 else text
    plain = digits if base == 0 else digits.replace("_", "~")
    try:
        if not plain.isascii() or plain != plain.strip() or plain[:1] in ("+", "-", "_"):
            raise ValueError
        if base == 16 and plain[:2] in ("0x", "0X"):
            raise ValueError
        if base == 0 and len(plain) > 1 and plain[0] == "0" and plain[1] in "01234567_":
            value = int(plain.lstrip("0_") or "0", 8)
        else:
            value = int(plain, base)
    except ValueError:
        raise ParseError(f"strconv.{function}: parsing {quote(text)}: invalid syntax") from None
    if digits is not text and text[0] == "-":
        value = -value
    if not low <= value <= high:
        raise ParseError(f"strconv.{function}: parsing {quote(text)}: value out of range")
    return value


def parse_int(text: str, base: int = 10) -> int:
    """``strconv.ParseInt(text, base, 64)``; base 0 takes Go's prefixes."""
    return _number("ParseInt", text, base, INT64_MIN, INT64_MAX)


def parse_uint(text: str, base: int = 10, bits: int = 64) -> int:
    """``strconv.ParseUint``."""
    return _number("ParseUint", text, base, 0, (1 << bits) - 1)


def parse_float(text: str) -> float:
    """``strconv.ParseFloat`` of a decimal number."""
    try:
        if not text.isascii() or text != text.strip() or "_" in text:
            raise ValueError
        return float(text)
    except ValueError:
        raise ParseError(f"strconv.ParseFloat: parsing {quote(text)}: invalid syntax") from None


_TRUE: Final = frozenset(("1", "t", "T", "TRUE", "true", "True"))
_FALSE: Final = frozenset(("0", "f", "F", "FALSE", "false", "False"))


def parse_bool(text: str) -> bool:
    """``strconv.ParseBool``."""
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    raise ParseError(f"strconv.ParseBool: parsing {quote(text)}: invalid syntax")


_UNITS: Final = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,  # U+00B5
    "μs": 1_000,  # U+03BC
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
}


def parse_duration(text: str) -> int:
    """``time.ParseDuration``: nanoseconds."""
    rest = text
    negative = rest[:1] == "-"
    if rest[:1] in ("-", "+"):
        rest = rest[1:]
    if rest == "0":
        return 0
    invalid = ParseError(f"time: invalid duration {quote(text)}")
    if not rest:
        raise invalid
    total = 0
    while rest:
        end = 0
        while end < len(rest) and (rest[end] in "0123456789."):
            end += 1
        digits = rest[:end]
        if not digits.strip(".") or digits.count(".") > 1:
            raise invalid
        rest = rest[end:]
        end = 0
        while end < len(rest) and rest[end] not in "0123456789.":
            end += 1
        unit = rest[:end]
        if not unit:
            raise ParseError(f"time: missing unit in duration {quote(text)}")
        if unit not in _UNITS:
            raise ParseError(f"time: unknown unit {quote(unit)} in duration {quote(text)}")
        whole, _, fraction = digits.partition(".")
        total += int(whole or "0") * _UNITS[unit]
        if fraction:
            total += int(fraction) * _UNITS[unit] // 10 ** len(fraction)
        rest = rest[end:]
    if total > INT64_MAX:
        raise invalid
    return -total if negative else total


def duration(nanoseconds: int) -> str:
    """A ``time.Duration`` as Go prints it."""
    if nanoseconds == 0:
        return "0s"
    sign, value = ("-", -nanoseconds) if nanoseconds < 0 else ("", nanoseconds)
    if value < 1_000:
        return f"{sign}{value}ns"
    if value < 1_000_000:
        return f"{sign}{_fraction(value, 1_000)}µs"
    if value < 1_000_000_000:
        return f"{sign}{_fraction(value, 1_000_000)}ms"
    minutes, rest = divmod(value, 60_000_000_000)
    out = _fraction(rest, 1_000_000_000) + "s"
    if minutes:
        hours, minutes = divmod(minutes, 60)
        out = (f"{hours}h{minutes}m" if hours else f"{minutes}m") + out
    return sign + out


def _fraction(value: int, unit: int) -> str:
    whole, rest = divmod(value, unit)
    if not rest:
        return str(whole)
    width = len(str(unit)) - 1
    return f"{whole}.{rest:0{width}d}".rstrip("0")


def size(count: int) -> str:
    """Humanised bytes, base 1000 (section 1.3)."""
    if count < 10:
        return f"{count} B"
    exponent, bound = 0, 1000
    while count >= bound and exponent < 6:
        exponent += 1
        bound *= 1000
    unit = 1000**exponent
    tenths = (count * 10 + unit // 2) // unit
    suffix = ("B", "kB", "MB", "GB", "TB", "PB", "EB")[exponent]
    return f"{tenths / 10:.1f} {suffix}" if tenths < 100 else f"{tenths / 10:.0f} {suffix}"


def int64(value: int) -> int:
    """A number of 64 bits read as signed."""
    return value - (1 << 64) if value > INT64_MAX else value


def uint64(value: int) -> int:
    """A number of 64 bits read as unsigned."""
    return value & UINT64_MAX
