"""How calls reach a cluster: one connection in use, the next endpoint tried when it fails, with back-off.

The retry rule stands here and nowhere else: a call is repeated when the server cannot have acted on it, or
when repeating it changes nothing. So a write is never sent again once bytes of it may have left.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from petcd.client.balance import Balance
from petcd.client.calls import Calls
from petcd.client.credentials import Credentials, Metadata
from petcd.client.dialing import Dialer
from petcd.client.endpoints import parse
from petcd.client.owner import Owner
from petcd.client.retry import Backoff, Fate, expired, fate, left
from petcd.errors import Code, EtcdError, NotSupportedForLearner
from petcd.net.grpc.client import ClientConnection, ClientStream, TransportFailure

REQUIRE_LEADER: Final = (b"hasleader", b"true")
REFUSALS_MAX: Final = 3
"""Logins that one call or stream may cause in a row."""
_DIAL_LEAST: Final = 0.01
"""Seconds in which no connection is made: not worth to begin."""
_EXAMINE_SECONDS: Final = 1.0
_LEAVE_SECONDS: Final = 0.5
_STATUS: Final = b"/etcdserverpb.Maintenance/Status"


class Opened(NamedTuple):
    """A stream, the connection it runs over, and who opened it."""

    connection: ClientConnection
    stream: ClientStream
    identity: Metadata


class Pool(Calls):
    """The connection in use, and how calls go over it."""

    def __init__(
        self, endpoints: Sequence[str], dialer: Dialer, credentials: Credentials, *, shuffle: bool = False
    ) -> None:
        self.balance = Balance([parse(text) for text in endpoints], shuffle=shuffle)
        self.owner = Owner()
        self.owner.on_change.append(self._start_anew)
        self._dialer = dialer
        self._credentials = credentials
        self._current: ClientConnection | None = None
        self._others: list[ClientConnection] = []
        """Beside the one in use: turned away with calls under way, or of one call alone."""
        self._connecting: asyncio.Lock | None = None
        self.obstacle: TransportFailure | None = None
        """Why there is no connection."""
        self._examination: asyncio.Task[None] | None = None
        self._closed = False

    async def close(self) -> None:
        self._closed = True
        if self._examination is not None:
            self._examination.cancel()
        connections = self._connections()
        self._current = None
        self._others.clear()
        for connection in connections:
            connection.close()
        await asyncio.gather(*[connection.wait_closed(_LEAVE_SECONDS) for connection in connections])

    def _connections(self) -> list[ClientConnection]:
        return [*self._others, *([self._current] if self._current is not None else [])]

    def _start_anew(self) -> None:
        """Another process or loop goes on with this client: what belonged to the former is not ours."""
        for connection in self._connections():
            connection.disown()
        self._current = None
        self._others.clear()
        self._connecting = self._examination = None
        self._credentials.forget_loop()

    # --- connections ----------------------------------------------------------------------------------

    async def connection(self, deadline: float | None = None) -> ClientConnection:
        """The connection in use, or a new one; goes round the endpoints until ``deadline``."""
        self.owner.claim()
        current = self._current
        if current is not None and current.usable:
            return current
        if self._connecting is None:
            self._connecting = asyncio.Lock()
        try:
            # Whoever connects now may have more time than we.
            async with asyncio.timeout_at(deadline):
                await self._connecting.acquire()
        except TimeoutError:
            raise expired(self.obstacle) from self.obstacle
        try:
            return await self._connect(deadline)
        finally:
            self._connecting.release()

    async def _connect(self, deadline: float | None) -> ClientConnection:
        backoff = Backoff()
        while True:
            if self._closed:
                raise _closed()
            if self._current is not None and self._current.usable:
                return self._current
            if self._current is not None:  # the server sends us away, and lets calls under way go on
                self._retire(self._current)
            try:
                fresh = await self._dialer.first_of(self.balance, left(deadline))
                if self._closed:
                    fresh.close()
                    continue
                self._current = fresh
                self.obstacle = None
            except TransportFailure as failure:
                if failure.code == Code.UNAVAILABLE:
                    self.obstacle = failure
                await backoff.pause(left(deadline))
                if deadline is not None and self._now() + _DIAL_LEAST >= deadline:
                    raise expired(self.obstacle) from self.obstacle

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()

    def turn_away(self, connection: ClientConnection) -> None:
        """This connection's server is of no use now: others come first."""
        if self._current is not connection or (len(self.balance) == 1 and connection.usable):
            return
        self.balance.failed(self._dialer.endpoint_of(connection), self._now())
        self._retire(connection)

    def _retire(self, connection: ClientConnection) -> None:
        self._current = None
        connection.retire()
        self._keep(connection)

    def _keep(self, connection: ClientConnection) -> None:
        self._others = [one for one in (*self._others, connection) if not one.closed]

    async def _dial(self, endpoint: str, most: float | None) -> ClientConnection:
        """A connection for one call or stream alone; its caller closes it."""
        connection = await self._dialer.dial(parse(endpoint), most)
        if self._closed:
            connection.close()
            raise _closed()
        self._keep(connection)
        return connection

    def suspect(self, connection: ClientConnection) -> None:
        """A call was not answered in time: find out, beside the calls, whether the server still serves."""
        if connection is self._current and len(self.balance) > 1 and self._examination is None:
            self._examination = asyncio.get_running_loop().create_task(
                self._examine(connection), name="etcd endpoint health"
            )

    async def _examine(self, connection: ClientConnection) -> None:
        # Status costs no quorum and needs no right; ``hasleader`` makes a cut-off member refuse it.
        try:
            await connection.unary(_STATUS, b"", metadata=(REQUIRE_LEADER,), timeout=_EXAMINE_SECONDS)
        except EtcdError as error:
            if error.code in (Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED):
                self.turn_away(connection)
        finally:
            self._examination = None

    # --- calls ----------------------------------------------------------------------------------------

    async def exchange(
        self,
        path: bytes,
        message: bytes,
        *,
        repeatable: bool,
        timeout: float | None,  # noqa: ASYNC109  the server is told it
        extra: Metadata = (),
        confirm: Callable[[bytes], bool] | None = None,
    ) -> bytes:
        loop = asyncio.get_running_loop()
        if loop is not self.owner.loop:
            self.owner.claim()
        deadline = None if timeout is None else loop.time() + timeout
        credentials = self._credentials
        # The server is told the whole of it at first: the same few bytes for every call.
        limit = timeout
        backoff: Backoff | None = None
        refusals = 0
        doubt: EtcdError | None = None
        while True:
            asked = False
            connection = self._current
            try:
                if connection is None or not connection.usable:
                    connection = None
                    connection = await self.connection(deadline)
                    limit = left(deadline)
                if credentials.wanted:
                    await credentials.log_in(connection, left(deadline))
                    limit = left(deadline)
                identity = credentials.metadata
                asked = True
                call = connection.start(
                    path, message, (*identity, *extra) if extra else identity, limit, deadline
                )
                try:
                    answer = await call.future
                except asyncio.CancelledError:
                    call.drop()
                    raise
                if doubt is not None and confirm is not None and not confirm(answer):
                    raise doubt
                return answer
            except EtcdError as error:
                if error is doubt or connection is None:
                    raise (doubt or error) from None
                if asked and credentials.refused(error) and refusals < REFUSALS_MAX:
                    refusals += 1
                    credentials.expire(identity)
                    limit = left(deadline)
                    continue
                known = fate(error, asked=asked, loner=len(self.balance) == 1)
                if known is Fate.FINAL or (known is Fate.UNKNOWN and not repeatable and confirm is None):
                    if error.code == Code.DEADLINE_EXCEEDED:
                        self.suspect(connection)
                    if doubt is not None:
                        raise doubt from error
                    raise
                if known is Fate.UNKNOWN and not repeatable and doubt is None:
                    doubt = error
                self.turn_away(connection)
                if deadline is not None and loop.time() >= deadline:
                    raise doubt or expired(error) from error
            backoff = backoff or Backoff()
            await backoff.pause(left(deadline))
            limit = left(deadline)

    async def exchange_at(
        self,
        endpoint: str,
        path: bytes,
        message: bytes,
        *,
        timeout: float | None,  # noqa: ASYNC109  as above
    ) -> bytes:
        self.owner.claim()
        deadline = None if timeout is None else asyncio.get_running_loop().time() + timeout
        connection = await self._dial(endpoint, timeout)
        refusals = 0
        try:
            while True:
                if self._credentials.wanted:
                    await self._credentials.log_in(connection, left(deadline))
                identity = self._credentials.metadata
                try:
                    return await connection.unary(path, message, metadata=identity, timeout=left(deadline))
                except EtcdError as error:
                    if not self._credentials.refused(error) or refusals == REFUSALS_MAX:
                        raise
                    refusals += 1
                    self._credentials.expire(identity)
        finally:
            connection.close()

    # --- streams --------------------------------------------------------------------------------------

    async def open(
        self,
        path: bytes,
        extra: Metadata = (),
        *,
        endpoint: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109  until it is open; a stream has no end of its own
    ) -> Opened:
        """Open a stream: over the connection in use, or over one of its own to ``endpoint``, which the
        caller closes. Raises EtcdError."""
        self.owner.claim()
        deadline = None if timeout is None else self._now() + timeout
        if endpoint is None:
            connection = await self.connection(deadline)
        else:
            connection = await self._dial(endpoint, timeout)
        try:
            if self._credentials.wanted:
                await self._credentials.log_in(connection, left(deadline))
        except BaseException:
            if endpoint is not None:
                connection.close()
            raise
        identity = self._credentials.metadata
        return Opened(connection, connection.stream(path, metadata=(*identity, *extra)), identity)

    def refused(self, error: EtcdError) -> bool:
        """Whether a server refused who we are, and a new login may help."""
        return self._credentials.refused(error)

    @property
    def has_user(self) -> bool:
        return bool(self._credentials.user)

    def log_in_again(self, opened: Opened) -> None:
        """Who we were on this stream is refused: the next call or stream logs in first."""
        self._credentials.expire(opened.identity)

    def recover(self, error: EtcdError, opened: Opened | None) -> bool:
        """A stream ended so: whether opening it again may help. Does what has to be done before."""
        if self._credentials.refused(error):
            if opened is not None:
                self.log_in_again(opened)
            return True
        if isinstance(error, TransportFailure):
            again = not self._closed
        elif isinstance(error, NotSupportedForLearner):
            again = len(self.balance) > 1
        else:
            again = error.code in (Code.UNAVAILABLE, Code.INTERNAL)
        if again and opened is not None:
            self.turn_away(opened.connection)
        return again


def _closed() -> TransportFailure:
    return TransportFailure(Code.CANCELLED, "the client is closed", sent=False)


__all__ = ["REFUSALS_MAX", "REQUIRE_LEADER", "Backoff", "Opened", "Pool"]
