"""Configuration that reloads itself: a dataclass, filled from the keys below a prefix.

    @dataclass(frozen=True)
    class Limits:
        requests: int = 100
        burst: float = 1.5

    @dataclass(frozen=True)
    class Settings:
        greeting: str
        limits: Limits = Limits()
        hosts: list[str] = field(default_factory=list)

    async with Configuration(client, "app/", Settings) as configuration:
        print(configuration.value.limits.requests)      # app/limits/requests
        async for settings in configuration: ...

A field is a key of that name; a field that is a dataclass is a folder. Text, bytes and numbers stand in the
key as they are, a bool as true/false, yes/no, on/off or 1/0; lists, tuples and dicts as JSON. ``X | None``
is absent when the key is. A key that is missing takes the field's default. Keys without a field are ignored.

What changes in one transaction is seen at once, never by halves. A change that does not fit the types is not
taken over: the last good value stays, and ``error`` says what is wrong.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Generic, Self, TypeVar

from petcd.client.recipes._session import Name, as_bytes
from petcd.client.recipes._typed import ConfigurationError, Shape
from petcd.client.recipes._view import View

if TYPE_CHECKING:
    from petcd.client import Keyspace

T = TypeVar("T")


class Configuration(Generic[T]):
    """The dataclass ``kind`` as the store has it; iterating yields it now and after each change."""

    def __init__(self, client: Keyspace, prefix: Name, kind: type[T]) -> None:
        """Raises: TypeError for a field that no key can fill."""
        self._prefix = as_bytes(prefix)
        self._shape = Shape(kind)
        self._view = View(client, self._prefix)
        self._loaded = 0
        self._value: T | None = None
        self._error: ConfigurationError | None = None

    async def __aenter__(self) -> Self:
        """Raises: ConfigurationError when what is there now does not fit."""
        await self._view.__aenter__()
        self._load()
        if self._error is not None:
            await self._view.__aexit__()
            raise self._error
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._view.__aexit__()

    @property
    def value(self) -> T:
        """The newest configuration that fits. It stays as it is when the next one comes.

        Raises: what keeps the store from being followed; RuntimeError outside the block.
        """
        self._view.check()
        self._load()
        assert self._value is not None  # who enters has one
        return self._value

    @property
    def error(self) -> ConfigurationError | None:
        """Why the newest change was not taken over; None when it was."""
        self._load()
        return self._error

    def _load(self) -> None:
        if self._loaded == self._view.changes:
            return
        self._loaded = self._view.changes
        try:
            pairs = {key: kv.value for key, kv in self._view.pairs.items()}
            value = self._shape.fill(self._prefix, pairs)
        except ConfigurationError as error:
            self._error = error
            return
        self._error = None
        # An equal one stays the same object, so that nobody is told of a change that is none.
        if value != self._value:
            self._value = value

    def __aiter__(self) -> AsyncIterator[T]:
        return self._values()

    async def _values(self) -> AsyncIterator[T]:
        told: T | None = None
        while True:
            changes = self._view.changes
            value = self.value
            if value is not told:
                told = value
                yield value
            await self._view.wait_changes(changes)
