"""Who the client is: a user's token, got when it is first needed and again when a server refuses it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from petcd.errors import AuthNotEnabled, AuthOldRevision, Code, EtcdError, InvalidAuthToken, UserEmpty
from petcd.net.grpc.client import TransportFailure

if TYPE_CHECKING:
    from petcd.net.grpc.client import ClientConnection

Metadata = tuple[tuple[bytes, bytes], ...]

API_VERSION: Final = (b"client-api-version", b"3.7")
AUTHENTICATE: Final = b"/etcdserverpb.Auth/Authenticate"
_LOGIN_SECONDS: Final = 10.0
"""For one attempt, even when whoever needs it would wait for ever: others wait for the same."""


class Credentials:
    """A name, a password and the present token. Without a name it adds nothing to a call."""

    def __init__(self, user: str, password: str) -> None:
        self.user = user
        self._password = password
        self.metadata: Metadata = (API_VERSION,)
        """What every call carries."""
        self.wanted = bool(user)
        """A login must come before the next call."""
        self._lock: asyncio.Lock | None = None

    def refused(self, error: EtcdError) -> bool:
        """Whether a new login may help. These answers come before anything is done."""
        # UserEmpty: authentication was off when we logged in, and has been turned on since.
        return bool(self.user) and isinstance(error, InvalidAuthToken | AuthOldRevision | UserEmpty)

    def expire(self, used: Metadata) -> None:
        """A call with ``used`` was refused: log in before the next, unless that has been done since."""
        if self.metadata is used:
            self.wanted = bool(self.user)

    def forget_loop(self) -> None:
        self._lock = None

    async def log_in(self, connection: ClientConnection, timeout: float | None) -> None:  # noqa: ASYNC109
        """Get a token over this connection, unless another task has got one meanwhile."""
        if self._lock is None:
            self._lock = asyncio.Lock()
        try:
            async with asyncio.timeout(timeout), self._lock:
                if self.wanted:
                    await self._authenticate(connection)
        except TimeoutError:
            text = "context deadline exceeded while logging in"
            raise TransportFailure(Code.DEADLINE_EXCEEDED, text, sent=False) from None

    async def _authenticate(self, connection: ClientConnection) -> None:
        from petcd.pb.etcdserverpb import auth as pb

        request = pb.AuthenticateRequest(name=self.user, password=self._password)
        try:
            answer = await connection.unary(
                AUTHENTICATE, request.encode(), metadata=(API_VERSION,), timeout=_LOGIN_SECONDS
            )
        except AuthNotEnabled:
            self.metadata = (API_VERSION,)  # a new tuple: ``expire`` tells logins apart by it
        else:
            token = pb.AuthenticateResponse.decode(answer).token.encode()
            self.metadata = (API_VERSION, (b"token", token), (b"authorization", token))
        self.wanted = False
