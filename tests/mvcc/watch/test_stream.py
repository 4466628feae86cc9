"""The watch protocol, row by row (contract/wire-v3.md section 4)."""

from __future__ import annotations

import pytest
from tests.mvcc.fake import FakeBackend

from petcd.mvcc import Compactor, Store, WatchHub, apply_txn
from petcd.mvcc.watch import hub as hub_module
from petcd.pb.etcdserverpb import (
    DeleteRangeRequest,
    PutRequest,
    RequestOp,
    ResponseHeader,
    TxnRequest,
    WatchCancelRequest,
    WatchCreateRequest,
    WatchProgressRequest,
    WatchRequest,
    WatchResponse,
)
from petcd.pb.mvccpb import Event, KeyValue


class Client:
    """A server of one stream and the responses that it sent."""

    def __init__(self, **options: int) -> None:
        self.store = Store(FakeBackend())
        self.hub = WatchHub(self.store, **options)  # type: ignore[arg-type]
        self.responses: list[WatchResponse] = []
        self.room = 1 << 30
        self.stream = self.hub.open(self)

    def send(self, message: bytes) -> bool:
        self.responses.append(WatchResponse.decode(message))
        self.room -= 1
        return self.room > 0

    def take(self) -> list[WatchResponse]:
        taken, self.responses = self.responses, []
        return taken

    def one(self) -> WatchResponse:
        (response,) = self.take()
        return response

    def watch(self, key: bytes = b"", **options: object) -> WatchResponse:
        self.stream.create(WatchCreateRequest(key=key, **options))  # type: ignore[arg-type]
        return self.one()

    def txn(self, *ops: RequestOp) -> None:
        store = self.store
        store.begin()
        apply_txn(store, TxnRequest(success=list(ops)))
        changes = store.end()
        if changes and self.hub.active:
            self.hub.notify(store.rev, changes)

    def put(self, key: bytes, value: bytes = b"") -> None:
        self.txn(RequestOp(request_put=PutRequest(key=key, value=value)))

    def delete(self, key: bytes) -> None:
        self.txn(RequestOp(request_delete_range=DeleteRangeRequest(key=key)))

    def settle(self) -> list[WatchResponse]:
        while not self.hub.step():
            pass
        return self.take()


@pytest.fixture
def client() -> Client:
    return Client()


def test_ids_are_the_smallest_unused_of_a_counter_that_does_not_go_back(client: Client) -> None:
    assert client.watch(b"a").watch_id == 0
    assert client.watch(b"a", watch_id=1).watch_id == 1
    assert client.watch(b"a").watch_id == 2
    assert client.watch(b"a", watch_id=-7).watch_id == -7
    client.stream.cancel(0)
    client.take()
    assert client.watch(b"a").watch_id == 3
    duplicate = client.watch(b"a", watch_id=2)
    assert duplicate == WatchResponse(
        header=ResponseHeader(revision=1),
        watch_id=-1,
        created=True,
        canceled=True,
        cancel_reason="mvcc: duplicate watch ID provided on the WatchStream",
    )


@pytest.mark.parametrize(
    ("key", "range_end", "start", "reason"),
    [
        (b"b", b"a", 0, "mvcc: watcher range is empty"),
        (b"b", b"b", 0, "mvcc: watcher range is empty"),
        (b"b", b"a", -1, "etcdserver: mvcc: required revision has been compacted"),
        (b"b", b"c", -1, "etcdserver: mvcc: required revision has been compacted"),
    ],
)
def test_refusals(client: Client, key: bytes, range_end: bytes, start: int, reason: str) -> None:
    refused = client.watch(key, range_end=range_end, start_revision=start)
    assert (refused.watch_id, refused.created, refused.canceled) == (-1, True, True)
    assert refused.cancel_reason == reason
    assert refused.compact_revision == 0
    assert client.hub.watcher_count == 0


def test_permission_is_asked_after_the_start_and_before_the_range(client: Client) -> None:
    asked = []

    def deny(key: bytes, range_end: bytes) -> str:
        asked.append((key, range_end))
        return "no"

    client.stream.create(WatchCreateRequest(start_revision=-1), deny)
    assert not asked
    client.take()
    client.stream.create(WatchCreateRequest(key=b"b", range_end=b"a"), deny)
    assert client.one().cancel_reason == "no"
    client.stream.create(WatchCreateRequest(range_end=b"\0"), deny)
    assert asked == [(b"b", b"a"), (b"\0", b"\0")]


def test_an_empty_key_is_the_zero_key(client: Client) -> None:
    client.watch()
    client.put(b"a")
    assert client.take() == []
    client.put(b"\0")
    assert len(client.one().events) == 1
    client.watch(range_end=b"\0")
    client.put(b"zz")
    assert client.one().watch_id == 1


def test_events_of_a_transaction_come_in_one_response(client: Client) -> None:
    client.put(b"b", b"0")
    client.watch(b"a", range_end=b"d", prev_kv=True)
    client.txn(
        RequestOp(request_put=PutRequest(key=b"a", value=b"1")),
        RequestOp(request_delete_range=DeleteRangeRequest(key=b"b")),
        RequestOp(request_put=PutRequest(key=b"z")),
        RequestOp(request_put=PutRequest(key=b"c", value=b"2")),
    )
    assert client.one() == WatchResponse(
        header=ResponseHeader(revision=3),
        events=[
            Event(kv=KeyValue(key=b"a", create_revision=3, mod_revision=3, version=1, value=b"1")),
            Event(
                type=1,
                kv=KeyValue(key=b"b", mod_revision=3),
                prev_kv=KeyValue(key=b"b", create_revision=2, mod_revision=2, version=1, value=b"0"),
            ),
            Event(kv=KeyValue(key=b"c", create_revision=3, mod_revision=3, version=1, value=b"2")),
        ],
    )


def test_filters(client: Client) -> None:
    client.watch(b"a", filters=[0])
    client.watch(b"a", filters=[1])
    client.watch(b"a", filters=[0, 1])
    client.put(b"a")
    assert client.one().watch_id == 1
    client.delete(b"a")
    assert client.one().watch_id == 0


def test_a_start_in_the_past_is_replayed_and_one_in_the_future_waits(client: Client) -> None:
    for value in (b"1", b"2", b"3"):
        client.put(b"a", value)
    client.watch(b"a", start_revision=3)
    (replay,) = client.settle()
    assert [event.kv.mod_revision for event in replay.events if event.kv] == [3, 4]
    client.watch(b"a", start_revision=7)
    for _ in range(3):
        client.put(b"a")
    got = [(r.watch_id, r.events[0].kv.mod_revision) for r in client.take() if r.events[0].kv]
    assert got == [(0, 5), (0, 6), (0, 7), (1, 7)]


@pytest.mark.parametrize("range_end", [b"", b"b"])
def test_a_replay_comes_in_batches_of_a_thousand_revisions(client: Client, range_end: bytes) -> None:
    for _ in range(1505):
        client.put(b"a")
    client.watch(b"a", range_end=range_end, start_revision=1)
    responses = client.settle()
    assert sum(len(r.events) for r in responses) == 1505
    assert all(r.header is not None and r.header.revision == 1506 for r in responses)
    if not range_end:
        assert [len(r.events) for r in responses] == [1000, 505]


def test_a_compacted_start_ends_the_watcher_but_keeps_its_id(client: Client) -> None:
    for _ in range(5):
        client.put(b"a")
    client.store.compact(4)
    Compactor(client.store).run()
    created = client.watch(b"a", start_revision=3)
    assert created.created and not created.canceled
    (ended,) = client.settle()
    assert ended == WatchResponse(header=ResponseHeader(), canceled=True, compact_revision=4)
    client.stream.progress()
    assert client.take() == [], "not synced"
    client.stream.cancel(0)
    assert client.one() == WatchResponse(header=ResponseHeader(revision=6), canceled=True)
    client.watch(b"a", start_revision=4)
    (replay,) = client.settle()
    assert [event.kv.mod_revision for event in replay.events if event.kv] == [4, 5, 6]


@pytest.mark.parametrize("pruned", [False, True])
def test_prev_kv_is_left_out_where_it_is_compacted(client: Client, pruned: bool) -> None:
    for _ in range(3):
        client.put(b"a")
    client.store.compact(3)
    if pruned:
        Compactor(client.store).run()
    client.watch(b"a", start_revision=3, prev_kv=True)
    (replay,) = client.settle()
    assert [event.prev_kv.mod_revision if event.prev_kv else None for event in replay.events] == [None, 3]


def test_cancel(client: Client) -> None:
    client.stream.cancel(5)
    assert client.take() == []
    client.watch(b"a", watch_id=5)
    client.stream.handle(WatchRequest(cancel_request=WatchCancelRequest(watch_id=5)))
    assert client.one() == WatchResponse(header=ResponseHeader(revision=1), watch_id=5, canceled=True)
    client.put(b"a")
    assert client.take() == []
    assert not client.hub.active
    assert client.watch(b"a", watch_id=5).created


def test_requests_without_a_member_are_ignored(client: Client) -> None:
    client.stream.handle(WatchRequest())
    client.stream.handle(WatchRequest(progress_request=WatchProgressRequest()))
    assert client.take() == []


def test_progress_on_request_needs_all_watchers_synced_and_started(client: Client) -> None:
    client.put(b"a")
    client.watch(b"a")
    client.stream.handle(WatchRequest(progress_request=WatchProgressRequest()))
    assert client.one() == WatchResponse(header=ResponseHeader(revision=2), watch_id=-1)
    client.watch(b"a", watch_id=9, start_revision=4)
    client.stream.progress()
    assert client.take() == []
    client.stream.cancel(9)
    client.take()
    client.watch(b"b", start_revision=1)
    client.stream.progress()
    assert client.take() == []
    client.settle()
    client.stream.progress()
    assert client.one().watch_id == -1


def test_periodic_progress_only_after_an_interval_without_events(client: Client) -> None:
    client.watch(b"a", progress_notify=True)
    client.watch(b"a")
    client.watch(b"a", progress_notify=True, start_revision=9)
    client.stream.tick()
    assert client.one() == WatchResponse(header=ResponseHeader(revision=1), watch_id=0)
    client.put(b"a")
    client.take()
    client.stream.tick()
    assert client.take() == []
    client.stream.tick()
    assert client.one() == WatchResponse(header=ResponseHeader(revision=2), watch_id=0)


def test_fragments() -> None:
    client = Client(message_bytes_max=300)
    client.watch(b"a", range_end=b"z", fragment=True)
    client.watch(b"a", range_end=b"z")
    client.txn(*(RequestOp(request_put=PutRequest(key=b"k%d" % n, value=b"v" * 100)) for n in range(5)))
    responses = client.take()
    parts = [r for r in responses if r.watch_id == 0]
    assert [r.fragment for r in parts] == [True, True, False]
    assert [len(r.events) for r in parts] == [2, 2, 1]
    assert all(r.header == parts[0].header for r in parts)
    (whole,) = [r for r in responses if r.watch_id == 1]
    assert [event for r in parts for event in r.events] == whole.events
    assert not whole.fragment
    client.put(b"one", b"v" * 1000)
    assert [r.fragment for r in client.take()] == [False, False]


def test_a_full_stream_costs_nothing_and_loses_nothing(client: Client) -> None:
    client.watch(b"a")
    client.watch(b"a", range_end=b"b")
    client.room = 3
    for n in range(2000):
        client.put(b"a", b"%d" % n)
    sent = client.take()
    assert len(sent) == 3
    assert client.hub.slow_watcher_count == 2
    assert not client.hub.active
    assert client.hub.step()
    client.room = 1 << 30
    woken = []
    client.hub.wake = lambda: woken.append(1)
    client.stream.on_writable()
    assert woken == [1]
    sent += client.settle()
    for watch_id in (0, 1):
        values = [e.kv.value for r in sent if r.watch_id == watch_id for e in r.events if e.kv]
        assert values == [b"%d" % n for n in range(2000)]
    assert client.hub.slow_watcher_count == 0


def test_large_values_make_smaller_batches(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_module, "BATCH_BYTES", 10_000)
    for _ in range(50):
        client.put(b"a", b"v" * 3000)
    client.watch(b"a", start_revision=1)
    client.watch(b"a", range_end=b"b", start_revision=1)
    responses = client.settle()
    for watch_id in (0, 1):
        sizes = [len(r.events) for r in responses if r.watch_id == watch_id]
        assert sum(sizes) == 50
        assert max(sizes) <= 4
    assert client.hub.event_count == 100


def test_closing_forgets_watchers_in_every_state(client: Client) -> None:
    for _ in range(3):
        client.put(b"a")
    client.watch(b"a")
    client.watch(b"b", range_end=b"c")
    client.watch(b"a", start_revision=1)
    client.watch(b"a", range_end=b"b", start_revision=1)
    client.room = 1
    client.put(b"a")
    client.put(b"a")
    assert client.hub.slow_watcher_count == 3
    client.stream.close()
    client.stream.close()
    client.stream.handle(WatchRequest(create_request=WatchCreateRequest(key=b"a")))
    assert (client.hub.watcher_count, client.hub.stream_count) == (0, 0)
    assert client.hub.slow_watcher_count == 0
    assert client.hub.step()
    assert not client.hub.active


def test_a_large_transaction_is_replayed_in_one_response(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_module, "BATCH_BYTES", 1000)
    for _ in range(3):
        ops = [RequestOp(request_put=PutRequest(key=b"k%02d" % n, value=b"v" * 300)) for n in range(40)]
        client.txn(*ops)
    client.watch(b"k", range_end=b"l", start_revision=1)
    assert [len(r.events) for r in client.settle()] == [40, 40, 40]
