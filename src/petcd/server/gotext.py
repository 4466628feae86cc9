"""Texts as Go writes and reads them: quoted strings, durations, integers, booleans.

Flags, configuration files, log fields and error texts use these forms (contract/config-metrics.md 1.1);
scripts match on them, so they are Go's to the letter.
"""

from __future__ import annotations

from typing import Final

NANOSECOND: Final = 1
MICROSECOND: Final = 1_000
MILLISECOND: Final = 1_000_000
SECOND: Final = 1_000_000_000
MINUTE: Final = 60 * SECOND
HOUR: Final = 60 * MINUTE

_UNITS: Final = {
    "ns": NANOSECOND,
    "us": MICROSECOND,
    "µs": MICROSECOND,  # U+00B5, micro sign
    "μs": MICROSECOND,  # U+03BC, the Greek letter
    "ms": MILLISECOND,
    "s": SECOND,
    "m": MINUTE,
    "h": HOUR,
}
_ESCAPES: Final = {
    '"': '\\"',
    "\\": "\\\\",
    "\a": "\\a",
    "\b": "\\b",
    "\f": "\\f",
    "\n": "\\n",
    "\r": "\\r",
    "\t": "\\t",
    "\v": "\\v",
}
_TRUE: Final = frozenset(("1", "t", "T", "TRUE", "true", "True"))
_FALSE: Final = frozenset(("0", "f", "F", "FALSE", "false", "False"))
_BASES: Final = {"0x": 16, "0X": 16, "0o": 8, "0O": 8, "0b": 2, "0B": 2}


class SyntaxFault(ValueError):
    """Not a number, duration or boolean."""


class RangeFault(ValueError):
    """A number that its type cannot hold."""


def quote(text: str) -> str:
    """strconv.Quote, the ``%q`` of Go's error texts."""
    out = []
    for ch in text:
        escaped = _ESCAPES.get(ch)
        if escaped is not None:
            out.append(escaped)
        elif ch.isprintable():
            out.append(ch)
        elif ch < "\x80":
            out.append(f"\\x{ord(ch):02x}")
        elif 0xDC80 <= ord(ch) <= 0xDCFF:  # a byte that was not UTF-8, as Python passes it
            out.append(f"\\x{ord(ch) - 0xDC00:02x}")
        elif ord(ch) < 0x10000:
            out.append(f"\\u{ord(ch):04x}")
        else:
            out.append(f"\\U{ord(ch):08x}")
    return '"' + "".join(out) + '"'


def parse_bool(text: str) -> bool:
    """strconv.ParseBool. Raises SyntaxFault."""
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    raise SyntaxFault(text)


def parse_uint(text: str, bits: int = 64) -> int:
    """strconv.ParseUint with base 0: prefixes and underscores are taken, signs are not."""
    if text[:1] in ("+", "-"):
        raise SyntaxFault(text)
    value = _magnitude(text)
    if value >= 1 << bits:
        raise RangeFault(text)
    return value


def parse_int(text: str, bits: int = 64) -> int:
    """strconv.ParseInt with base 0."""
    digits = text[1:] if text[:1] in ("+", "-") else text
    value = _magnitude(digits)
    if text[:1] == "-":
        value = -value
    if not -(1 << (bits - 1)) <= value < 1 << (bits - 1):
        raise RangeFault(text)
    return value


def _magnitude(text: str) -> int:
    base = _BASES.get(text[:2])
    if base is not None:
        digits = text[2:].removeprefix("_")
    elif text[:1] == "0" and len(text) > 1:
        base, digits = 8, text[1:].removeprefix("_")
    else:
        base, digits = 10, text
    # int() takes signs, blanks and other alphabets' digits as well; Go does not.
    if not digits.isascii() or not digits.replace("_", "").isalnum() or digits[:1] == "_":
        raise SyntaxFault(text)
    try:
        return int(digits, base)
    except ValueError:
        raise SyntaxFault(text) from None


def parse_duration(text: str) -> int:
    """time.ParseDuration, in nanoseconds. Raises SyntaxFault with Go's own text."""
    body, sign = text, 1
    if body[:1] in ("+", "-"):
        sign = -1 if body[0] == "-" else 1
        body = body[1:]
    if body == "0":
        return 0
    if not body:
        raise SyntaxFault(f"time: invalid duration {quote(text)}")
    total, at, size = 0, 0, len(body)
    while at < size:
        start = at
        while at < size and body[at] in "0123456789":
            at += 1
        whole, fraction = body[start:at], ""
        if at < size and body[at] == ".":
            at += 1
            start = at
            while at < size and body[at] in "0123456789":
                at += 1
            fraction = body[start:at]
        if not whole and not fraction:
            raise SyntaxFault(f"time: invalid duration {quote(text)}")
        start = at
        while at < size and body[at] not in ".0123456789":
            at += 1
        name = body[start:at]
        if not name:
            raise SyntaxFault(f"time: missing unit in duration {quote(text)}")
        unit = _UNITS.get(name)
        if unit is None:
            raise SyntaxFault(f"time: unknown unit {quote(name)} in duration {quote(text)}")
        total += int(whole or "0") * unit
        if fraction:
            total += int(fraction) * unit // 10 ** len(fraction)
        if total > (1 << 63) - (sign > 0):
            raise SyntaxFault(f"time: invalid duration {quote(text)}")
    return sign * total


def format_duration(seconds: float) -> str:
    """time.Duration's String: ``1h0m0s``, ``1.5s``, ``100ms``, ``0s``."""
    return format_nanoseconds(round(seconds * SECOND))


def format_nanoseconds(nanoseconds: int) -> str:
    if nanoseconds == 0:
        return "0s"
    sign, value = ("-", -nanoseconds) if nanoseconds < 0 else ("", nanoseconds)
    if value < SECOND:
        for unit, name in ((MILLISECOND, "ms"), (MICROSECOND, "µs"), (NANOSECOND, "ns")):
            if value >= unit:
                return f"{sign}{_decimal(value, unit)}{name}"
    minutes, rest = divmod(value, MINUTE)
    text = _decimal(rest, SECOND) + "s"
    if minutes:
        hours, minutes = divmod(minutes, 60)
        text = (f"{hours}h" if hours else "") + f"{minutes}m" + text
    return sign + text


def _decimal(value: int, unit: int) -> str:
    whole, rest = divmod(value, unit)
    if not rest:
        return str(whole)
    return f"{whole}.{rest:0{len(str(unit)) - 1}d}".rstrip("0")
