"""A connection that threads share without a thread of its own.

Whoever makes a call writes it himself. One of the threads that wait reads the socket, for all (the leader);
the others (followers) sleep, each on a lock of its own, until the leader has their answer. A leader whose own
answer has come wakes a follower to lead. So a lone thread's call costs one write and one read and no switch
of threads, and many threads' calls share writes and reads.

The lock guards the HTTP/2 machine and all that is said about calls; nothing that may wait happens under it.
While nobody calls, nobody reads: what the server said meanwhile (that it goes away, say) is taken in before
the next call is written.
"""

from __future__ import annotations

import ssl
from _thread import allocate_lock
from time import monotonic
from typing import Any, Final

from petcd.client.sync.calls import Call
from petcd.client.sync.channel import Channel, open_channel
from petcd.client.sync.role import Role
from petcd.errors import Code
from petcd.net.grpc.client import Metadata, TransportFailure
from petcd.net.http2 import frames

_FOREVER_SECONDS: Final = 1e6
_IDLE_SECONDS: Final = 0.002
"""A connection that was silent so long may have ended: look before writing."""
_LOOK_AGAIN_SECONDS: Final = 0.02
"""While bytes wait for room in the socket."""


def expired(*, sent: bool) -> TransportFailure:
    return TransportFailure(Code.DEADLINE_EXCEEDED, "context deadline exceeded", sent=sent)


class Connection:
    """One connection to one server, for unary calls of any number of threads. Make it with ``connect``."""

    def __init__(
        self, channel: Channel, role: Role, *, keepalive: float = 0.0, keepalive_timeout: float = 20.0
    ) -> None:
        self._channel = channel
        self._role = role
        self._keepalive = keepalive
        self._keepalive_timeout = keepalive_timeout
        self._heard_at = monotonic()
        self._pinged_at = 0.0
        self._lock = allocate_lock()
        self._leader: Call | None = None
        """The call whose thread reads the socket, or has been woken to."""
        self._writer: Call | None = None
        """The call whose thread writes what the machine has to say; it looks again before it stops."""
        self._rest: Any = b""
        """What the socket has not taken yet. The writer's."""
        self._lost = False
        self._unanswered = False
        """A call ended without a word of the server, and none has come since."""
        self._changing = False
        """The machine is in the middle of a change; whoever finds it so outside the lock was interrupted."""

    @property
    def usable(self) -> bool:
        """New calls can be made."""
        return not self._role.draining

    @property
    def active_count(self) -> int:
        """Calls under way or waiting to start."""
        return len(self._role.streams) + len(self._role.queued)

    def establish(self, deadline: float) -> None:
        """Wait for the server's SETTINGS. Raises TransportFailure when it is not there, or not HTTP/2."""
        opening = Call(self._role)  # no stream: its thread leads until the settings are there
        with self._lock:
            self._leader = self._writer = opening
        try:
            self._role.start()
            self._write(opening, deadline)
            while not self._role.settings_seen and not self._lost:
                self._turn(opening, deadline)
        except TransportFailure:
            self.close("no answer")
            text = 'connection error: desc = "transport: timed out while connecting"'
            raise TransportFailure(Code.UNAVAILABLE, text, sent=False) from None
        except BaseException:
            self.close("interrupted")
            raise
        finally:
            with self._lock:
                self._pass_on()
        if self._lost:
            text = f"connection error: desc = {self._role.reason!r}"
            raise TransportFailure(Code.UNAVAILABLE, text, sent=False)

    def close(self, reason: str = "the connection was closed") -> None:
        """Cut the connection; calls under way fail."""
        with self._lock:
            self._lose(reason)

    def abandon(self) -> None:
        """In a forked child: give up the descriptor. The connection is the parent's, who hears nothing."""
        self._role.draining = True
        self._channel.close()

    # --- calls ------------------------------------------------------------------------------------------

    def unary(
        self,
        path: bytes,
        message: bytes,
        *,
        metadata: Metadata = (),
        timeout: float | None = None,
        deadline: float | None = None,
    ) -> bytes:
        """One call, one answer. ``timeout`` is told to the server, ``deadline`` (monotonic) is ours.

        Raises EtcdError: the server's, or TransportFailure.
        """
        role = self._role
        call = Call(role)
        try:
            with self._lock:
                leads = self._leader is None
                if leads:
                    now = monotonic()
                    if now > self._heard_at + _IDLE_SECONDS:
                        self._catch_up()
                        if not self._unanswered:
                            self._heard_at = now
                self._changing = True
                try:
                    role.begin(call, path, message, metadata, timeout)
                except TransportFailure:
                    self._changing = False
                    raise
                self._changing = False
                if leads:
                    self._leader = call
                else:
                    call.waiter = allocate_lock()
                    call.waiter.acquire()
                writes = self._writer is None
                if writes:
                    self._writer = call
            if writes:
                self._write(call, deadline)
            if not leads:
                self._follow(call, deadline)
            while not call.done:
                self._turn(call, deadline)
            if self._leader is call:
                with self._lock:
                    self._pass_on()
        except BaseException:
            self._give_up(call)
            raise
        if call.error is not None or call.message is None:
            raise call.failure()
        return call.message

    def _follow(self, call: Call, deadline: float | None) -> None:
        """Sleep until the call is done or its thread is to lead."""
        waiter = call.waiter
        assert waiter is not None
        left = _FOREVER_SECONDS if deadline is None else max(0.0, deadline - monotonic())
        if not waiter.acquire(timeout=left):
            raise expired(sent=call.sent)

    def _pass_on(self) -> None:
        """The leader goes. The youngest call leads next: it will wait longest, so the lead seldom moves."""
        streams = self._role.streams
        if streams:
            for call in (*reversed(streams.values()), *self._role.queued_calls()):
                if call.waiter is not None:
                    self._leader = call
                    call.wake()
                    return
        self._leader = None
        if self._lost:
            self._dispose()

    def _give_up(self, call: Call) -> None:
        """The thread leaves before its call is done: time is up, or it was interrupted."""
        with self._lock:
            if self._changing:
                self._changing = False
                self._lose("interrupted")
            if not call.done:
                call.waiter = None
                self._unanswered = True
                self._role.cancel(call)
                call.end(expired(sent=call.sent))
            if self._leader is call:
                self._pass_on()
            if self._writer is call:
                self._writer = None
            if self._lost:
                self._dispose()
            if self._lost or self._writer is not None or not self._role.out:
                return
            self._writer = call
        try:
            self._write(call, 0.0)
        except TransportFailure:
            return  # the socket is full; the next writer goes on

    # --- the socket -------------------------------------------------------------------------------------

    def _turn(self, call: Call, deadline: float | None) -> None:
        """As the leader: wait until something comes and take it in. Raises TransportFailure: time is up."""
        now = monotonic()
        until = now + _FOREVER_SECONDS if deadline is None else deadline
        if self._keepalive:
            silent = (
                self._pinged_at + self._keepalive_timeout
                if self._pinged_at
                else self._heard_at + self._keepalive
            )
            if silent < until:
                until = silent
        if self._rest:
            until = min(until, now + _LOOK_AGAIN_SECONDS)
        try:
            data = self._channel.receive(until - now)
        except OSError as error:
            data, failure = b"", f"error reading from server: {error}"
        else:
            failure = ""
        with self._lock:
            if data is None:
                self._silence(call, deadline)
            else:
                self._take_in(data, failure)
                if deadline is not None and not call.done and monotonic() >= deadline:
                    raise expired(sent=call.sent)
            if self._writer is not None or not (self._role.out or self._rest):
                return
            self._writer = call
        self._write(call, deadline)

    def _silence(self, call: Call, deadline: float | None) -> None:
        """Nothing came for a while. With the lock held."""
        now = monotonic()
        if deadline is not None and now >= deadline:
            raise expired(sent=call.sent)
        if not self._keepalive:
            return
        if self._pinged_at:
            if now >= self._pinged_at + self._keepalive_timeout:
                self._lose("keepalive ping failed to receive ACK within timeout")
        elif now >= self._heard_at + self._keepalive:
            self._pinged_at = now
            self._role.put(frames.ping(b"keepaliv"))

    def _catch_up(self) -> None:
        """Take in what came while nobody called. With the lock held."""
        try:
            data = self._channel.receive_now()
        except OSError as error:
            self._take_in(b"", f"error reading from server: {error}")
            return
        if data is not None:
            self._take_in(data, "")

    def _take_in(self, data: bytes, failure: str) -> None:
        """What the socket gave; nothing means that the connection has ended. With the lock held."""
        role = self._role
        if not data:
            self._lose(failure or role.reason or "error reading from server: EOF")
            return
        self._heard_at = monotonic()
        self._pinged_at = 0.0
        self._unanswered = False
        self._changing = True
        role.receive(data)
        self._changing = False
        if role.failed:
            self._lose(role.reason)

    def _write(self, call: Call, deadline: float | None) -> None:
        """As the writer: write until the machine has no more to say. Raises TransportFailure: time is up."""
        role, lock = self._role, self._lock
        while True:
            try:
                with lock:
                    if role.failed or not (role.out or self._rest):
                        self._writer = None
                        if self._lost:
                            self._dispose()
                        return
                    data = self._rest or role.take()
                count = self._channel.send(data)
            except OSError as error:
                with lock:
                    self._writer = None
                    self._lose(f"error writing to server: {error}")
                return
            except BaseException:
                # Interrupted, and nobody knows how much is out.
                with lock:
                    self._writer = None
                    self._lose("interrupted while writing")
                raise
            if count == len(data):
                self._rest = b""
                continue
            self._rest = memoryview(data)[count:]
            if deadline is not None and monotonic() >= deadline:
                with lock:
                    self._writer = None
                raise expired(sent=call.sent)
            # Where it falls to us to read too, do: the server may wait for that.
            if self._channel.wait_for_room(_LOOK_AGAIN_SECONDS, reading=self._leader is call):
                with lock:
                    self._catch_up()

    def _lose(self, reason: str) -> None:
        """The connection is of no use any more: every call fails. With the lock held."""
        if not self._lost:
            self._lost = True
            if self._writer is None and not self._rest:
                self._say_goodbye()
            self._channel.shut()
            self._role.break_off(reason)
        self._dispose()

    def _say_goodbye(self) -> None:
        if not self._role.failed:
            self._role.put(frames.goaway(0, frames.NO_ERROR))
        try:
            self._channel.send(self._role.take())
        except OSError:
            return  # it is gone already

    def _dispose(self) -> None:
        """Close what is lost once no thread uses the socket. With the lock held."""
        if self._leader is None and self._writer is None:
            self._channel.close()


def connect(
    host: str,
    port: int,
    *,
    timeout: float,
    tls: ssl.SSLContext | None = None,
    server_name: str = "",
    keepalive: float = 0.0,
    keepalive_timeout: float = 20.0,
) -> Connection:
    """Connect to a TCP address, or to the Unix socket ``host`` when ``port`` is -1, and hear its SETTINGS.

    Raises TransportFailure (``sent`` False) when nobody answers, or not in HTTP/2, or not within ``timeout``.
    """
    deadline = monotonic() + timeout
    try:
        channel = open_channel(host, port, timeout=timeout, tls=tls, server_name=server_name)
    except TimeoutError:
        text = 'connection error: desc = "transport: timed out while connecting"'
        raise TransportFailure(Code.UNAVAILABLE, text, sent=False) from None
    except (OSError, UnicodeError) as error:
        text = f'connection error: desc = "transport: Error while dialing: {error}"'
        raise TransportFailure(Code.UNAVAILABLE, text, sent=False) from error
    authority = "localhost" if port < 0 else f"{server_name or host}:{port}"
    role = Role(authority.encode(), secure=tls is not None)
    connection = Connection(channel, role, keepalive=keepalive, keepalive_timeout=keepalive_timeout)
    connection.establish(deadline)
    return connection
