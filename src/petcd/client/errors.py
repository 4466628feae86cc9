"""The client's own errors; what the server answers is a class of ``petcd.errors``."""

from __future__ import annotations

from typing import Any

from petcd.errors import Code, Compacted, EtcdError, StatusError


class CompactedWatch(Compacted):
    """The revision a watch wanted is gone. ``revision``: the oldest that can still be watched."""

    def __init__(self, revision: int) -> None:
        self.revision = revision
        super().__init__()

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.revision,)


class WatchCanceled(StatusError):
    """The server ended a watch, for a reason that is no error of etcd's table."""

    def __init__(self, reason: str) -> None:
        super().__init__(Code.CANCELLED, reason)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.text,)


class StoreRewound(StatusError):
    """The store is at an earlier ``revision`` than the one that a watch has ``seen``: it was restored from a
    backup or begun anew. What the reader knows has to be read again."""

    def __init__(self, revision: int, seen: int) -> None:
        self.revision = revision
        self.seen = seen
        text = f"the store is at revision {revision}, before revision {seen} that the watch has seen"
        super().__init__(Code.OUT_OF_RANGE, text)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.revision, self.seen)


class LeaseLost(Exception):
    """A lease expired, was revoked or could not be kept alive: its keys are, or soon will be, gone."""

    def __init__(self, lease: int) -> None:
        super().__init__(f"lease {lease:016x} is lost")
        self.lease = lease


__all__ = ["CompactedWatch", "WatchCanceled", "StoreRewound", "LeaseLost", "EtcdError"]
