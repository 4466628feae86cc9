"""The watch guarantees over random histories, slow sinks, compactions and snapshot installs.

Names are those of etcd's robustness tests (contract/history.md part 1): Filter, Ordered, Unique, Atomic,
Resumable, Reliable, Bookmarkable, PrevKV, IsCreate.
"""

from __future__ import annotations

from random import Random

import pytest
from tests.mvcc import draw
from tests.mvcc.fake import AnyLease, FakeBackend
from tests.mvcc.model import Model, Record, covers

from petcd import errors
from petcd.mvcc import Compactor, Store, WatchHub, WatchStream, apply_txn, check_txn
from petcd.mvcc.watch import hub as hub_module
from petcd.pb.etcdserverpb import WatchCreateRequest, WatchResponse
from petcd.pb.mvccpb import Event


class Client:
    """One stream, its slow reader, and what each watcher on it has seen."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.window = world.rng.choice([1, 2, 5, 1000])
        self.unread = 0
        self.stream: WatchStream = world.hub.open(self)
        self.requests: dict[int, WatchCreateRequest] = {}
        self.starts: dict[int, int] = {}
        self.seen: dict[int, list[Event]] = {}
        self.ended: set[int] = set()
        self.progress_count = 0

    def create(self, request: WatchCreateRequest) -> None:
        self.last_request = request
        self.stream.create(request)

    def send(self, message: bytes) -> bool:
        response = WatchResponse.decode(message)
        watch_id = response.watch_id
        if response.created:
            self.requests[watch_id] = self.last_request
            self.starts[watch_id] = self.last_request.start_revision or self.world.model.rev + 1
            self.seen[watch_id] = []
        elif response.canceled:
            assert response.compact_revision == self.world.store.compact_rev
            assert response.header is not None
            assert response.header.revision == 0
            self.ended.add(watch_id)
        elif not response.events:
            self.progress_count += 1
            self.check_progress(response)
        else:
            self.take(response)
        self.unread += 1
        return self.unread < self.window

    def read(self) -> None:
        if self.unread:
            self.unread = 0
            self.stream.on_writable()

    def take(self, response: WatchResponse) -> None:
        watch_id = response.watch_id
        assert watch_id not in self.ended
        seen = self.seen[watch_id]
        revisions = [event.kv.mod_revision for event in response.events if event.kv is not None]
        assert revisions == sorted(revisions), "Ordered"
        if seen:
            last = seen[-1].kv
            assert last is not None
            assert revisions[0] > last.mod_revision, "Atomic: a revision is in one response"
        assert response.header is not None
        assert response.header.revision >= revisions[-1]
        assert len(set(revisions)) <= 1000
        seen += response.events

    def check_progress(self, response: WatchResponse) -> None:
        """Bookmarkable: everything up to the header's revision came before."""
        assert response.header is not None
        rev = response.header.revision
        ids = self.requests if response.watch_id == -1 else [response.watch_id]
        for watch_id in ids:
            if watch_id not in self.ended:
                assert len(self.seen[watch_id]) == len(
                    [r for r in self.expected(watch_id) if r.main <= rev]
                ), "Bookmarkable"

    def expected(self, watch_id: int) -> list[Record]:
        request = self.requests[watch_id]
        return [
            record
            for record in self.world.model.records
            if record.main >= self.starts[watch_id]
            and covers(request.key, request.range_end, record.key)
            and (1 if record.kv is None else 0) not in request.filters
        ]

    def check(self) -> None:
        """Filter, Reliable, Resumable: what was asked for, from the start asked for, without a gap."""
        model = self.world.model
        for watch_id, seen in self.seen.items():
            expected = self.expected(watch_id)
            if watch_id in self.ended:
                assert len(seen) <= len(expected)
                expected = expected[: len(seen)]
            assert len(seen) == len(expected), (watch_id, self.requests[watch_id])
            for event, record in zip(seen, expected, strict=True):
                assert event.kv is not None
                assert (event.kv.key, event.kv.mod_revision) == (record.key, record.main)
                assert event.type == (1 if record.kv is None else 0)
                if record.kv is not None:
                    assert event.kv == record.kv
                before = model.state(record.main - 1).get(record.key)
                is_create = record.kv is not None and record.kv.version == 1
                if not self.requests[watch_id].prev_kv or is_create:
                    assert event.prev_kv is None
                elif record.main - 1 >= model.compact_rev:
                    assert event.prev_kv == before, "PrevKV"
                else:
                    assert event.prev_kv in (None, before), "PrevKV"


class World:
    def __init__(self, seed: int) -> None:
        self.rng = Random(seed)
        self.backend = FakeBackend()
        self.store = Store(self.backend, AnyLease())
        self.compactor = Compactor(self.store)
        self.hub = WatchHub(self.store)
        self.model = Model()
        self.clients = [Client(self) for _ in range(3)]

    def write(self) -> None:
        """One entry, applied to both."""
        rng = self.rng
        store = self.store
        store.begin()
        kind = rng.randrange(3)
        try:
            if kind == 0:
                put = draw.put_request(rng)
                self.model.put(put)
                store.put(put)
            elif kind == 1:
                delete = draw.delete_request(rng)
                self.model.delete_range(delete)
                store.delete_range(delete)
            else:
                txn = draw.txn_request(rng, store.rev)
                check_txn(txn)
                self.model.txn(txn)
                apply_txn(store, txn)
        except errors.EtcdError:
            pass
        changes = store.end()
        if changes and self.hub.active:
            self.hub.notify(store.rev, changes)
        self.model.end()
        assert self.model.rev == store.rev

    def watch(self) -> None:
        rng = self.rng
        range_end = rng.choice(draw.ENDS)
        key = rng.choice(draw.KEYS)
        if range_end and range_end != b"\0" and range_end <= key:
            return
        start = rng.choice([0, 0, rng.randint(1, self.store.rev), self.store.rev + rng.randint(0, 8)])
        rng.choice(self.clients).create(
            WatchCreateRequest(
                key=key,
                range_end=range_end,
                start_revision=start,
                filters=rng.choice([[], [], [0], [1]]),
                prev_kv=draw.one_in(rng, 2),
                progress_notify=draw.one_in(rng, 2),
            )
        )

    def compact(self) -> None:
        rev = self.store.rev - self.rng.randint(0, 12)
        if rev > self.store.compact_rev:
            self.store.compact(rev)
            self.model.compact(rev)

    def install_snapshot(self) -> None:
        """Replace the store by one that is ahead: the entries between were never applied here."""
        hub, store = self.hub, self.store
        watched, store.watched = store.watched, False
        active, hub.active = hub.active, False
        for _ in range(self.rng.randrange(4)):
            self.write()
        store.watched, hub.active = watched, active
        self.backend.flush()
        store.restore()
        self.compactor = Compactor(store)
        hub.resync()

    def settle(self) -> None:
        while True:
            for client in self.clients:
                client.read()
            if self.hub.step() and not any(client.unread for client in self.clients):
                return


@pytest.fixture(params=["small limits", "real limits"])
def _limits(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Limits so small that short histories run into each of them."""
    if request.param == "small limits":
        monkeypatch.setattr(hub_module, "BATCH_REVISIONS", 7)
        monkeypatch.setattr(hub_module, "BATCH_BYTES", 300)
        monkeypatch.setattr(hub_module, "GROUP_MAX", 2)
        monkeypatch.setattr(hub_module, "SLICE_EVENTS", 25)
        monkeypatch.setattr(hub_module, "_SWEEP_FIRST", 2)


@pytest.mark.usefixtures("_limits")
@pytest.mark.parametrize("seed", range(60))
def test_watchers_see_what_they_asked_for(seed: int) -> None:
    world = World(seed)
    rng = world.rng
    snapshots = rng.choice([0, 3])
    for _ in range(150):
        kind = rng.randrange(40)
        if kind < 22:
            world.write()
        elif kind < 25:
            world.watch()
        elif kind < 29:
            world.hub.step()
        elif kind < 33:
            rng.choice(world.clients).read()
        elif kind < 34:
            world.compact()
        elif kind < 36:
            world.compactor.step()
        elif kind < 37:
            world.backend.flush()
        elif kind < 38:
            client = rng.choice(world.clients)
            rng.choice([client.stream.progress, client.stream.tick])()
        elif kind < 39 and snapshots:
            snapshots -= 1
            world.install_snapshot()
    world.settle()
    for client in world.clients:
        client.check()
        if not client.ended and client.seen and all(s <= world.store.rev for s in client.starts.values()):
            before = client.progress_count
            client.stream.progress()
            assert client.progress_count == before + 1
    ended = sum(len(client.ended) for client in world.clients)
    assert world.hub.slow_watcher_count == ended
    for client in world.clients:
        client.stream.close()
    assert world.hub.watcher_count == world.hub.stream_count == 0
    assert not world.hub.active
    assert not world.store.watched
