"""The servers as a command sees them: Go's timeouts, retries and error texts (contract cli 2.6 to 2.8).

Reads that find the server unavailable are tried again, on the next endpoint. A write is tried again only
while it is certain that no server has seen it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, TypeVar

from petcd import ETCD_VERSION, errors
from petcd.cli.etcdctl.commands import BAD_CONNECTION, ERROR, Exit
from petcd.client.blocking import BlockingCall, BlockingConnection, Broken, Status, Unreachable, connect
from petcd.client.endpoints import Endpoint, parse
from petcd.errors import Code, EtcdError

if TYPE_CHECKING:
    import ssl

    from petcd.pb.message import Message

M = TypeVar("M", bound="Message")

_ATTEMPTS: Final = 100
_PING_SECONDS_MIN: Final = 10.0
"""Servers take more frequent pings for a flood; Go's client has the same floor."""
_PAUSE_SECONDS: Final = 0.025
_CONNECT_PAUSE_MAX: Final = 1.0
_SEND_DEFAULT: Final = 2 << 20
_RECEIVE_DEFAULT: Final = (1 << 31) - 1
_DEADLINE: Final = "context deadline exceeded"
_UNKNOWN_TO_CLIENTS: Final = (errors.TimeoutLeaderTransfer, errors.UnknownMethod)


class CallFailed(Exception):
    """A call that got an error, and the text Go's tool shows for it."""

    def __init__(self, error: EtcdError, message: str) -> None:
        super().__init__(message)
        self.error = error
        self.message = message

    @property
    def temporary(self) -> bool:
        """Whether a stream that failed so is worth opening again."""
        return self.error.code in (Code.UNAVAILABLE, Code.INTERNAL)

    @property
    def denied(self) -> bool:
        return isinstance(self.error, errors.PermissionDenied)


def describe(error: EtcdError) -> str:
    """Known errors by their text, others as a gRPC status."""
    if error.text.startswith("etcdserver: ") and not isinstance(error, _UNKNOWN_TO_CLIENTS):
        known = errors.EtcdError.by_text.get(error.text)
        if known is not None:
            return error.text
    return f"rpc error: code = {errors.GRPC_NAMES[Code(error.code)]} desc = {error.text}"


class Stream:
    """One streaming call of a session."""

    def __init__(self, connection: BlockingConnection, call: BlockingCall, deadline: float | None) -> None:
        self._connection = connection
        self._call = call
        self._deadline = deadline

    def send(self, message: bytes) -> None:
        try:
            self._connection.send(self._call, message)
        except Broken as broken:
            raise _broken(broken) from None

    def half_close(self) -> None:
        try:
            self._connection.half_close(self._call)
        except Broken as broken:
            raise _broken(broken) from None

    def receive(self, timeout: float | None = None) -> bytes | None:
        """The next message or None at the end. Raises CallFailed; TimeoutError after ``timeout`` seconds."""
        deadline = self._deadline if timeout is None else time.monotonic() + timeout
        try:
            return self._connection.receive(self._call, deadline)
        except Status as status:
            error = errors.from_wire(status.code, status.text)
            raise CallFailed(error, describe(error)) from None
        except Broken as broken:
            raise _broken(broken) from None
        except TimeoutError:
            if timeout is not None:
                raise
            raise _deadline() from None

    def cancel(self) -> None:
        self._connection.cancel(self._call)

    def ready(self) -> bool:
        """Whether there is something to receive that ``select`` does not show."""
        return bool(self._call.messages) or self._call.ended or self._connection.ready()


def _broken(broken: Broken) -> CallFailed:
    error = errors.StatusError(Code.UNAVAILABLE, str(broken))
    return CallFailed(error, describe(error))


def _deadline() -> CallFailed:
    return CallFailed(errors.ContextDeadlineExceeded(), _DEADLINE)


class Session:
    """Connections to one of several endpoints at a time, made when first needed."""

    def __init__(
        self,
        endpoints: list[str],
        *,
        dial_timeout: float,
        deadline: float | None,
        keepalive: tuple[float, float],
        cert: str = "",
        key: str = "",
        ca: str = "",
        tls: bool = False,
        skip_verify: bool = False,
        server_name: str = "",
        user: str = "",
        password: str = "",
        token: str = "",
        send_limit: int = 0,
        receive_limit: int = 0,
    ) -> None:
        self.endpoints = endpoints
        self.deadline = deadline
        """When calls give up; None: never."""
        self._dial_timeout = dial_timeout
        interval, patience = keepalive
        self._keepalive = (max(interval, _PING_SECONDS_MIN) if interval > 0 else 0.0, patience or 20.0)
        self._server_name = server_name
        self._user = user
        self._password = password
        self._token = token
        self._send_limit = send_limit or _SEND_DEFAULT
        self._receive_limit = receive_limit or _RECEIVE_DEFAULT
        self._at = 0
        self._connection: BlockingConnection | None = None
        configured = tls or skip_verify or bool(cert or key or ca or server_name)
        first = _parse(endpoints[0])
        wanted = first.wants_tls if first is not None else None
        self.tls: ssl.SSLContext | None = None
        if configured if wanted is None else wanted:
            from petcd.cli.etcdctl.security import client_context

            self.tls = client_context(cert, key, ca, skip_verify=skip_verify)
        self._constant = [(b"client-api-version", ".".join(ETCD_VERSION.split(".")[:2]).encode())]
        self.metadata: list[tuple[bytes, bytes]] = list(self._constant)
        if token:
            self._authorize(token)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def fileno(self) -> int:
        """The socket of the present connection, for ``select``."""
        return self._connection.fileno() if self._connection is not None else -1

    def connection(self) -> BlockingConnection:
        """The connection itself, for those who drive many calls at once."""
        try:
            return self._connect()
        except CallFailed as failure:
            raise Exit(BAD_CONNECTION, failure.message) from None

    # --- connecting -----------------------------------------------------------------------------------

    def _connect(self) -> BlockingConnection:
        """A usable connection; goes round the endpoints until the deadline. Raises CallFailed."""
        connection = self._connection
        if connection is not None:
            if connection.usable:
                return connection
            self.close()
        pause = _PAUSE_SECONDS
        tried = 0
        while True:
            left = None if self.deadline is None else self.deadline - time.monotonic()
            if left is not None and left <= 0:
                raise _deadline()
            endpoint = _parse(self.endpoints[self._at % len(self.endpoints)])
            if endpoint is not None:
                timeout = self._dial_timeout if self._dial_timeout > 0 else 20.0
                try:
                    self._connection = connect(
                        endpoint.host,
                        endpoint.port,
                        timeout=timeout if left is None else min(timeout, left),
                        tls=self.tls,
                        server_name=self._server_name,
                        receive_max=self._receive_limit,
                        keepalive=self._keepalive,
                    )
                    return self._connection
                except Unreachable:
                    pass
            self._at += 1
            tried += 1
            if tried % len(self.endpoints) == 0:
                left = None if self.deadline is None else self.deadline - time.monotonic()
                time.sleep(max(0.0, pause if left is None else min(pause, left)))
                pause = min(pause * 2, _CONNECT_PAUSE_MAX)

    def _next_endpoint(self) -> None:
        self.close()
        self._at += 1

    # --- who we are -----------------------------------------------------------------------------------

    def _authorize(self, token: str) -> None:
        self._token = token
        self.metadata = [*self._constant, (b"token", token.encode()), (b"authorization", token.encode())]

    def login(self) -> None:
        """Get a token for ``--user``. A server without authentication is taken as it is."""
        if not self._user or self._token:
            return
        try:
            self._authenticate()
        except CallFailed as failure:
            if isinstance(failure.error, errors.AuthNotEnabled):
                self._user = ""
                return
            raise Exit(BAD_CONNECTION, failure.message) from None

    def _authenticate(self) -> None:
        from petcd.pb.etcdserverpb import auth as pb

        request = pb.AuthenticateRequest(name=self._user, password=self._password)
        self.metadata = list(self._constant)
        response = self._attempt("/etcdserverpb.Auth/Authenticate", request.encode(), read=True)
        self._authorize(pb.AuthenticateResponse.decode(response).token)

    # --- calls ----------------------------------------------------------------------------------------

    def call(self, method: str, request: Message, response: type[M], *, read: bool = False) -> M:
        """One unary call; its failure ends the command. ``read``: it may be repeated."""
        try:
            return self.call_raw(method, request, response, read=read)
        except CallFailed as failure:
            raise Exit(ERROR, failure.message) from None

    def call_raw(self, method: str, request: Message, response: type[M], *, read: bool = False) -> M:
        """Raises CallFailed."""
        message = request.encode()
        if len(message) > self._send_limit:
            error = errors.StatusError(
                Code.RESOURCE_EXHAUSTED,
                f"trying to send message larger than max ({len(message)} vs. {self._send_limit})",
            )
            raise CallFailed(error, describe(error))
        refreshed = False
        while True:
            try:
                return response.decode(self._attempt(method, message, read=read))
            except CallFailed as failure:
                stale = isinstance(failure.error, errors.InvalidAuthToken | errors.AuthOldRevision)
                if not stale or refreshed or not self._user:
                    raise
                # Refused before anything was done: a new token, and once more.
                refreshed = True
                self._authenticate()

    def _attempt(self, method: str, message: bytes, *, read: bool) -> bytes:
        for attempt in range(_ATTEMPTS):
            connection = self._connect()
            try:
                return connection.unary(method, message, self.metadata, deadline=self.deadline)
            except Status as status:
                error = errors.from_wire(status.code, status.text)
                expired = self.deadline is not None and time.monotonic() >= self.deadline
                if expired and error.code in (Code.DEADLINE_EXCEEDED, Code.CANCELLED):
                    raise _deadline() from None
                failure = CallFailed(error, describe(error))
                again = read and error.code == Code.UNAVAILABLE
                if len(self.endpoints) > 1 and isinstance(error, errors.NotSupportedForLearner):
                    again = True
                    self._next_endpoint()
            except Broken as broken:
                failure = _broken(broken)
                again = read or broken.untouched
                self._next_endpoint()
            except TimeoutError:
                raise _deadline() from None
            if not again or attempt + 1 == _ATTEMPTS:
                raise failure
            self._sleep(_PAUSE_SECONDS)
        raise AssertionError("the loop returns or raises")

    def _sleep(self, seconds: float) -> None:
        if self.deadline is not None:
            seconds = min(seconds, max(0.0, self.deadline - time.monotonic()))
        time.sleep(seconds)

    def stream(
        self,
        method: str,
        *,
        deadline: float | None = None,
        metadata: Sequence[tuple[bytes, bytes]] = (),
    ) -> Stream:
        """Open a stream. Raises CallFailed."""
        for _ in range(_ATTEMPTS):
            connection = self._connect()
            try:
                call = connection.open(method, [*self.metadata, *metadata], deadline=deadline)
                connection.flush()
                return Stream(connection, call, deadline)
            except Broken as broken:
                failure: Any = _broken(broken)
                self._next_endpoint()
                self._sleep(_PAUSE_SECONDS)
        raise failure


def _parse(text: str) -> Endpoint | None:
    """None for what cannot be connected to: like Go, that shows as a deadline that passes."""
    try:
        return parse(text)
    except ValueError:
        return None
