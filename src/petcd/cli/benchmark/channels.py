"""The connections of ``--conns``: each is a link to every endpoint, used in turn and made again when lost.

A call that was under way on a lost link fails and is counted; calls that find no link wait for one, so an
outage shows as slow requests and not as a hundred thousand errors. After ``PATIENCE_SECONDS`` without any
link the run is given up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any, Final

from petcd.cli.benchmark.failures import Failure
from petcd.cli.benchmark.paths import AUTHENTICATE
from petcd.client.endpoints import Endpoint
from petcd.errors import AuthNotEnabled, AuthOldRevision, Code, EtcdError, InvalidAuthToken
from petcd.net.grpc.client import ClientConnection, ClientStream, TransportFailure
from petcd.pb.etcdserverpb import auth as pb
from petcd.seams.net import Address

if TYPE_CHECKING:
    import ssl

Field = tuple[bytes, bytes]

PATIENCE_SECONDS: Final = 10.0
_DIAL_SECONDS: Final = 5.0
_PAUSE_FIRST: Final = 0.025
_PAUSE_MAX: Final = 1.0
_KEEPALIVE_SECONDS: Final = 10.0
_KEEPALIVE_TIMEOUT_SECONDS: Final = 6.0
_API_VERSION: Final = (b"client-api-version", b"3.7")


class Identity:
    """Who all channels of a run are: the metadata of their calls, with a token where ``--user`` was given."""

    def __init__(self, user: str = "", password: str = "") -> None:
        self._user = user
        self._password = password
        self._login: asyncio.Lock | None = None
        self.metadata: tuple[Field, ...] = (_API_VERSION,)

    @property
    def wanted(self) -> bool:
        return bool(self._user)

    async def log_in(self, connection: ClientConnection) -> None:
        """A token, where a user was given and there is none yet. Raises EtcdError."""
        if self._user and len(self.metadata) == 1:
            await self.renew(connection, self.metadata)

    async def renew(self, connection: ClientConnection, stale: tuple[Field, ...]) -> None:
        """A token in place of that in ``stale``, unless somebody else got one since. Raises EtcdError."""
        if self._login is None:
            self._login = asyncio.Lock()
        async with self._login:
            if self.metadata is not stale:
                return
            request = pb.AuthenticateRequest(name=self._user, password=self._password)
            try:
                answer = await connection.unary(AUTHENTICATE, request.encode(), metadata=(_API_VERSION,))
            except AuthNotEnabled:
                self._user = ""
                return
            token = pb.AuthenticateResponse.decode(answer).token.encode()
            self.metadata = (_API_VERSION, (b"token", token), (b"authorization", token))


class Dialer:
    """How links are made: under which TLS, and within which time."""

    def __init__(self, tls: ssl.SSLContext | None, seconds: float) -> None:
        self._tls = tls
        self._seconds = seconds or _DIAL_SECONDS

    async def dial(self, endpoint: Endpoint) -> ClientConnection:
        """Raises TransportFailure."""
        tls = self._tls
        if endpoint.wants_tls and tls is None:
            import ssl

            tls = self._tls = ssl.create_default_context()
            tls.set_alpn_protocols(["h2"])
        try:
            return await ClientConnection.connect(
                Address(endpoint.host, endpoint.port),
                tls=None if endpoint.wants_tls is False else tls,
                timeout=self._seconds,
                keepalive_seconds=_KEEPALIVE_SECONDS,
                keepalive_timeout_seconds=_KEEPALIVE_TIMEOUT_SECONDS,
            )
        except ValueError as error:  # a host that cannot be a name
            raise TransportFailure(Code.UNAVAILABLE, str(error), sent=False) from error


class _Link:
    """One connection to one endpoint, made again whenever it is lost."""

    def __init__(self, channel: Channel, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.connection: ClientConnection | None = None
        self._channel = channel
        self._task: asyncio.Task[None] | None = None
        self._retired = False

    async def open(self) -> None:
        """Raises TransportFailure; then ``reopen`` goes on trying."""
        connection = await self._channel.dialer.dial(self.endpoint)
        if not connection.usable:
            raise TransportFailure(Code.UNAVAILABLE, "the server closed the connection", sent=False)
        connection.on_closed = self.reopen
        self.connection = connection
        self._channel.up.set()

    def reopen(self) -> None:
        """Connect again, in the background."""
        if self._channel.closed or self._retired or (self._task is not None and not self._task.done()):
            return
        self._task = asyncio.get_running_loop().create_task(self._keep_trying(), name="benchmark link")

    async def _keep_trying(self) -> None:
        pause = _PAUSE_FIRST
        while not self._channel.closed:
            try:
                await self.open()
            except EtcdError as error:
                self._channel.trouble = error.text
                await asyncio.sleep(pause)
                pause = min(pause * 2, _PAUSE_MAX)
            else:
                return

    @property
    def busy(self) -> bool:
        """Calls are under way on it."""
        return self.connection is not None and self.connection.active_count > 0

    def retire(self) -> None:
        """Make it no more again."""
        self._retired = True
        if self._task is not None:
            self._task.cancel()

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self.connection is not None:
            self.connection.on_closed = None
            self.connection.close()


class Channel:
    """One of ``--conns``."""

    def __init__(self, endpoints: Sequence[Endpoint], dialer: Dialer, identity: Identity) -> None:
        self.dialer = dialer
        self.identity = identity
        self.up = asyncio.Event()
        """Set when a link is made; cleared by who waits for the next one."""
        self.closed = False
        self.trouble = ""
        """Why the last attempt to connect failed."""
        self._links = [_Link(self, endpoint) for endpoint in endpoints]
        self._retired: list[_Link] = []
        """No longer wanted, with calls that are still under way."""
        self._turn = 0

    async def open(self) -> dict[str, str]:
        """Connect to all endpoints; those that could not be reached, with the reason. Failure: none could."""
        outcomes = await asyncio.gather(*[link.open() for link in self._links], return_exceptions=True)
        refused: dict[str, str] = {}
        for link, outcome in zip(self._links, outcomes, strict=True):
            if isinstance(outcome, EtcdError):
                refused[link.endpoint.text] = outcome.text
                self.trouble = outcome.text
                link.reopen()
            elif outcome is not None:
                raise outcome
        if len(refused) == len(self._links):
            reasons = "; ".join(f"{endpoint}: {text}" for endpoint, text in refused.items())
            raise Failure(f"cannot connect to {reasons}")
        await self._log_in()
        return refused

    async def _log_in(self) -> None:
        connection = self.usable()
        if connection is not None:
            try:
                await self.identity.log_in(connection)
            except EtcdError as error:
                raise Failure(error.text) from None

    async def close(self) -> None:
        self.closed = True
        await asyncio.gather(*[link.close() for link in (*self._links, *self._retired)])

    async def follow(self, endpoints: Sequence[Endpoint]) -> None:
        """Use these endpoints from now on; calls under way on others are let finish."""
        known = {link.endpoint.text: link for link in self._links}
        new = [_Link(self, endpoint) for endpoint in endpoints if endpoint.text not in known]
        for link, outcome in zip(
            new, await asyncio.gather(*[link.open() for link in new], return_exceptions=True), strict=True
        ):
            if outcome is not None:
                link.reopen()
        wanted = [known.pop(endpoint.text) for endpoint in endpoints if endpoint.text in known] + new
        self._links = wanted
        idle = [link for link in self._retired if not link.busy]
        self._retired = [link for link in self._retired if link.busy]
        for link in known.values():
            link.retire()
            (self._retired if link.busy else idle).append(link)
        for link in idle:
            await link.close()

    def usable(self) -> ClientConnection | None:
        """The next link's connection; None when no link stands."""
        links = self._links
        for _ in links:
            self._turn = (self._turn + 1) % len(links)
            connection = links[self._turn].connection
            if connection is not None and connection.usable:
                return connection
        return None

    async def wait(self) -> ClientConnection:
        """The first link that stands again. Raises Failure when that takes too long."""
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                while True:
                    connection = self.usable()
                    if connection is not None:
                        return connection
                    self.up.clear()
                    await self.up.wait()
        except TimeoutError:
            text = f"no server for {PATIENCE_SECONDS:g} seconds"
            raise Failure(f"{text}: {self.trouble}" if self.trouble else text) from None

    async def unary(self, path: bytes, message: bytes) -> bytes:
        """One call; sent a second time only when its token was refused. Raises EtcdError, Failure."""
        connection = self.usable() or await self.wait()
        metadata = self.identity.metadata
        try:
            return await connection.unary(path, message, metadata=metadata)
        except (InvalidAuthToken, AuthOldRevision):
            if not self.identity.wanted:
                raise
        await self.identity.renew(connection, metadata)
        return await connection.unary(path, message, metadata=self.identity.metadata)

    async def stream(self, path: bytes) -> ClientStream:
        connection = self.usable() or await self.wait()
        return connection.stream(path, metadata=self.identity.metadata)


async def every(seconds: float, action: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Do it again and again, each time ``seconds`` after the last one ended."""
    while True:
        await asyncio.sleep(seconds)
        await action()
