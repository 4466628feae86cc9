"""The lessor: which leases there are, which keys hang on them, and when they expire.

A state machine without a clock: each call that needs the time is given it, in seconds of the member's
monotonic clock. Grants, revocations and checkpoints come from the log and are the same on all members;
renewals and expiry happen at the leader (the *primary*) alone. Elsewhere a lease has no expiry at all, so
no member can end one early.

Only the grant is stored (bucket ``lease``). The keys of a lease are found again from the ``lease`` field of
the keys themselves when the index is rebuilt.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from typing import Final

from petcd import errors
from petcd.pb.leasepb import Lease as LeaseRecord
from petcd.storage import schema
from petcd.storage.backend import Backend

TTL_SECONDS_MAX: Final = 9_000_000_000
FOREVER: Final = float("inf")

_EXPIRED_PER_ROUND_MAX: Final = 500
_SPREAD_LEASE_COUNT: Final = 1000
"""From this many leases on, a new primary spreads the expiries it sets."""
_REVOKES_PER_SECOND: Final = 750
_CHECKPOINT_INTERVAL_SECONDS: Final = 300


class Lease:
    """One lease. ``expiry`` is in monotonic seconds, or FOREVER on a member that is not the primary."""

    __slots__ = ("expiry", "id", "keys", "remaining_ttl", "revoking", "ttl")

    def __init__(self, lease_id: int, ttl: int, remaining_ttl: int = 0) -> None:
        self.id = lease_id
        self.ttl = ttl
        self.remaining_ttl = remaining_ttl
        """Seconds left at the last checkpoint; 0 when there was none since the last renewal."""
        self.expiry = FOREVER
        self.keys: set[bytes] = set()
        self.revoking = False
        """The primary has proposed its end; asked again only after a pause."""

    def remaining_seconds(self, now: float) -> int:
        """Whole seconds left, never negative; the granted TTL on a member that does not count time."""
        if self.expiry == FOREVER:
            return self.ttl
        return max(0, int(self.expiry - now))


class Lessor:
    """All leases of a member. Which lease a key has is the store's to know; a lease lists its keys."""

    def __init__(self, backend: Backend, min_ttl_seconds: int) -> None:
        self._backend = backend
        self._min_ttl = min_ttl_seconds
        self._leases: dict[int, Lease] = {}
        self._expiries: list[tuple[float, int]] = []
        """A heap. An entry may be older than its lease's expiry; it is then put back when it comes up."""
        self.primary = False
        self.granted = self.revoked = self.renewed = self.expired = 0
        """Totals for the metrics."""

    def restore(self, attachments: Mapping[bytes, int]) -> None:
        """Read all leases from the backend and attach keys to those that exist."""
        self._leases.clear()
        self._expiries.clear()
        for _, value in self._backend.range(schema.LEASE, b"", None):
            record = LeaseRecord.decode(value)
            self._leases[record.ID] = Lease(record.ID, max(record.TTL, self._min_ttl), record.RemainingTTL)
        for key, lease_id in attachments.items():
            lease = self._leases.get(lease_id)
            if lease is not None:
                lease.keys.add(key)

    # -- what the log says ---------------------------------------------------------------------------

    def grant(self, lease_id: int, ttl: int, now: float) -> Lease:
        """Make a lease. A TTL below the minimum is raised to it.

        Raises:
            LeaseTTLTooLarge, LeaseExist: in this order.
        """
        if ttl > TTL_SECONDS_MAX:
            raise errors.LeaseTTLTooLarge()
        if lease_id in self._leases:
            raise errors.LeaseExist()
        lease = Lease(lease_id, max(ttl, self._min_ttl))
        self._leases[lease_id] = lease
        if self.primary:
            self._set_expiry(lease, now + lease.ttl)
        self._store(lease)
        self.granted += 1
        return lease

    def revoke(self, lease_id: int) -> list[bytes]:
        """End a lease; returns its keys in ascending order, for the caller to delete in one revision.

        Raises:
            LeaseNotFound
        """
        lease = self._leases.pop(lease_id, None)
        if lease is None:
            raise errors.LeaseNotFound()
        self._backend.delete(schema.LEASE, schema.lease_key(lease_id))
        self.revoked += 1
        return sorted(lease.keys)

    def checkpoint(self, lease_id: int, remaining_ttl: int, now: float) -> None:
        """Note how much of a lease was left; unknown leases are ignored, they were revoked meanwhile."""
        lease = self._leases.get(lease_id)
        if lease is None:
            return
        lease.remaining_ttl = remaining_ttl
        self._store(lease)
        if self.primary and remaining_ttl > 0:
            self._set_expiry(lease, min(lease.expiry, now + remaining_ttl))

    # -- keys ----------------------------------------------------------------------------------------

    def exists(self, lease_id: int) -> bool:
        return lease_id in self._leases

    def attach(self, lease: int, key: bytes) -> None:
        """Hang ``key`` on a lease that exists; the store has taken it off the one before."""
        self._leases[lease].keys.add(key)

    def detach(self, lease: int, key: bytes) -> None:
        """Take ``key`` off; the lease may be gone already."""
        known = self._leases.get(lease)
        if known is not None:
            known.keys.discard(key)

    # -- the primary ---------------------------------------------------------------------------------

    def promote(self, now: float, extend_seconds: float) -> None:
        """Become the primary: every lease runs from now, with ``extend_seconds`` on top.

        A thousand leases or more that would end together are spread, so that their revocations do not
        arrive as one flood.
        """
        self.primary = True
        self._expiries.clear()
        for lease in self._leases.values():
            lease.revoking = False
            lease.expiry = now + extend_seconds + (lease.remaining_ttl or lease.ttl)
        if len(self._leases) >= _SPREAD_LEASE_COUNT:
            self._spread(now + extend_seconds)
        self._expiries = [(lease.expiry, lease.id) for lease in self._leases.values()]
        heapq.heapify(self._expiries)

    def demote(self) -> None:
        """Stop counting time; somebody else is the primary."""
        self.primary = False
        self._expiries.clear()
        for lease in self._leases.values():
            lease.expiry = FOREVER
            lease.revoking = False

    def renew(self, lease_id: int, now: float) -> int:
        """Start the lease's time again; returns its TTL in seconds.

        Raises:
            NotPrimaryLessor: this member does not count time.
            LeaseNotFound: unknown, or its end has been proposed already.
        """
        if not self.primary:
            raise errors.NotPrimaryLessor()
        lease = self._leases.get(lease_id)
        if lease is None or lease.expiry <= now:
            raise errors.LeaseNotFound()
        lease.expiry = now + lease.ttl
        self.renewed += 1
        return lease.ttl

    def is_expired(self, lease_id: int, now: float) -> bool:
        """Known, over, and its revocation still to come."""
        lease = self._leases.get(lease_id)
        return lease is not None and lease.expiry <= now

    def needs_checkpoint_reset(self, lease_id: int) -> bool:
        """Renewed leases must first forget their checkpoint, in the log."""
        lease = self._leases.get(lease_id)
        return lease is not None and lease.remaining_ttl > 0

    def take_expired(self, now: float, limit: int = _EXPIRED_PER_ROUND_MAX) -> list[int]:
        """Leases whose time is over and whose end is not proposed yet, at most ``limit``, oldest first.

        Each is marked; ``retry`` makes it come up again when its proposal failed.
        """
        found: list[int] = []
        heap = self._expiries
        while heap and heap[0][0] <= now and len(found) < limit:
            _, lease_id = heapq.heappop(heap)
            lease = self._leases.get(lease_id)
            if lease is None or lease.revoking:
                continue
            if lease.expiry > now:
                heapq.heappush(heap, (lease.expiry, lease_id))
                continue
            lease.revoking = True
            found.append(lease_id)
        return found

    def retry(self, lease_id: int) -> None:
        """The proposed end of this lease came to nothing: let it come up again."""
        lease = self._leases.get(lease_id)
        if lease is not None and lease.revoking:
            lease.revoking = False
            if lease.expiry != FOREVER:
                heapq.heappush(self._expiries, (lease.expiry, lease_id))

    def due_checkpoints(self, now: float) -> list[tuple[int, int]]:
        """(lease id, whole seconds left) of leases with more than a checkpoint interval to go."""
        due: list[tuple[int, int]] = []
        for lease in self._leases.values():
            left = lease.remaining_seconds(now)
            if _CHECKPOINT_INTERVAL_SECONDS < left < lease.ttl:
                due.append((lease.id, left))
        return due

    # -- looking -------------------------------------------------------------------------------------

    def get(self, lease_id: int) -> Lease | None:
        return self._leases.get(lease_id)

    def by_remaining(self) -> list[Lease]:
        """All leases, the one that ends first in front."""
        return sorted(self._leases.values(), key=lambda lease: (lease.expiry, lease.id))

    def __len__(self) -> int:
        return len(self._leases)

    # -- helpers -------------------------------------------------------------------------------------

    def _set_expiry(self, lease: Lease, expiry: float) -> None:
        lease.expiry = expiry
        heapq.heappush(self._expiries, (expiry, lease.id))

    def _store(self, lease: Lease) -> None:
        record = LeaseRecord(ID=lease.id, TTL=lease.ttl, RemainingTTL=lease.remaining_ttl)
        self._backend.put(schema.LEASE, schema.lease_key(lease.id), record.encode())

    def _spread(self, start: float) -> None:
        """Push back whatever exceeds the rate of revocations in its second."""
        in_order = sorted(self._leases.values(), key=lambda lease: lease.expiry)
        second, in_this_second = start, 0
        for lease in in_order:
            if lease.expiry >= second + 1:
                second, in_this_second = lease.expiry, 0
            if in_this_second >= _REVOKES_PER_SECOND:
                second, in_this_second = second + 1, 0
            lease.expiry = max(lease.expiry, second)
            in_this_second += 1
