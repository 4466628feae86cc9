"""Dataclasses filled from keys: which fields there are, and what a key's bytes mean to them."""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

Pairs = Mapping[bytes, bytes]

_BOOLS: Final = {
    "true": True,
    "yes": True,
    "on": True,
    "1": True,
    "false": False,
    "no": False,
    "off": False,
    "0": False,
}
_SIMPLE: Final = (str, bytes, int, float, bool, list, tuple, dict)
_MISSING: Final = object()


class ConfigurationError(Exception):
    """A key that does not fit, or is missing."""

    def __init__(self, key: bytes, reason: str) -> None:
        super().__init__(f"{key.decode(errors='backslashreplace')}: {reason}")
        self.key = key
        self.reason = reason


class _Field(NamedTuple):
    wanted: Any
    """Its type, without the ``None`` of ``X | None``."""
    inner: Shape | None
    """The shape of a field that is a dataclass."""
    default: Callable[[], Any]


class Shape:
    """A dataclass as keys can fill it. Raises: TypeError for a field that no key can hold."""

    def __init__(self, kind: type[Any]) -> None:
        if not (isinstance(kind, type) and dataclasses.is_dataclass(kind)):
            raise TypeError(f"{kind!r} is not a dataclass")
        self._kind = kind
        hints = typing.get_type_hints(kind)
        self._fields = {
            field.name: _field(kind, field, hints[field.name])
            for field in dataclasses.fields(kind)
            if field.init
        }

    def fill(self, prefix: bytes, pairs: Pairs, base: Any = None) -> Any:
        """The dataclass from the keys below ``prefix``; what they do not say comes from ``base``.

        Raises: ConfigurationError.
        """
        values = {}
        for name, field in self._fields.items():
            key = prefix + name.encode()
            default = field.default() if base is None else getattr(base, name)
            if field.inner is not None and any(found.startswith(key + b"/") for found in pairs):
                values[name] = field.inner.fill(key + b"/", pairs, None if default is _MISSING else default)
            elif field.inner is None and key in pairs:
                values[name] = _convert(key, pairs[key], field.wanted)
            elif default is not _MISSING:
                values[name] = default
            elif field.inner is not None:
                values[name] = field.inner.fill(key + b"/", pairs)
            else:
                raise ConfigurationError(key, "there is no such key, and the field has no default")
        try:
            return self._kind(**values)
        except (ValueError, TypeError) as error:
            # The dataclass checks itself, in __post_init__.
            raise ConfigurationError(prefix, str(error)) from error


def _field(kind: type[Any], field: dataclasses.Field[Any], hint: Any) -> _Field:
    wanted, optional = _without_none(hint)
    if isinstance(wanted, type) and dataclasses.is_dataclass(wanted):
        inner = Shape(wanted)
    elif (typing.get_origin(wanted) or wanted) in _SIMPLE:
        inner = None
    else:
        raise TypeError(f"{kind.__name__}.{field.name}: no key can hold a {hint!r}")
    default: Callable[[], Any]
    if field.default_factory is not dataclasses.MISSING:
        default = field.default_factory
    else:
        value = field.default
        if value is dataclasses.MISSING:
            value = None if optional else _MISSING
        default = lambda: value  # noqa: E731  it closes over this field's value
    return _Field(wanted, inner, default)


def _without_none(hint: Any) -> tuple[Any, bool]:
    """``X`` of ``X | None``, and whether it was one."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        others = [one for one in typing.get_args(hint) if one is not type(None)]
        if len(others) == 1:
            return others[0], True
    return hint, False


def _convert(key: bytes, content: bytes, wanted: Any) -> Any:
    """A key's value as the field wants it."""
    if wanted is bytes:
        return content
    try:
        text = content.decode()
        if wanted is str:
            return text
        if wanted is bool:
            return _BOOLS[text.strip().lower()]
        if wanted in (int, float):
            return wanted(text)
        parsed = json.loads(text)
    except (ValueError, KeyError):
        name = wanted.__name__ if wanted in (str, bool, int, float) else "JSON"
        raise ConfigurationError(key, f"{content!r} is no {name}") from None
    return _checked(key, parsed, wanted)


def _checked(key: bytes, parsed: Any, wanted: Any) -> Any:
    """What JSON holds, if it is of the type."""
    origin, inner = typing.get_origin(wanted) or wanted, typing.get_args(wanted)
    if origin is Any:
        return parsed
    if origin is float and type(parsed) is int:
        return float(parsed)
    if type(parsed) is not {tuple: list}.get(origin, origin):
        raise ConfigurationError(key, f"{json.dumps(parsed)} is no {getattr(origin, '__name__', origin)}")
    if origin is dict and inner:
        return {_checked(key, name, inner[0]): _checked(key, one, inner[1]) for name, one in parsed.items()}
    if origin is list and inner:
        return [_checked(key, one, inner[0]) for one in parsed]
    if origin is tuple and inner:
        kinds = [inner[0]] * len(parsed) if inner[1:] == (...,) else inner
        if len(kinds) != len(parsed):
            raise ConfigurationError(key, f"{json.dumps(parsed)} has not {len(kinds)} parts")
        return tuple(_checked(key, one, kind) for one, kind in zip(parsed, kinds, strict=True))
    return tuple(parsed) if origin is tuple else parsed
