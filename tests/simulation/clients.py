"""Random clients of a simulated cluster, on the member's own services; all they ask and hear is recorded.

A client has one request under way. It gives a request up after a while and goes on; what became of it is
then for the log to say.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tests.linearizability.histories import READ, RESPONSES, SERIALIZABLE, WRITE, Call
from tests.linearizability.leases import Renewal
from tests.linearizability.watches import Watch

from petcd.api.kv import KV
from petcd.api.service import NOTHING
from petcd.api.watch import Watch as WatchService
from petcd.errors import EtcdError
from petcd.pb import etcdserverpb as pb
from petcd.pb.message import Message

if TYPE_CHECKING:
    from tests.simulation.cluster import Cluster, Seat

KEYS = [b"k%d" % number for number in range(6)]
PATIENCE_SECONDS = 0.4


class _Head:
    note = NOTHING


class _Ask:
    """A unary call as a service sees it."""

    head = _Head()

    def __init__(self, done: Callable[[bytes | None, tuple[int, str] | None], object]) -> None:
        self._done = done

    def reply(self, message: bytes, /) -> None:
        self._done(message, None)

    def fail(self, code: int, text: str, /) -> None:
        self._done(None, (int(code), text))


class _Stream:
    """A stream as a service sees it."""

    head = _Head()
    blocked = False
    pending_bytes = 0

    def __init__(self, heard: Callable[[bytes], object]) -> None:
        self._heard = heard
        self.closed = False

    def send(self, message: bytes) -> None:
        self._heard(message)

    def close(self, code: int, text: str) -> None:
        self.closed = True


class Clients:
    """All clients of one run."""

    def __init__(self, cluster: Cluster, rng: random.Random, count: int, pause_seconds: float) -> None:
        self.cluster = cluster
        self.random = rng
        self.loop = cluster.sim.loop
        self.calls: list[Call] = []
        self.answers = 0
        self.renewals: list[Renewal] = []
        self.watches: list[Watch] = []
        self.open_watches: list[tuple[Watch, Any, Any]] = []
        """(record, the member it is at, its handler)."""
        self.leases: list[int] = []
        self.next_lease = 100
        self.stopped = False
        self._pause_seconds = pause_seconds
        for client in range(count):
            self._later(client, rng.random() * 0.05)

    def _later(self, client: int, seconds: float) -> None:
        self.loop.call_outside(self.loop.now + seconds, self._act, client)

    def _seat(self) -> Seat | None:
        seats = [seat for seat in self.cluster.seats.values() if seat.up]
        return self.random.choice(seats) if seats else None

    def _act(self, client: int) -> None:
        if self.stopped:
            return
        seat = self._seat()
        if seat is None:
            self._later(client, 0.02)
            return
        draw = self.random.random()
        if draw < 0.05:
            self.watch(seat)
            self._later(client, 0.005)
        elif draw < 0.10 and self.leases:
            self.renew(seat, self.random.choice(self.leases))
            self._later(client, 0.005)
        else:
            kind, request = self._request()
            self.ask(seat, client, kind, request, lambda: self._later(client, self._think()))

    def _think(self) -> float:
        return 0.002 + self.random.random() * self._pause_seconds

    # -- requests --------------------------------------------------------------------------------------

    def _request(self) -> tuple[str, Message]:
        draw = self.random.random
        rng = self.random
        key = rng.choice(KEYS)
        value = b"v%d" % len(self.calls)
        what = draw()
        if what < 0.30:
            lease = rng.choice(self.leases) if self.leases and draw() < 0.25 else 0
            return WRITE, pb.PutRequest(key=key, value=value, lease=lease, prev_kv=draw() < 0.3)
        if what < 0.38:
            end = b"" if draw() < 0.6 else b"k9"
            return WRITE, pb.DeleteRangeRequest(key=key, range_end=end, prev_kv=draw() < 0.3)
        if what < 0.55:
            return WRITE, self._txn(key, value)
        if what < 0.60:
            return WRITE, pb.CompactionRequest(revision=max(1, self._newest() - rng.randrange(8)))
        if what < 0.65:
            self.next_lease += 1
            self.leases.append(self.next_lease)
            del self.leases[:-4]
            return WRITE, pb.LeaseGrantRequest(ID=self.next_lease, TTL=rng.choice((1, 1, 2, 60)))
        if what < 0.67 and self.leases:
            return WRITE, pb.LeaseRevokeRequest(ID=rng.choice(self.leases))
        request = pb.RangeRequest(key=key)
        if draw() < 0.4:
            request.range_end = b"k9"
            request.limit = rng.choice((0, 0, 2))
            request.count_only = draw() < 0.1
        if draw() < 0.15:
            request.revision = max(1, self._newest() - rng.randrange(10))
        if what < 0.87:
            return READ, request
        request.serializable = True
        return SERIALIZABLE, request

    def _txn(self, key: bytes, value: bytes) -> pb.TxnRequest:
        rng = self.random
        other = rng.choice([one for one in KEYS if one != key])
        compare = rng.choice(
            (
                pb.Compare(
                    key=key, target=pb.CompareTarget.CREATE, result=pb.CompareResult.EQUAL, create_revision=0
                ),
                pb.Compare(
                    key=key,
                    target=pb.CompareTarget.MOD,
                    result=pb.CompareResult.LESS,
                    mod_revision=self._newest(),
                ),
                pb.Compare(
                    key=other, target=pb.CompareTarget.VERSION, result=pb.CompareResult.GREATER, version=1
                ),
            )
        )
        lease = rng.choice(self.leases) if self.leases and rng.random() < 0.2 else 0
        put = pb.RequestOp(request_put=pb.PutRequest(key=key, value=value, lease=lease))
        swap = pb.RequestOp(request_delete_range=pb.DeleteRangeRequest(key=other, prev_kv=True))
        past = max(1, self._newest() - rng.randrange(10)) if rng.random() < 0.2 else 0
        get = pb.RequestOp(request_range=pb.RangeRequest(key=other, revision=past))
        return pb.TxnRequest(
            compare=[compare], success=[put, swap] if rng.random() < 0.5 else [get, put], failure=[get]
        )

    def _newest(self) -> int:
        """Some revision that was seen."""
        for call in reversed(self.calls[-20:]):
            response = call.response
            if response is not None:
                return int(response.header.revision)
        return 1

    def ask(
        self, seat: Seat, client: int, kind: str, request: Message, then: Callable[[], object] | None = None
    ) -> Call:
        """Ask a member; ``then`` when it has answered or patience is over."""
        call = Call(len(self.calls), client, kind, request, seat.name, seat.life, self.loop.now)
        self.calls.append(call)
        over = False

        def end() -> None:
            nonlocal over
            if not over:
                over = True
                if then is not None:
                    then()

        def done(answer: bytes | None, error: tuple[int, str] | None) -> None:
            if call.complete is not None:
                raise AssertionError(f"answered twice: {call}")
            call.complete = self.loop.now
            self.answers += 1
            call.order = self.answers
            call.answer, call.error = answer, error
            if answer is not None:
                call.response = RESPONSES[type(request)].decode(answer)
            if not over:
                self.loop.call_outside(self.loop.now, end)

        seat.run(self._send, seat, call, _Ask(done))
        self.loop.call_outside(self.loop.now + PATIENCE_SECONDS, end)
        return call

    def _send(self, seat: Seat, call: Call, ask: Any) -> None:
        """In the member's process."""
        member = seat.member
        if member is None or member.stopped:
            return
        request = call.request
        before = member.ids._low
        kv = KV(member)
        leases = seat.leases
        assert leases is not None
        handlers: dict[type[Message], Callable[[Any, bytes], None]] = {
            pb.PutRequest: kv.put,
            pb.DeleteRangeRequest: kv.delete_range,
            pb.TxnRequest: kv.txn,
            pb.RangeRequest: kv.range,
            pb.CompactionRequest: kv.compact,
            pb.LeaseGrantRequest: leases.grant,
            pb.LeaseRevokeRequest: leases.revoke,
        }
        try:
            handlers[type(request)](ask, request.encode())
        except EtcdError as error:
            ask.fail(error.code, error.text)
        if call.kind == WRITE and member.ids._low != before:
            call.request_id = member.ids._prefix | member.ids._low

    # -- leases ----------------------------------------------------------------------------------------

    def renew(self, seat: Seat, lease: int) -> None:
        renewal = Renewal(lease, seat.name, self.loop.now)
        self.renewals.append(renewal)

        def heard(message: bytes) -> None:
            response = pb.LeaseKeepAliveResponse.decode(message)
            if renewal.answered is None:
                renewal.answered, renewal.ttl = self.loop.now, response.TTL

        def send() -> None:
            if seat.leases is None:
                return
            try:
                handler = seat.leases.keep_alive(_Stream(heard))  # type: ignore[arg-type]
            except EtcdError:
                return  # a learner
            handler.on_message(pb.LeaseKeepAliveRequest(ID=lease).encode())

        seat.run(send)

    # -- watches ---------------------------------------------------------------------------------------

    def watch(self, seat: Seat, request: pb.WatchCreateRequest | None = None) -> Watch:
        """Open a watcher: of now, of the past, of the future."""
        rng = self.random
        if request is None:
            start = rng.choice(
                (0, 0, max(1, self._newest() - rng.randrange(12)), self._newest() + rng.randrange(5))
            )
            wide = rng.random() < 0.6
            request = pb.WatchCreateRequest(
                key=b"k0" if wide else rng.choice(KEYS),
                range_end=b"k9" if wide else b"",
                start_revision=start,
                prev_kv=rng.random() < 0.3,
            )
        record = Watch(seat.name, seat.life, request, self.loop.now)
        self.watches.append(record)

        def open_it() -> None:
            member = seat.member
            if member is None or member.stopped:
                return
            try:
                handler = WatchService(member).watch(
                    _Stream(lambda message: record.messages.append((self.loop.now, message)))  # type: ignore[arg-type]
                )
            except EtcdError:
                return
            handler.on_message(pb.WatchRequest(create_request=request).encode())
            self.open_watches.append((record, member, handler))

        seat.run(open_it)
        return record

    def ask_progress(self) -> None:
        """A watcher somewhere asks how far it is."""
        living = [one for one in self.open_watches if not one[1].stopped]
        if living:
            record, _, handler = self.random.choice(living)
            seat = self.cluster.seats[record.member]
            if seat.life == record.life:
                message = pb.WatchRequest(progress_request=pb.WatchProgressRequest()).encode()
                seat.run(handler.on_message, message)

    def resume(self) -> None:
        """A watcher whose member went away goes on elsewhere, behind the last it has heard."""
        seat = self._seat()
        gone = [
            record
            for record in self.watches[-12:]
            if self.cluster.seats[record.member].life != record.life and record.messages
        ]
        if seat is None or not gone:
            return
        record = self.random.choice(gone)
        last = record.request.start_revision
        for _, message in record.messages:
            response = pb.WatchResponse.decode(message)
            if response.events and response.events[-1].kv is not None:
                last = response.events[-1].kv.mod_revision + 1
            elif response.created and not last and response.header is not None:
                last = response.header.revision + 1
        again = pb.WatchCreateRequest(
            key=record.request.key,
            range_end=record.request.range_end,
            start_revision=last,
            prev_kv=record.request.prev_kv,
        )
        self.watch(seat, again)
