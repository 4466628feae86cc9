"""The lessor alone, with the time handed in (contract wire-v3 section 5, disk section 5.3)."""

from __future__ import annotations

import pytest

from petcd import errors
from petcd.lease import FOREVER, TTL_SECONDS_MAX, Lessor
from petcd.pb.leasepb import Lease as LeaseRecord
from petcd.storage import schema
from petcd.storage.memory_backend import MemoryBackend

MIN_TTL = 2


def new(backend: MemoryBackend | None = None, *, primary: bool = True) -> Lessor:
    lessor = Lessor(backend or MemoryBackend(), MIN_TTL)
    if primary:
        lessor.promote(0.0, 0.0)
    return lessor


def stored(backend: MemoryBackend) -> list[LeaseRecord]:
    return [LeaseRecord.decode(value) for _, value in backend.range(schema.LEASE, b"", None)]


def test_a_grant_is_raised_to_the_minimum_and_stored() -> None:
    backend = MemoryBackend()
    lessor = new(backend)
    assert [lessor.grant(i, ttl, 0.0).ttl for i, ttl in enumerate((-1, 0, 1, 2, 3))] == [2, 2, 2, 2, 3]
    assert [(one.ID, one.TTL) for one in stored(backend)] == [(0, 2), (1, 2), (2, 2), (3, 2), (4, 3)]
    assert lessor.granted == len(lessor) == 5


def test_refusals_in_order() -> None:
    lessor = new()
    lessor.grant(1, TTL_SECONDS_MAX, 0.0)
    with pytest.raises(errors.LeaseTTLTooLarge):
        lessor.grant(1, TTL_SECONDS_MAX + 1, 0.0)
    with pytest.raises(errors.LeaseExist):
        lessor.grant(1, 5, 0.0)
    with pytest.raises(errors.LeaseNotFound):
        lessor.revoke(2)
    with pytest.raises(errors.LeaseNotFound):
        lessor.renew(2, 0.0)
    lessor.demote()
    with pytest.raises(errors.NotPrimaryLessor):
        lessor.renew(1, 0.0)


def test_ids_are_any_int64() -> None:
    backend = MemoryBackend()
    lessor = new(backend)
    for lease_id in (-1, -(1 << 63), (1 << 63) - 1, 1):
        lessor.grant(lease_id, 5, 0.0)
    again = new(backend)
    again.restore({})
    assert {lease.id for lease in again.by_remaining()} == {-1, -(1 << 63), (1 << 63) - 1, 1}


def test_revoking_gives_the_keys_in_order_and_forgets() -> None:
    backend = MemoryBackend()
    lessor = new(backend)
    lessor.grant(1, 5, 0.0)
    for key in (b"c", b"a", b"b"):
        lessor.attach(1, key)
    lessor.detach(1, b"b")
    lessor.detach(9, b"b")
    assert lessor.revoke(1) == [b"a", b"c"]
    assert stored(backend) == []
    assert not lessor.exists(1)
    assert lessor.revoked == 1


def test_restoring_attaches_to_leases_that_exist() -> None:
    backend = MemoryBackend()
    lessor = new(backend)
    lessor.grant(1, 50, 0.0)
    lessor.checkpoint(1, 20, 0.0)
    again = new(backend, primary=False)
    again.restore({b"a": 1, b"b": 2})
    lease = again.get(1)
    assert lease is not None
    assert (lease.keys, lease.ttl, lease.remaining_ttl, lease.expiry) == ({b"a"}, 50, 20, FOREVER)
    assert lease.remaining_seconds(1e9) == 50, "who is not the primary does not count"
    assert again.take_expired(1e12) == []


def test_expiry_oldest_first_and_in_rounds() -> None:
    lessor = new()
    for lease_id, ttl in ((1, 30), (2, 10), (3, 20)):
        lessor.grant(lease_id, ttl, 0.0)
    assert lessor.take_expired(9.9) == []
    assert not lessor.is_expired(2, 9.9)
    assert lessor.take_expired(20.0) == [2, 3]
    assert lessor.is_expired(2, 10.0)
    assert lessor.take_expired(20.0) == [], "proposed once"
    lessor.retry(2)
    lessor.retry(2)
    assert lessor.take_expired(20.0) == [2]
    lessor.revoke(3)
    lessor.retry(3)
    assert lessor.take_expired(100.0) == [1]
    many = new()
    for lease_id in range(1200):
        many.grant(lease_id, 5, 0.0)
    assert [len(many.take_expired(5.0)) for _ in range(4)] == [500, 500, 200, 0]


def test_renewals_put_the_end_off() -> None:
    lessor = new()
    lessor.grant(1, 10, 0.0)
    for now in range(1, 100):
        assert lessor.renew(1, float(now)) == 10
        assert lessor.take_expired(float(now)) == []
    assert len(lessor._expiries) == 1, "a renewal costs no memory"
    assert lessor.take_expired(108.9) == []
    with pytest.raises(errors.LeaseNotFound):
        lessor.renew(1, 109.0)
    assert lessor.take_expired(109.0) == [1]


def test_a_new_primary_counts_from_its_start() -> None:
    lessor = new(primary=False)
    lessor.grant(1, 10, 0.0)
    lessor.grant(2, 100, 0.0)
    lessor.checkpoint(2, 40, 0.0)
    assert lessor.get(1).expiry == FOREVER  # type: ignore[union-attr]
    lessor.promote(1000.0, 1.5)
    assert [(lease.id, lease.expiry) for lease in lessor.by_remaining()] == [(1, 1011.5), (2, 1041.5)]
    lessor.demote()
    assert lessor.take_expired(1e9) == []
    assert {lease.expiry for lease in lessor.by_remaining()} == {FOREVER}
    lessor.promote(2000.0, 1.0)
    assert lessor.take_expired(2011.0) == [1], "what an earlier primary proposed is proposed again"


def test_many_leases_are_spread() -> None:
    """Contract 5: with a thousand leases or more, about 750 end in a second."""
    lessor = new(primary=False)
    for lease_id in range(3000):
        lessor.grant(lease_id, 10, 0.0)
    for lease_id in range(3000, 3010):
        lessor.grant(lease_id, 5000, 0.0)
    lessor.promote(0.0, 1.0)
    ends = sorted(lease.expiry for lease in lessor.by_remaining())
    assert ends[0] >= 11.0
    assert ends[-11] < 11.0 + 3000 / 750 + 1
    for second in range(11, 20):
        assert sum(second <= end < second + 1 for end in ends) <= 750
    assert ends[-10:] == [5001.0] * 10
    few = new(primary=False)
    for lease_id in range(999):
        few.grant(lease_id, 10, 0.0)
    few.promote(0.0, 1.0)
    assert {lease.expiry for lease in few.by_remaining()} == {11.0}


def test_checkpoints() -> None:
    backend = MemoryBackend()
    lessor = new(backend)
    lessor.grant(1, 1000, 0.0)
    lessor.grant(2, 301, 0.0)
    lessor.grant(3, 100, 0.0)
    assert lessor.due_checkpoints(0.0) == [], "a lease that nobody has used up needs none"
    assert lessor.due_checkpoints(0.5) == [(1, 999)]
    assert lessor.due_checkpoints(650.0) == [(1, 350)]
    assert lessor.due_checkpoints(750.0) == [], "five minutes or less are not worth one"
    lessor.checkpoint(1, 350, 650.0)
    lessor.checkpoint(77, 5, 650.0)
    assert stored(backend)[0].RemainingTTL == 350
    assert lessor.get(1).expiry == 1000.0  # type: ignore[union-attr]
    assert lessor.needs_checkpoint_reset(1)
    lessor.checkpoint(1, 0, 700.0)
    assert not lessor.needs_checkpoint_reset(1)
    assert lessor.get(1).expiry == 1000.0  # type: ignore[union-attr]
    for lease_id in range(10, 1510):
        lessor.grant(lease_id, 5000, 0.0)
    assert len(lessor.due_checkpoints(1.0)) == 1501


def test_remaining_seconds_are_whole_and_never_negative() -> None:
    lessor = new()
    lease = lessor.grant(1, 10, 0.0)
    assert [lease.remaining_seconds(now) for now in (0.0, 0.1, 9.5, 10.0, 99.0)] == [10, 9, 0, 0, 0]
