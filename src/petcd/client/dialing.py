"""Making connections: one to a given endpoint, or one to whichever endpoint answers first."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Final
from weakref import WeakKeyDictionary

from petcd.client.balance import Balance
from petcd.client.endpoints import Endpoint
from petcd.client.tls import Tls
from petcd.errors import Code
from petcd.net.grpc.client import ClientConnection, TransportFailure
from petcd.seams.net import Address

if TYPE_CHECKING:
    import ssl

_HEAD_START: Final = 0.3
"""Seconds an endpoint has for itself before the next is tried beside it."""


class Dialer:
    """Connects, as the client was told to."""

    def __init__(
        self,
        *,
        tls: ssl.SSLContext | Tls | None,
        timeout: float,
        keepalive: float,
        keepalive_timeout: float,
    ) -> None:
        self._tls = tls
        self._timeout = timeout
        self._keepalive = keepalive
        self._keepalive_timeout = keepalive_timeout
        self._endpoints: WeakKeyDictionary[ClientConnection, Endpoint] = WeakKeyDictionary()

    def endpoint_of(self, connection: ClientConnection) -> Endpoint:
        return self._endpoints[connection]

    async def dial(self, endpoint: Endpoint, most: float | None = None) -> ClientConnection:
        """A new connection. ``most``: seconds, when less than the usual. Raises TransportFailure."""
        timeout = self._timeout if most is None else min(most, self._timeout)
        if timeout <= 0:
            raise TransportFailure(Code.DEADLINE_EXCEEDED, "context deadline exceeded", sent=False)
        secure = endpoint.wants_tls if endpoint.wants_tls is not None else self._tls is not None
        context, name = secured(self._tls) if secure else (None, "")
        try:
            connection = await ClientConnection.connect(
                Address(endpoint.host, endpoint.port),
                tls=context,
                server_hostname=name or None,
                timeout=timeout,
                keepalive_seconds=self._keepalive,
                keepalive_timeout_seconds=self._keepalive_timeout,
            )
        except ValueError as error:  # UnicodeError, or what ssl says of a name, is one too
            raise no_connection(error) from error
        self._endpoints[connection] = endpoint
        return connection

    async def first_of(self, balance: Balance, most: float | None) -> ClientConnection:
        """Try each endpoint once, the best first; the next one when one fails, or is slow to answer.

        Raises the last TransportFailure when none answers.
        """
        loop = asyncio.get_running_loop()
        waiting = deque(health.endpoint for health in balance.order(loop.time()))
        if len(waiting) == 1:
            return await self.dial(waiting[0], most)
        trying: dict[asyncio.Task[ClientConnection], Endpoint] = {}
        failure: TransportFailure | None = None
        try:
            while waiting or trying:
                if waiting:
                    endpoint = waiting.popleft()
                    trying[loop.create_task(self.dial(endpoint, most))] = endpoint
                done, _ = await asyncio.wait(
                    trying, timeout=_HEAD_START if waiting else None, return_when=asyncio.FIRST_COMPLETED
                )
                for task in done:
                    endpoint = trying[task]
                    try:
                        connection = task.result()
                    except TransportFailure as error:
                        del trying[task]
                        failure = error
                        balance.failed(endpoint, loop.time())
                    else:
                        del trying[task]
                        return connection
        finally:
            for task in trying:
                task.add_done_callback(_discard)
                task.cancel()
        assert failure is not None
        raise failure


def _discard(task: asyncio.Task[ClientConnection]) -> None:
    """Who comes late is not wanted."""
    if not task.cancelled() and task.exception() is None:
        task.result().close()


def secured(tls: ssl.SSLContext | Tls | None) -> tuple[ssl.SSLContext, str]:
    """The context of a new connection, and the name its server must have when it is not the host. Raises
    TransportFailure."""
    tls = tls or Tls()
    if not isinstance(tls, Tls):
        return tls, ""
    from petcd.net.tls import TlsConfigError  # late: most clients use no TLS

    try:
        return tls.context(), tls.server_name
    except (TlsConfigError, ValueError, OSError) as error:
        # Files may be on their way to be replaced: whoever waits for a connection tries again.
        raise no_connection(error) from error


def no_connection(error: Exception) -> TransportFailure:
    """What a server that cannot be reached comes to."""
    text = f'connection error: desc = "transport: Error while dialing: {error}"'
    return TransportFailure(Code.UNAVAILABLE, text, sent=False)
