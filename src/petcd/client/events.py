"""What a watch tells: changes of keys, and, to those who ask, how it fares."""

from __future__ import annotations

from dataclasses import dataclass

from petcd.client.results import KeyValue
from petcd.errors import EtcdError


@dataclass(frozen=True, slots=True)
class Event:
    """One change of one key."""

    kv: KeyValue
    """The pair after a put; of a deletion only the key and the revision."""
    deleted: bool
    previous: KeyValue | None = None

    @property
    def key(self) -> bytes:
        return self.kv.key

    @property
    def value(self) -> bytes:
        return self.kv.value

    @property
    def revision(self) -> int:
        return self.kv.mod_revision

    @property
    def created(self) -> bool:
        """The key did not exist before."""
        return not self.deleted and self.kv.version == 1


@dataclass(frozen=True, slots=True)
class Progress:
    """Every event up to this revision has been given."""

    revision: int


@dataclass(frozen=True, slots=True)
class Disconnected:
    """The stream broke. The watch goes on by itself, from ``revision``, when a server can be reached."""

    revision: int
    error: EtcdError | None
    """What broke it; None when the server ended it without a word."""


@dataclass(frozen=True, slots=True)
class Resumed:
    """A server has the watch again, from this revision on: nothing was lost and nothing will be repeated."""

    revision: int


Notice = Event | Progress | Disconnected | Resumed
