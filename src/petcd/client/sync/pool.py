"""How calls of threads reach a cluster: ``petcd.client.pool`` with threads in place of tasks.

When a call may be made again is said in ``petcd.client.retry``. Everything here may be used by any thread; in
a forked child the next call makes connections of the child's own.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from petcd.client.balance import Balance
from petcd.client.credentials import API_VERSION, AUTHENTICATE, Credentials, Metadata
from petcd.client.dialing import no_connection, secured
from petcd.client.endpoints import Endpoint, parse
from petcd.client.retry import Fate, expired
from petcd.client.retry import fate as fate_of
from petcd.client.sync.connection import Connection, connect
from petcd.errors import AuthNotEnabled, Code, EtcdError
from petcd.net.grpc.client import TransportFailure

if TYPE_CHECKING:
    import ssl

    from petcd.client.tls import Tls

_REFUSALS_MAX: Final = 3
_PAUSE_FIRST: Final = 0.025
_PAUSE_MAX: Final = 1.0


class Pool:
    """The connection in use, and how calls go over it."""

    def __init__(
        self,
        endpoints: Sequence[str],
        *,
        tls: ssl.SSLContext | Tls | None,
        user: str,
        password: str,
        dial_timeout: float,
        keepalive: float,
        keepalive_timeout: float,
        shuffle: bool,
    ) -> None:
        self.balance = Balance([parse(text) for text in endpoints], shuffle=shuffle)
        self._tls = tls
        self._dial_timeout = dial_timeout
        self._keepalive = keepalive
        self._keepalive_timeout = keepalive_timeout
        self._credentials = _Credentials(user, password)
        self._current: Connection | None = None
        self._at: dict[Connection, Endpoint] = {}
        """Every connection that is not closed yet, and where it goes."""
        self._single: set[Connection] = set()
        """Those of one call alone."""
        self._connecting = threading.Lock()
        self._closed = threading.Event()
        self._obstacle: TransportFailure | None = None
        """Why there is no connection."""

    def close(self) -> None:
        self._closed.set()
        for connection in (*self._at, *self._single):
            connection.close("the client is closed")
        self._at.clear()
        self._current = None

    def forked(self) -> None:
        """In the child, before anything else runs: what the parent has stays the parent's."""
        for connection in (*self._at, *self._single):
            connection.abandon()
        self._at = {}
        self._single = set()
        self._current = None
        self._connecting = threading.Lock()
        closed, self._closed = self._closed.is_set(), threading.Event()
        if closed:
            self._closed.set()
        self._credentials.lock = threading.Lock()

    # --- connections ------------------------------------------------------------------------------------

    def _dial(self, endpoint: Endpoint, deadline: float | None) -> Connection:
        timeout = self._dial_timeout if deadline is None else min(_left(deadline), self._dial_timeout)
        if timeout <= 0:
            raise expired()
        secure = endpoint.wants_tls if endpoint.wants_tls is not None else self._tls is not None
        context, name = secured(self._tls) if secure else (None, "")
        try:
            connection = connect(
                endpoint.host,
                endpoint.port,
                timeout=timeout,
                tls=context,
                server_name=name,
                keepalive=self._keepalive,
                keepalive_timeout=self._keepalive_timeout,
            )
        except ValueError as error:  # what ssl says of a name
            raise no_connection(error) from error
        return connection

    def _connection(self, deadline: float | None) -> Connection:
        """The connection in use, or a new one; goes round the endpoints until ``deadline``."""
        patience = -1.0 if deadline is None else max(0.0, _left(deadline))
        if not self._connecting.acquire(timeout=patience):
            raise expired(self._obstacle) from self._obstacle
        try:
            pause = _PAUSE_FIRST
            while True:
                for health in self.balance.order(time.monotonic()):
                    if self._closed.is_set():
                        raise _closed_failure()
                    current = self._current
                    if current is not None and current.usable:
                        return current
                    try:
                        fresh = self._dial(health.endpoint, deadline)
                    except TransportFailure as failure:
                        if failure.code == Code.UNAVAILABLE:
                            self._obstacle = failure
                        if deadline is not None and _left(deadline) <= 0:
                            raise expired(self._obstacle) from self._obstacle
                        self.balance.failed(health.endpoint, time.monotonic())
                    else:
                        self._sweep()
                        self._at[fresh] = health.endpoint
                        self._current = fresh
                        self._obstacle = None
                        if self._closed.is_set():  # meanwhile, by another thread that could not see it yet
                            fresh.close("the client is closed")
                        return fresh
                pause = self._rest(pause, deadline)
        finally:
            self._connecting.release()

    def _turn_away(self, connection: Connection) -> None:
        """This connection's server is of no use now: others come first."""
        if self._current is not connection or (len(self.balance) == 1 and connection.usable):
            return
        self._current = None
        endpoint = self._at.get(connection)
        if endpoint is not None:
            self.balance.failed(endpoint, time.monotonic())

    def _sweep(self) -> None:
        """Close what was turned away and has no calls any more."""
        for connection in list(self._at):
            if connection is not self._current and not connection.active_count:
                connection.close()
                self._at.pop(connection, None)

    def _rest(self, pause: float, deadline: float | None) -> float:
        """Wait for between half and all of ``pause`` seconds; the next pause."""
        seconds = pause * (0.5 + random.random() / 2)
        if deadline is not None:
            seconds = max(0.0, min(seconds, _left(deadline)))
        self._closed.wait(seconds)
        return min(pause * 2, _PAUSE_MAX)

    # --- calls ------------------------------------------------------------------------------------------

    def exchange(
        self,
        path: bytes,
        message: bytes,
        *,
        repeatable: bool,
        timeout: float | None,
        extra: Metadata = (),
        confirm: Callable[[bytes], bool] | None = None,
    ) -> bytes:
        """One unary call. Raises EtcdError.

        ``repeatable`` and ``confirm`` mean what they do in ``petcd.client.pool``: the first that it may be
        sent again, the second how a later attempt's answer shows that no attempt before was acted on.
        """
        credentials = self._credentials
        deadline = None if timeout is None else time.monotonic() + timeout
        # The server is told the whole of it at first: the same few bytes for every call.
        limit = timeout
        pause = _PAUSE_FIRST
        refusals = 0
        doubt: EtcdError | None = None
        while True:
            asked = False
            connection = self._current
            try:
                if connection is None or not connection.usable:
                    connection = self._connection(deadline)
                    limit = _until(deadline)
                if credentials.wanted:
                    credentials.log_in_over(connection, deadline)
                    limit = _until(deadline)
                identity = credentials.metadata
                asked = True
                answer = connection.unary(
                    path,
                    message,
                    metadata=(*identity, *extra) if extra else identity,
                    timeout=limit,
                    deadline=deadline,
                )
                if doubt is not None and confirm is not None and not confirm(answer):
                    raise doubt
                return answer
            except EtcdError as error:
                if error is doubt or connection is None:
                    raise (doubt or error) from None
                if asked and credentials.refused(error) and refusals < _REFUSALS_MAX:
                    refusals += 1
                    credentials.expire(identity)
                    limit = _until(deadline)
                    continue
                fate = fate_of(error, asked=asked, loner=len(self.balance) == 1)
                unknown = fate is Fate.UNKNOWN and not repeatable
                if fate is Fate.FINAL or (unknown and confirm is None):
                    if error.code == Code.DEADLINE_EXCEEDED and len(self.balance) > 1:
                        self._turn_away(connection)
                    if doubt is not None:
                        raise doubt from error
                    raise
                if unknown and doubt is None:
                    doubt = error
                self._turn_away(connection)
                failure = error
            limit = _until(deadline)
            if limit is None or limit > 0:
                pause = self._rest(pause, deadline)
                limit = _until(deadline)
            if limit is not None and limit <= 0:
                raise doubt or expired(failure) from failure

    def exchange_at(self, endpoint: str, path: bytes, message: bytes, *, timeout: float | None) -> bytes:
        """``exchange`` at one endpoint, over a connection for this call alone."""
        credentials = self._credentials
        deadline = None if timeout is None else time.monotonic() + timeout
        if self._closed.is_set():
            raise _closed_failure()
        connection = self._dial(parse(endpoint), deadline)
        self._single.add(connection)
        try:
            if self._closed.is_set():  # meanwhile, by another thread that could not see it yet
                raise _closed_failure()
            for refusals in range(_REFUSALS_MAX + 1):
                if credentials.wanted:
                    credentials.log_in_over(connection, deadline)
                identity = credentials.metadata
                try:
                    return connection.unary(
                        path, message, metadata=identity, timeout=_until(deadline), deadline=deadline
                    )
                except EtcdError as error:
                    if not credentials.refused(error) or refusals == _REFUSALS_MAX:
                        raise
                    credentials.expire(identity)
            raise AssertionError("unreachable")
        finally:
            self._single.discard(connection)
            connection.close()


class _Credentials(Credentials):
    """The user's token, for threads."""

    def __init__(self, user: str, password: str) -> None:
        super().__init__(user, password)
        self.lock = threading.Lock()

    def log_in_over(self, connection: Connection, deadline: float | None) -> None:
        """Get a token over this connection, unless another thread has got one meanwhile."""
        from petcd.pb.etcdserverpb import auth as pb

        if not self.lock.acquire(timeout=-1.0 if deadline is None else max(0.0, _left(deadline))):
            raise expired()
        try:
            if not self.wanted:
                return
            request = pb.AuthenticateRequest(name=self.user, password=self._password)
            try:
                answer = connection.unary(
                    AUTHENTICATE, request.encode(), metadata=(API_VERSION,), deadline=deadline
                )
            except AuthNotEnabled:
                # Authentication is off. A tuple of its own, because ``expire`` tells logins apart by it.
                self.metadata = (API_VERSION,)
            else:
                token = pb.AuthenticateResponse.decode(answer).token.encode()
                self.metadata = (API_VERSION, (b"token", token), (b"authorization", token))
            self.wanted = False
        finally:
            self.lock.release()


def _closed_failure() -> TransportFailure:
    return TransportFailure(Code.CANCELLED, "the client is closed", sent=False)


def _left(deadline: float) -> float:
    return deadline - time.monotonic()


def _until(deadline: float | None) -> float | None:
    return None if deadline is None else deadline - time.monotonic()
