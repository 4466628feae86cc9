"""What lock, elect and make-mirror share: events of a range in order, and a lease kept alive by a thread."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Generator
from types import FrameType
from typing import TYPE_CHECKING, Final

from petcd.cli.etcdctl import methods
from petcd.cli.etcdctl.commands import ERROR, Exit
from petcd.cli.etcdctl.endpoint import session_to
from petcd.cli.etcdctl.session import CallFailed, Session
from petcd.pb.etcdserverpb import lease as leases
from petcd.pb.etcdserverpb import watch as pb

if TYPE_CHECKING:
    from petcd.cli.etcdctl.context import Context

_RETRY_SECONDS: Final = 0.2


class Interrupted(Exception):
    """SIGINT or SIGTERM."""


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise Interrupted


def catch_signals() -> None:
    """From now on SIGINT and SIGTERM raise Interrupted in the main thread."""
    signal.signal(signal.SIGINT, _interrupt)
    signal.signal(signal.SIGTERM, _interrupt)


def ignore_signals() -> None:
    """While cleaning up, a second signal changes nothing."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def follow(
    session: Session, key: bytes, end: bytes, revision: int, *, lost: threading.Event | None = None
) -> Generator[pb.WatchResponse, None, None]:
    """Responses with events of ``[key, end)`` from ``revision`` on, over broken streams too.

    Ends when ``lost`` is set. Raises CallFailed when the server refuses, Exit when it cancels the watch.
    """
    while True:
        create = pb.WatchCreateRequest(key=key, range_end=end, start_revision=revision)
        try:
            stream = session.stream(methods.WATCH, metadata=[(b"hasleader", b"true")])
            stream.send(pb.WatchRequest(create_request=create).encode())
            while True:
                try:
                    message = stream.receive(None if lost is None else _RETRY_SECONDS)
                except TimeoutError:
                    if lost is not None and lost.is_set():
                        stream.cancel()
                        return
                    continue
                if message is None:
                    break
                response = pb.WatchResponse.decode(message)
                if response.canceled:
                    raise Exit(ERROR, response.cancel_reason or "etcdserver: watch canceled")
                if response.events:
                    last = response.events[-1].kv
                    revision = (last.mod_revision if last is not None else revision) + 1
                    try:
                        yield response
                    except GeneratorExit:
                        stream.cancel()
                        raise
        except CallFailed as failure:
            if not failure.temporary:
                raise
        time.sleep(_RETRY_SECONDS)


class LeaseSession:
    """A lease of ``ttl`` seconds, renewed by a thread of its own until ``close`` or until it is ``lost``."""

    def __init__(self, context: Context, ttl: int) -> None:
        self._ttl = ttl
        response = context.session.call(
            methods.LEASE_GRANT, leases.LeaseGrantRequest(TTL=ttl), leases.LeaseGrantResponse
        )
        self.id = response.ID
        self.lost = threading.Event()
        self._closed = threading.Event()
        self._session = session_to(context, context.endpoints()[0])
        self._session.endpoints = context.endpoints()
        self._session.metadata = context.session.metadata
        self._thread = threading.Thread(target=self._renew, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop renewing; the lease is left to expire."""
        self._closed.set()

    def _renew(self) -> None:
        expires = time.monotonic() + self._ttl
        pause = self._ttl / 3
        request = leases.LeaseKeepAliveRequest(ID=self.id).encode()
        while not self._closed.wait(pause):
            asked = time.monotonic()
            if asked >= expires:
                self.lost.set()
                return
            self._session.deadline = expires
            try:
                stream = self._session.stream(methods.LEASE_KEEP_ALIVE, deadline=expires)
                stream.send(request)
                message = stream.receive()
                stream.cancel()
            except CallFailed as failure:
                if not failure.temporary and time.monotonic() < expires:
                    self.lost.set()
                    return
                pause = _RETRY_SECONDS
                continue
            ttl = leases.LeaseKeepAliveResponse.decode(message).TTL if message is not None else 0
            if ttl <= 0:
                self.lost.set()
                return
            expires = asked + ttl
            pause = ttl / 3
