"""Clients for clusters that break: each call ends within its time, and says whether it may have happened.

``Caller`` is one client's connection to one member, made again when it fails. ``Writers`` is the load that
fault tests run: several clients that write every key once, go to the next member after a failure, and
remember what was acknowledged.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from petcd.errors import EtcdError
from petcd.net.grpc.client import ClientConnection, TransportFailure
from petcd.pb import etcdserverpb as pb
from petcd.pb import mvccpb
from petcd.pb.message import Message
from petcd.seams.net import Address

A = TypeVar("A", bound=Message)

PATHS: dict[type[Message], tuple[bytes, type[Message]]] = {
    pb.RangeRequest: (b"/etcdserverpb.KV/Range", pb.RangeResponse),
    pb.PutRequest: (b"/etcdserverpb.KV/Put", pb.PutResponse),
    pb.DeleteRangeRequest: (b"/etcdserverpb.KV/DeleteRange", pb.DeleteRangeResponse),
    pb.TxnRequest: (b"/etcdserverpb.KV/Txn", pb.TxnResponse),
    pb.StatusRequest: (b"/etcdserverpb.Maintenance/Status", pb.StatusResponse),
    pb.HashKVRequest: (b"/etcdserverpb.Maintenance/HashKV", pb.HashKVResponse),
    pb.LeaseGrantRequest: (b"/etcdserverpb.Lease/LeaseGrant", pb.LeaseGrantResponse),
    pb.MemberListRequest: (b"/etcdserverpb.Cluster/MemberList", pb.MemberListResponse),
}


class Caller:
    """One client's connection to one member."""

    def __init__(self, endpoint: str) -> None:
        host, port = endpoint.rsplit(":", 1)
        self.endpoint = endpoint
        self._address = Address(host, int(port))
        self._connection: ClientConnection | None = None

    async def connected(self, seconds: float) -> ClientConnection:
        connection = self._connection
        if connection is None or connection.closed or connection.draining:
            self.close()
            connection = self._connection = await ClientConnection.connect(self._address, timeout=seconds)
        return connection

    async def call(self, request: Message, *, seconds: float) -> Message:
        """One call. Raises: EtcdError; TransportFailure with ``sent`` False when it cannot have happened."""
        path, answer = PATHS[type(request)]
        end = time.monotonic() + seconds
        connection = await self.connected(seconds)
        try:
            body = await connection.unary(path, request.encode(), timeout=max(end - time.monotonic(), 0.001))
        except TransportFailure:
            self.close()
            raise
        return answer.decode(body)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def describe(error: EtcdError) -> str:
    """What the client is told, short: the code and the server's text."""
    text = str(error.text)
    if isinstance(error, TransportFailure):
        text = "connection failed" if not error.sent else text
        text = "deadline exceeded" if "deadline" in text else text
        text = "connection lost" if "deadline" not in text and error.sent else text
    return f"{error.code.name} {text}"


def may_have_happened(error: EtcdError) -> bool:
    return not (isinstance(error, TransportFailure) and not error.sent)


@dataclass
class Written:
    """What the clients were told."""

    acknowledged: dict[bytes, int] = field(default_factory=dict)
    """Key: the revision at which it was written."""
    unknown: set[bytes] = field(default_factory=set)
    """Keys whose write failed, but may have happened."""
    errors: Counter[str] = field(default_factory=Counter)
    sent: int = 0


def value_of(key: bytes) -> bytes:
    return key * 4


class Writers:
    """Clients that write unique keys below ``prefix`` until they are stopped."""

    def __init__(
        self,
        endpoints: Sequence[str],
        *,
        prefix: bytes = b"w/",
        clients: int = 6,
        pause: float = 0.01,
        seconds: float = 2.0,
        pinned: bool = False,
    ) -> None:
        self.endpoints = endpoints
        self.written = Written()
        self.moments: list[float] = []
        """When writes were acknowledged."""
        self._prefix = prefix
        self._pause = pause
        self._seconds = seconds
        self._pinned = pinned
        """Stay with one's own member whatever happens."""
        self._tasks = [asyncio.ensure_future(self._client(number)) for number in range(clients)]
        self._stopping = False

    async def _client(self, number: int) -> None:
        written = self.written
        chosen = number
        callers: dict[str, Caller] = {}
        count = 0
        try:
            while not self._stopping:
                endpoint = self.endpoints[chosen % len(self.endpoints)]
                caller = callers.get(endpoint) or callers.setdefault(endpoint, Caller(endpoint))
                key = b"%s%d/%d" % (self._prefix, number, count)
                count += 1
                written.sent += 1
                try:
                    answer = await caller.call(
                        pb.PutRequest(key=key, value=value_of(key)), seconds=self._seconds
                    )
                except EtcdError as error:
                    written.errors[describe(error)] += 1
                    if may_have_happened(error):
                        written.unknown.add(key)
                    if not self._pinned:
                        chosen += 1
                else:
                    assert isinstance(answer, pb.PutResponse) and answer.header is not None
                    written.acknowledged[key] = answer.header.revision
                    self.moments.append(time.monotonic())
                await asyncio.sleep(self._pause)
        finally:
            for caller in callers.values():
                caller.close()

    async def stop(self) -> Written:
        self._stopping = True
        await asyncio.gather(*self._tasks)
        return self.written


@contextlib.asynccontextmanager
async def writing(endpoints: Sequence[str], **options: object):  # type: ignore[no-untyped-def]
    """Writers around a block; they have stopped when it is left."""
    writers = Writers(endpoints, **options)  # type: ignore[arg-type]
    try:
        yield writers
    finally:
        await writers.stop()


async def ask(endpoint: str, request: Message, *, seconds: float = 5.0) -> Message:
    """One call on a connection of its own."""
    caller = Caller(endpoint)
    try:
        return await caller.call(request, seconds=seconds)
    finally:
        caller.close()


async def ask_until(
    endpoint: str, request: Message, *, seconds_max: float = 20.0, pause: float = 0.1
) -> Message:
    """The same, tried again until it is answered."""
    end = time.monotonic() + seconds_max
    while True:
        try:
            return await ask(endpoint, request)
        except EtcdError:
            if time.monotonic() > end:
                raise
            await asyncio.sleep(pause)


async def read_all(
    endpoint: str, prefix: bytes, *, serializable: bool = False, page: int = 5000
) -> dict[bytes, mvccpb.KeyValue]:
    """Every pair below a prefix, at one revision, as this member has it."""
    end = prefix[:-1] + bytes((prefix[-1] + 1,))
    found: dict[bytes, mvccpb.KeyValue] = {}
    key, revision = prefix, 0
    while True:
        request = pb.RangeRequest(
            key=key, range_end=end, limit=page, revision=revision, serializable=serializable
        )
        answer = await ask_until(endpoint, request)
        assert isinstance(answer, pb.RangeResponse) and answer.header is not None
        revision = revision or answer.header.revision
        found.update((kv.key, kv) for kv in answer.kvs)
        if not answer.more:
            return found
        key = answer.kvs[-1].key + b"\x00"


async def losses(
    endpoints: Sequence[str], written: Written, prefix: bytes = b"w/", *, retried: bool = False
) -> list[str]:
    """What is wrong with the acknowledged writes as each member has them, in words; waits for none to lag.

    With ``retried`` the same put may have been sent several times: an earlier one may be done at any time.
    """
    wrong: list[str] = []
    newest = max(written.acknowledged.values(), default=0)
    for endpoint in endpoints:
        await wait_revision(endpoint, newest)
        found = await read_all(endpoint, prefix, serializable=True)
        for key, revision in written.acknowledged.items():
            kv = found.pop(key, None)
            again = retried and key in written.unknown
            if kv is None:
                wrong.append(f"{endpoint}: {key!r} of revision {revision} is lost")
            elif kv.value != value_of(key) or (
                kv.mod_revision < revision if again else kv.mod_revision != revision or kv.version != 1
            ):
                wrong.append(f"{endpoint}: {key!r} of revision {revision} is {kv}")
        wrong += [f"{endpoint}: {key!r} was never asked for" for key in found if key not in written.unknown]
    wrong += await unequal_hashes(endpoints)
    return wrong


async def wait_revision(endpoint: str, revision: int, *, seconds_max: float = 20.0) -> None:
    """Wait until this member has applied this revision."""
    end = time.monotonic() + seconds_max
    while True:
        answer = await ask_until(endpoint, pb.RangeRequest(key=b"\x00", serializable=True, limit=1))
        assert isinstance(answer, pb.RangeResponse) and answer.header is not None
        if answer.header.revision >= revision:
            return
        if time.monotonic() > end:
            raise TimeoutError(f"{endpoint} is at {answer.header.revision}, not at {revision}")
        await asyncio.sleep(0.05)


async def unequal_hashes(endpoints: Sequence[str]) -> list[str]:
    """HashKV of every member at the newest revision all have; a complaint when they differ."""
    revision = 0
    for endpoint in endpoints:
        answer = await ask_until(endpoint, pb.RangeRequest(key=b"\x00", limit=1))
        assert isinstance(answer, pb.RangeResponse) and answer.header is not None
        revision = max(revision, answer.header.revision)
    hashes: dict[str, int] = {}
    for endpoint in endpoints:
        await wait_revision(endpoint, revision)
        response = await ask_until(endpoint, pb.HashKVRequest(revision=revision))
        assert isinstance(response, pb.HashKVResponse)
        hashes[endpoint] = response.hash
    return [] if len(set(hashes.values())) == 1 else [f"hashes at revision {revision} differ: {hashes}"]
