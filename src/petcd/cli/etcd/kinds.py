"""The kinds of values flags take: how Go's flag package reads each, and how a config file gives it.

A kind parses a text (command line, environment) or a decoded YAML value into what the Config field holds.
Source: contract/config-metrics.md sections 1.1 and 1.3.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from petcd.server import gotext
from petcd.server.features import FeatureError, parse_features
from petcd.server.url import Url, UrlError, parse_urls

KEEP: Final = object()
"""What a kind answers to leave the field as it is: the empty list of URLs."""


class BadValue(ValueError):
    """``str()`` is the reason in Go's words, the end of ``invalid value "x" for flag -name: …``."""


class Mismatch(ValueError):
    """A config file's value of the wrong JSON type; carries Go's names of both types."""

    def __init__(self, found: str, wanted: str) -> None:
        super().__init__(f"{found} is not {wanted}")
        self.found = found
        self.wanted = wanted


class Kind:
    """One kind of value."""

    __slots__ = ("boolean", "from_yaml", "label", "parse")

    def __init__(
        self,
        label: str,
        parse: Callable[[str], Any],
        from_yaml: Callable[[Any], Any],
        *,
        boolean: bool = False,
    ) -> None:
        self.label = label
        """What the documentation calls it."""
        self.parse = parse
        """From a text. Raises BadValue."""
        self.from_yaml = from_yaml
        """From a decoded YAML value. Raises Mismatch, BadValue."""
        self.boolean = boolean
        """Takes no separate argument on the command line."""


def _json_name(value: object) -> str:
    """How Go's decoder names a value that it cannot store."""
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, str):
        return "string"
    if isinstance(value, (int, float)):
        return "number"
    return "array" if isinstance(value, list) else "object"


def yaml_string(value: object) -> str:
    if not isinstance(value, str):
        raise Mismatch(_json_name(value), "string")
    return value


def _yaml_bool(value: object) -> bool:
    if not isinstance(value, bool):
        raise Mismatch(_json_name(value), "bool")
    return value


def _yaml_list(value: object) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise Mismatch(_json_name(value), "[]string")
    return tuple(yaml_string(item) for item in value)


def _integer(label: str, low: int, high: int) -> Callable[[Any], int]:
    def from_yaml(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise Mismatch(_json_name(value), label)
        if value != int(value) or not low <= value < high:
            raise Mismatch(f"number {_number(value)}", label)
        return int(value)

    return from_yaml


def _number(value: float) -> str:
    """A number as Go prints it."""
    text = repr(float(value)) if abs(value) >= 1e21 else repr(value)
    return text.removesuffix(".0")


def _parse_integer(read: Callable[[str, int], int], bits: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        try:
            return read(text, bits)
        except gotext.SyntaxFault:
            raise BadValue("parse error") from None
        except gotext.RangeFault:
            raise BadValue("value out of range") from None

    return parse


def _parse_uint32(text: str) -> int:
    """etcd's own flag type hands strconv's error through."""
    try:
        return gotext.parse_uint(text, 32)
    except gotext.SyntaxFault:
        raise BadValue(f"strconv.ParseUint: parsing {gotext.quote(text)}: invalid syntax") from None
    except gotext.RangeFault:
        raise BadValue(f"strconv.ParseUint: parsing {gotext.quote(text)}: value out of range") from None


def _parse_bool(text: str) -> bool:
    try:
        return gotext.parse_bool(text)
    except gotext.SyntaxFault:
        raise BadValue("parse error") from None


def _parse_duration(text: str) -> float:
    try:
        return gotext.parse_duration(text) / gotext.SECOND
    except gotext.SyntaxFault:
        raise BadValue("parse error") from None


_nanoseconds = _integer("time.Duration", -(1 << 63), 1 << 63)


def _yaml_duration(value: object) -> float:
    return _nanoseconds(value) / gotext.SECOND


def _parse_urls(text: str) -> Any:
    if not text:
        return KEEP
    try:
        return parse_urls(text)
    except UrlError as error:
        raise BadValue(str(error)) from None


def _yaml_urls(value: object) -> Any:
    return _parse_urls(yaml_string(value))


def _parse_origins(text: str) -> tuple[str, ...]:
    if text == "*":
        return ("*",)
    try:
        return tuple(map(str, parse_urls(text)))
    except UrlError as error:
        raise BadValue(str(error)) from None


def _yaml_origins(value: object) -> Any:
    return _parse_origins(text) if (text := yaml_string(value)) else KEEP


def _parse_set(text: str) -> tuple[str, ...]:
    return tuple(sorted(set(text.split(",")))) if text else ()


def _yaml_set(value: object) -> Any:
    return _parse_set(text) if (text := yaml_string(value)) else KEEP


def _parse_list(text: str) -> tuple[str, ...]:
    return tuple(text.split(",")) if text else ()


def _parse_features(text: str) -> dict[str, bool]:
    try:
        return parse_features(text)
    except FeatureError as error:
        raise BadValue(str(error)) from None


def _yaml_features(value: object) -> dict[str, bool]:
    return _parse_features(yaml_string(value))


def _ignore(_value: object) -> Any:
    return KEEP


STRING: Final = Kind("string", str, yaml_string)
BOOL: Final = Kind("bool", _parse_bool, _yaml_bool, boolean=True)
INT: Final = Kind("int", _parse_integer(gotext.parse_int, 64), _integer("int", -(1 << 63), 1 << 63))
INT64: Final = Kind("int64", _parse_integer(gotext.parse_int, 64), _integer("int64", -(1 << 63), 1 << 63))
UINT: Final = Kind("uint", _parse_integer(gotext.parse_uint, 64), _integer("uint", 0, 1 << 64))
UINT64: Final = Kind("uint64", _parse_integer(gotext.parse_uint, 64), _integer("uint64", 0, 1 << 64))
UINT32: Final = Kind("uint32", _parse_uint32, _integer("uint32", 0, 1 << 32))
DURATION: Final = Kind("duration", _parse_duration, _yaml_duration)
URLS: Final = Kind("URLs", _parse_urls, _yaml_urls)
ORIGINS: Final = Kind("origins", _parse_origins, _yaml_origins)
SET: Final = Kind("names", _parse_set, _yaml_set)
NAMES: Final = Kind("names", _parse_set, _yaml_list)
LIST: Final = Kind("list", _parse_list, _yaml_list)
GATES: Final = Kind("gates", _parse_features, _yaml_features)
IGNORED: Final = Kind("ignored", _ignore, _ignore, boolean=True)


def choice(*allowed: str) -> Kind:
    """One of some words; a config file's word is checked later, as etcd does."""

    def parse(text: str) -> str:
        if text not in allowed:
            raise BadValue("invalid value")
        return text

    return Kind("|".join(allowed), parse, yaml_string)


def choices(*allowed: str) -> Kind:
    """A comma-separated list of some words."""

    def parse(text: str) -> str:
        if any(part not in allowed for part in text.split(",")):
            raise BadValue("invalid value")
        return text

    return Kind("|".join(allowed), parse, yaml_string)


def format_value(value: object) -> str:
    """A field's value as the text that gives it: the ``default`` column of help and documentation."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return gotext.format_duration(value)
    if isinstance(value, tuple):
        return ",".join(str(item) if isinstance(item, Url) else item for item in value)
    return str(value)
