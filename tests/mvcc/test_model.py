"""The store against the model: random histories of puts, deletes, transactions, compactions, crashes."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from tests.mvcc import draw
from tests.mvcc.fake import AnyLease, FakeBackend
from tests.mvcc.model import Model

from petcd import errors
from petcd.mvcc import Compactor, Store, apply_txn, check_txn, start_hash_kv
from petcd.pb.etcdserverpb import (
    Compare,
    DeleteRangeRequest,
    DeleteRangeResponse,
    PutRequest,
    PutResponse,
    RangeRequest,
    RangeResponse,
    RequestOp,
    TxnRequest,
    TxnResponse,
)
from petcd.storage.schema import KEY

keys = st.sampled_from([b"\0", b"a", b"ab", b"abc", b"b", b"c", b"\xff"])
ends = st.sampled_from([b"", b"", b"\0", b"abd", b"b", b"c", b"d"])
values = st.sampled_from([b"", b"1", b"2", b"x" * 200])
leases = st.sampled_from([0, 0, 0, 7, 1 << 62, -3])
revisions = st.sampled_from([0, 0, 0, -1, -5, 1, 2, 3, 4, 5, 6, 8, 10, 13, 17, 25])

puts = st.builds(
    lambda key, value, lease, prev, iv, il: PutRequest(
        key=key,
        value=b"" if iv else value,
        lease=0 if il else lease,
        prev_kv=prev,
        ignore_value=iv,
        ignore_lease=il,
    ),
    keys,
    values,
    leases,
    st.booleans(),
    st.sampled_from([False, False, False, True]),
    st.sampled_from([False, False, False, True]),
)
deletes = st.builds(DeleteRangeRequest, key=keys, range_end=ends, prev_kv=st.booleans())
bounds = st.sampled_from([0, 0, 0, 2, 4, 7, 11, -1])
ranges = st.builds(
    RangeRequest,
    key=keys,
    range_end=ends,
    limit=st.sampled_from([0, 0, -1, 1, 2, 3, 5]),
    revision=revisions,
    sort_order=st.sampled_from([0, 0, 1, 2]),
    sort_target=st.sampled_from([0, 0, 1, 2, 3, 4]),
    keys_only=st.booleans(),
    count_only=st.sampled_from([False, False, False, True]),
    min_mod_revision=bounds,
    max_mod_revision=bounds,
    min_create_revision=bounds,
    max_create_revision=bounds,
)
compares = st.one_of(
    st.builds(
        Compare,
        key=keys,
        range_end=ends,
        result=st.integers(0, 3),
        target=st.integers(0, 4),
        version=st.integers(0, 3),
    ),
    st.builds(Compare, key=keys, result=st.integers(0, 3), target=st.just(2), mod_revision=st.integers(0, 9)),
    st.builds(
        Compare, key=keys, result=st.integers(0, 3), target=st.just(1), create_revision=st.integers(0, 9)
    ),
    st.builds(Compare, key=keys, range_end=ends, result=st.integers(0, 3), target=st.just(3), value=values),
    st.builds(Compare, key=keys, result=st.integers(0, 3), target=st.just(4), lease=st.sampled_from([0, 7])),
)
plain_ops = st.one_of(
    st.builds(lambda r: RequestOp(request_put=r), puts),
    st.builds(lambda r: RequestOp(request_delete_range=r), deletes),
    st.builds(lambda r: RequestOp(request_range=r), ranges),
)


def txn_of(ops: st.SearchStrategy[RequestOp]) -> st.SearchStrategy[TxnRequest]:
    return st.builds(
        TxnRequest,
        compare=st.lists(compares, max_size=2),
        success=st.lists(ops, max_size=4),
        failure=st.lists(ops, max_size=3),
    )


nested_ops = st.one_of(plain_ops, plain_ops, st.builds(lambda t: RequestOp(request_txn=t), txn_of(plain_ops)))
txns = txn_of(nested_ops)


def duplicates(request: TxnRequest) -> bool:
    try:
        check_txn(request)
    except errors.EtcdError:
        return True
    return False


class StoreAgainstModel(RuleBasedStateMachine):
    @initialize()
    def begin(self) -> None:
        self.backend = FakeBackend()
        self.lessor = AnyLease()
        self.store = Store(self.backend, self.lessor)
        self.compactor = Compactor(self.store)
        self.model = Model()

    def both(self, real: object, ideal: object) -> object:
        """Run both sides of one entry; the same answer or the same error."""
        store = self.store
        store.begin()
        rev = store.rev
        try:
            body: object = real()  # type: ignore[operator]
        except errors.EtcdError as error:
            body = type(error)
        store.end()
        try:
            expected: object = ideal()  # type: ignore[operator]
        except errors.EtcdError as error:
            expected = type(error)
            assert not self.model.open
            assert store.rev == rev
        self.model.end()
        if isinstance(body, bytes):
            assert body == expected.encode()  # type: ignore[attr-defined]
        else:
            assert body is expected
        assert store.rev == self.model.rev
        return expected

    @rule(request=puts)
    def put(self, request: PutRequest) -> None:
        answer = self.both(lambda: self.store.put(request), lambda: self.model.put(request))
        assert isinstance(answer, PutResponse | type)

    @rule(request=deletes)
    def delete_range(self, request: DeleteRangeRequest) -> None:
        answer = self.both(lambda: self.store.delete_range(request), lambda: self.model.delete_range(request))
        assert isinstance(answer, DeleteRangeResponse)

    @rule(request=txns)
    def txn(self, request: TxnRequest) -> None:
        if not duplicates(request):
            answer = self.both(lambda: apply_txn(self.store, request), lambda: self.model.txn(request))
            assert isinstance(answer, TxnResponse | type)

    @rule(request=ranges)
    def range(self, request: RangeRequest) -> None:
        answer = self.both(lambda: self.store.range(request), lambda: self.model.range(request))
        assert isinstance(answer, RangeResponse | type)

    @rule(request=ranges)
    def history(self, request: RangeRequest) -> None:
        """Every readable revision, with the same options."""
        for rev in range(max(1, self.model.compact_rev), self.model.rev + 1):
            request.revision = rev
            assert self.store.range(request) == self.model.range(request).encode()

    @rule(back=st.integers(-1, 6))
    def compact(self, back: int) -> None:
        rev = self.model.rev - back
        for side in (self.store, self.model):
            try:
                side.compact(rev)
                refused = None
            except errors.EtcdError as error:
                refused = type(error)
            if side is self.store:
                expected = refused
            else:
                assert refused is expected

    @precondition(lambda self: self.store.compaction_due)
    @rule(budget=st.sampled_from([1, 2, 3, 1000]), steps=st.integers(1, 4))
    def prune(self, budget: int, steps: int) -> None:
        self.compactor._batch = budget
        for _ in range(steps):
            self.compactor.step()

    @rule()
    def prune_all(self) -> None:
        self.compactor.run()
        assert not self.store.compaction_due
        if self.store.finished_compact_rev == self.model.compact_rev:
            stored = {key for key, _ in self.backend.range(KEY, b"", None)}
            assert stored == self.model.kept(self.model.compact_rev)

    @rule()
    def flush(self) -> None:
        self.backend.flush()

    @rule()
    def restart(self) -> None:
        """Stop after a flush and start again, possibly in the middle of a compaction."""
        self.backend.flush()
        self.backend = self.backend.crash()
        before = self.lessor.attached
        self.lessor = AnyLease()
        self.store = Store(self.backend, self.lessor)
        self.store.restore()
        self.lessor.attached = {(lease, key) for key, lease in self.store.key_leases.items()}
        assert self.lessor.attached == before
        assert self.store.compact_rev == self.model.compact_rev
        self.compactor = Compactor(self.store)

    @rule(back=st.integers(0, 5), budget=st.sampled_from([1, 3, 1000]))
    def hash_kv(self, back: int, budget: int) -> None:
        rev = self.model.rev - back
        if rev < max(1, self.model.compact_rev):
            return
        run = start_hash_kv(self.store, rev)
        while not run.step(budget):
            self.compactor.step()
        assert run.result().hash == self.model.hash_kv(rev)

    @invariant()
    def holds_together(self) -> None:
        if hasattr(self, "store"):
            self.store.check()
            assert self.store.rev == self.model.rev
            assert self.lessor.attached == {
                (kv.lease, kv.key) for kv in self.model.state().values() if kv.lease
            }


TestStoreAgainstModel = StoreAgainstModel.TestCase
TestStoreAgainstModel.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)


@pytest.mark.parametrize("seed", range(30))
def test_long_histories(seed: int) -> None:
    """The same rules, drawn from a seed: deeper than shrinkable examples go."""
    rng = Random(seed)
    machine = StoreAgainstModel()
    machine.begin()
    for _ in range(150):
        rev = machine.model.rev
        kind = rng.randrange(20)
        if kind < 4:
            machine.put(request=draw.put_request(rng))
        elif kind < 6:
            machine.delete_range(request=draw.delete_request(rng))
        elif kind < 11:
            machine.txn(request=draw.txn_request(rng, rev))
        elif kind < 13:
            machine.range(request=draw.range_request(rng, rev))
        elif kind < 14:
            machine.history(request=draw.range_request(rng, rev))
        elif kind < 15:
            machine.compact(back=rng.randint(-1, 6))
        elif kind < 17:
            machine.prune(budget=rng.choice([1, 2, 3, 1000]), steps=rng.randint(1, 4))
        elif kind < 18:
            rng.choice([machine.prune_all, machine.flush])()
        elif kind < 19:
            machine.hash_kv(back=rng.randint(0, 8), budget=rng.choice([1, 3, 1000]))
        else:
            machine.restart()
        machine.holds_together()
