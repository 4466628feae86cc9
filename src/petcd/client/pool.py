"""Connections to several endpoints: one in use, the next tried when it fails, with back-off.

The retry rule stands here and nowhere else: a call is repeated when the server cannot have seen it, or when
repeating it changes nothing. So a write is never sent again once bytes of it may have left.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, TypeVar

from petcd.client.endpoints import Endpoint, parse
from petcd.errors import AuthOldRevision, Code, EtcdError, InvalidAuthToken, NotSupportedForLearner
from petcd.net.grpc.client import ClientConnection, ClientStream, TransportFailure
from petcd.seams.net import Address

if TYPE_CHECKING:
    import ssl

    from petcd.pb.message import Message

M = TypeVar("M", bound="Message")

API_VERSION: Final = (b"client-api-version", b"3.7")
REQUIRE_LEADER: Final = (b"hasleader", b"true")
_PAUSE_FIRST: Final = 0.025
_PAUSE_MAX: Final = 1.0


class Backoff:
    """Pauses that double up to a bound, each between half and all of its length."""

    __slots__ = ("_next",)

    def __init__(self) -> None:
        self._next = _PAUSE_FIRST

    async def pause(self, most: float | None = None) -> None:
        seconds = self._next * (0.5 + random.random() / 2)
        self._next = min(self._next * 2, _PAUSE_MAX)
        await asyncio.sleep(seconds if most is None else max(0.0, min(seconds, most)))


class Pool:
    """The connection in use, and how calls go over it."""

    def __init__(
        self,
        endpoints: Sequence[str],
        *,
        tls: ssl.SSLContext | None,
        user: str,
        password: str,
        dial_timeout: float,
        keepalive: float,
        keepalive_timeout: float,
    ) -> None:
        if not endpoints:
            raise ValueError("no endpoints")
        self.endpoints: list[Endpoint] = [parse(text) for text in endpoints]
        self._tls = tls
        self._user = user
        self._password = password
        self._token = ""
        self._dial_timeout = dial_timeout
        self._keepalive = keepalive
        self._keepalive_timeout = keepalive_timeout
        self._at = 0
        self._current: ClientConnection | None = None
        self._retired: list[ClientConnection] = []
        self._connecting: asyncio.Lock | None = None
        self._login: asyncio.Lock | None = None
        self._closed = False
        self.metadata: tuple[tuple[bytes, bytes], ...] = (API_VERSION,)

    async def close(self) -> None:
        self._closed = True
        for connection in self._retired:
            connection.close()
        if self._current is not None:
            self._current.close()
            self._current = None

    # --- connections ----------------------------------------------------------------------------------

    async def dial(self, endpoint: Endpoint, most: float | None = None) -> ClientConnection:
        """A new connection of its own to one endpoint. Raises TransportFailure."""
        timeout = self._dial_timeout if most is None else min(most, self._dial_timeout)
        if timeout <= 0:
            raise _expired(sent=False)
        secure = endpoint.wants_tls if endpoint.wants_tls is not None else self._tls is not None
        tls = self._tls
        if secure and tls is None:
            import ssl

            tls = self._tls = ssl.create_default_context()
            tls.set_alpn_protocols(["h2"])
        return await ClientConnection.connect(
            Address(endpoint.host, endpoint.port),
            tls=tls if secure else None,
            timeout=timeout,
            keepalive_seconds=self._keepalive,
            keepalive_timeout_seconds=self._keepalive_timeout,
        )

    async def connection(self, deadline: float | None = None) -> ClientConnection:
        """The connection in use, or a new one; goes round the endpoints until ``deadline``."""
        current = self._current
        if current is not None and current.usable:
            return current
        if self._connecting is None:
            self._connecting = asyncio.Lock()
        loop = asyncio.get_running_loop()
        async with self._connecting:
            backoff = Backoff()
            tried = 0
            while True:
                if self._closed:
                    raise TransportFailure(Code.CANCELLED, "the client is closed", sent=False)
                if self._current is not None and self._current.usable:
                    return self._current
                left = None if deadline is None else deadline - loop.time()
                self._sweep()
                try:
                    endpoint = self.endpoints[self._at % len(self.endpoints)]
                    self._current = await self.dial(endpoint, left)
                    return self._current
                except TransportFailure:
                    if deadline is not None and loop.time() >= deadline:
                        raise _expired(sent=False) from None
                self._at += 1
                tried += 1
                if tried % len(self.endpoints) == 0:
                    await backoff.pause(None if deadline is None else deadline - loop.time())

    def turn_away(self, connection: ClientConnection) -> None:
        """This connection's server is of no use now: others come first."""
        if self._current is not connection or (len(self.endpoints) == 1 and connection.usable):
            return
        self._current = None
        self._at += 1
        self._retired.append(connection)
        self._sweep()

    def _sweep(self) -> None:
        """Close what was turned away and has no calls any more."""
        for connection in self._retired:
            if connection.active_count == 0:
                connection.close()
        self._retired = [connection for connection in self._retired if connection.active_count]

    # --- who we are -----------------------------------------------------------------------------------

    async def _authorize(self, connection: ClientConnection, stale: str, deadline: float | None) -> None:
        """A new token, unless somebody else got one since ``stale``."""
        from petcd.pb.etcdserverpb import auth as pb

        if self._login is None:
            self._login = asyncio.Lock()
        async with self._login:
            if self._token != stale:
                return
            request = pb.AuthenticateRequest(name=self._user, password=self._password)
            answer = await connection.unary(
                b"/etcdserverpb.Auth/Authenticate",
                request.encode(),
                metadata=(API_VERSION,),
                timeout=_left(deadline),
            )
            self._token = pb.AuthenticateResponse.decode(answer).token
            token = self._token.encode()
            self.metadata = (API_VERSION, (b"token", token), (b"authorization", token))

    async def prepare(self, connection: ClientConnection, deadline: float | None = None) -> None:
        """Log in, where a user was given and there is no token yet."""
        if self._user and not self._token:
            await self._authorize(connection, "", deadline)

    def forget_token(self) -> None:
        """The next call logs in again."""
        self._token = ""

    # --- calls ----------------------------------------------------------------------------------------

    async def call(
        self,
        path: bytes,
        request: Message,
        response: type[M],
        *,
        repeatable: bool,
        timeout: float | None,  # noqa: ASYNC109  of all attempts together, told to the server
    ) -> M:
        """One unary call. ``repeatable``: it changes nothing, so it may be sent again. Raises EtcdError."""
        loop = asyncio.get_running_loop()
        deadline = None if timeout is None else loop.time() + timeout
        message = request.encode()
        backoff = Backoff()
        refreshed = False
        while True:
            connection = await self.connection(deadline)
            token = self._token
            try:
                await self.prepare(connection, deadline)
                token = self._token
                answer = await connection.unary(
                    path, message, metadata=self.metadata, timeout=_left(deadline)
                )
                return response.decode(answer)
            except (InvalidAuthToken, AuthOldRevision):
                # Refused before anything was done; with a new token it may pass.
                if not self._user or refreshed:
                    raise
                refreshed = True
                await self._authorize(connection, token, deadline)
                continue
            except TransportFailure as failure:
                again = repeatable or not failure.sent
                if failure.code != Code.UNAVAILABLE or not again:
                    raise
                self.turn_away(connection)
            except NotSupportedForLearner:
                if len(self.endpoints) == 1:
                    raise
                self.turn_away(connection)
            except EtcdError as error:
                if error.code != Code.UNAVAILABLE or not repeatable:
                    raise
                self.turn_away(connection)
            if deadline is not None and loop.time() >= deadline:
                raise _expired(sent=False)
            await backoff.pause(_left(deadline))

    async def call_at(
        self,
        endpoint: str | None,
        path: bytes,
        request: Message,
        response: type[M],
        *,
        repeatable: bool,
        timeout: float | None,  # noqa: ASYNC109  as above
    ) -> M:
        """``call`` at one endpoint, over a connection for this call alone; None: wherever the client is."""
        if endpoint is None:
            return await self.call(path, request, response, repeatable=repeatable, timeout=timeout)
        connection = await self.dial(parse(endpoint), timeout)
        try:
            await self.prepare(connection)
            answer = await connection.unary(path, request.encode(), metadata=self.metadata, timeout=timeout)
            return response.decode(answer)
        finally:
            connection.close()

    async def stream(self, path: bytes, *extra: tuple[bytes, bytes]) -> tuple[ClientConnection, ClientStream]:
        """Open a stream over the connection in use. Raises EtcdError."""
        connection = await self.connection()
        await self.prepare(connection)
        return connection, connection.stream(path, metadata=(*self.metadata, *extra))


def _left(deadline: float | None) -> float | None:
    return None if deadline is None else deadline - asyncio.get_running_loop().time()


def _expired(*, sent: bool) -> TransportFailure:
    return TransportFailure(Code.DEADLINE_EXCEEDED, "context deadline exceeded", sent=sent)


def resumable(error: EtcdError) -> bool:
    """Whether a stream that ended so is worth opening again: the server went away or changed its mind."""
    if isinstance(error, TransportFailure):
        return error.text != "the client is closed"
    return error.code in (Code.UNAVAILABLE, Code.INTERNAL) or isinstance(
        error, InvalidAuthToken | AuthOldRevision
    )
