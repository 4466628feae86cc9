"""Single requests to other members: connections are kept for a few seconds and used again.

A kept connection may have been closed by the other side just when it is used. Where nothing of an answer has
come, the request is sent once more on a new one; only callers that may say a thing twice ask for kept
connections. Source: contract page "peer", 2.2 (the listener's deadlines).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from petcd.net.http1_client import Dialling, HeaderFields, HttpClientConnection, ResponseHandler, dial
from petcd.peer.local import Local
from petcd.server.peering import PeerAnswer
from petcd.server.url import Url

_IDLE_SECONDS_MAX: Final = 3.0
"""Less than the 5 s after which a listener closes an idle connection."""
_IDLE_PER_URL_MAX: Final = 4


class Call(ResponseHandler):
    """One request under way."""

    __slots__ = (
        "_body",
        "_chunks",
        "_connection",
        "_deadline",
        "_dialling",
        "_done",
        "_head",
        "_headers",
        "_method",
        "_pool",
        "_reuse",
        "_status",
        "_target",
        "_url",
    )

    def __init__(
        self,
        pool: HttpPool,
        url: Url,
        method: str,
        target: str,
        headers: HeaderFields,
        body: bytes,
        done: Callable[[PeerAnswer], object],
        seconds_max: float,
        reuse: bool,
    ) -> None:
        self._pool = pool
        self._url = url
        self._method = method
        self._target = target
        self._headers = headers
        self._body = body
        self._done: Callable[[PeerAnswer], object] | None = done
        self._deadline = pool.local.world.clock.monotonic() + seconds_max
        self._reuse = reuse
        self._dialling: Dialling | None = None
        self._connection: HttpClientConnection | None = None
        self._status = 0
        self._head: dict[str, str] = {}
        self._chunks: list[bytes] = []

    def start(self) -> None:
        kept = self._pool.take(self._url) if self._reuse else None
        if kept is not None:
            self._send(kept)
        else:
            self._dial()

    def cancel(self) -> None:
        """``done`` will not be called."""
        self._done = None
        if self._dialling is not None:
            self._dialling.cancel()
        if self._connection is not None:
            self._connection.close()

    def _left(self) -> float:
        return max(self._deadline - self._pool.local.world.clock.monotonic(), 0.001)

    def _dial(self) -> None:
        local = self._pool.local
        self._dialling = dial(
            local.world,
            self._url.address(),
            self._send,
            self.on_failure,
            seconds_max=min(local.dial_seconds, self._left()),
            tls=local.tls_for(self._url),
        )

    def _send(self, connection: HttpClientConnection) -> None:
        self._dialling = None
        self._connection = connection
        headers = self._headers if self._reuse else [*self._headers, ("Connection", "close")]
        connection.request(
            self._method, self._target, headers, self, body=self._body, seconds_max=self._left()
        )

    def on_head(self, status: int, headers: dict[str, str]) -> None:
        self._status = status
        self._head = headers

    def on_body(self, data: bytes) -> None:
        self._chunks.append(data)

    def on_end(self) -> None:
        connection, self._connection = self._connection, None
        assert connection is not None
        if connection.idle and self._reuse:
            self._pool.keep(self._url, connection)
        elif not connection.closed:
            connection.close()
        self._finish(PeerAnswer(self._status, self._head, b"".join(self._chunks)))

    def on_failure(self, reason: str) -> None:
        self._dialling = None
        connection, self._connection = self._connection, None
        kept = connection is not None and connection.exchanges > 1 and not connection.answered
        if kept and reason != "timeout":
            self._dial()  # it had been closed meanwhile
            return
        self._finish(PeerAnswer(0, {}, reason.encode()))

    def _finish(self, answer: PeerAnswer) -> None:
        self._pool.ended(self)
        done, self._done = self._done, None
        if done is not None:
            done(answer)


class HttpPool:
    """The requests under way and the connections kept."""

    __slots__ = ("_calls", "_idle", "local")

    def __init__(self, local: Local) -> None:
        self.local = local
        self._calls: dict[Call, None] = {}
        self._idle: dict[Url, list[tuple[HttpClientConnection, float]]] = {}

    def request(
        self,
        url: Url,
        method: str,
        target: str,
        headers: HeaderFields,
        done: Callable[[PeerAnswer], object],
        *,
        body: bytes = b"",
        seconds_max: float,
        reuse: bool,
    ) -> Call:
        """One request; ``done`` exactly once, unless it is cancelled or the pool is closed."""
        call = Call(self, url, method, target, headers, body, done, seconds_max, reuse)
        self._calls[call] = None
        call.start()
        return call

    def take(self, url: Url) -> HttpClientConnection | None:
        kept = self._idle.get(url)
        while kept:
            connection, _ = kept.pop()
            if connection.idle:
                connection.on_idle_close = None
                return connection
        return None

    def keep(self, url: Url, connection: HttpClientConnection) -> None:
        kept = self._idle.setdefault(url, [])
        if len(kept) >= _IDLE_PER_URL_MAX or self.local.closed:
            connection.close()
            return
        kept.append((connection, self.local.world.clock.monotonic()))

    def ended(self, call: Call) -> None:
        self._calls.pop(call, None)

    def tick(self) -> None:
        """Close what has not been used lately."""
        oldest = self.local.world.clock.monotonic() - _IDLE_SECONDS_MAX
        for url in list(self._idle):
            kept = []
            for connection, since in self._idle[url]:
                if connection.idle and since >= oldest:
                    kept.append((connection, since))
                else:
                    connection.close()
            if kept:
                self._idle[url] = kept
            else:
                del self._idle[url]

    def close(self) -> None:
        for call in list(self._calls):
            call.cancel()
        self._calls.clear()
        for kept in self._idle.values():
            for connection, _ in kept:
                connection.close()
        self._idle.clear()
