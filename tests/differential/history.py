"""A random history of client operations, from a seed: what is asked, not what is answered.

The generator knows which keys, leases and revisions exist (it is told each answer), so that most operations
hit something and the rest miss on purpose. The mixture is meant to reach every row of the contract's tables
that a client can reach without knowing the server: all range options, all compares, nested transactions,
leases, compactions, and the errors of each.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field

from petcd.pb import etcdserverpb as pb
from petcd.pb.message import Message

GRPC_LIMIT = 1_572_864 + 512 * 1024
"""Largest message a server takes."""

PREFIXES = [(b"k/", b"k0"), (b"j/", b"j0"), (b"k/01", b"k/02"), (b"j/3/", b"j/30"), (b"x/", b"x0")]


@dataclass
class Knowledge:
    """What the answers so far have shown."""

    revision: int = 1
    compacted: int = 0
    leases: list[int] = field(default_factory=list)
    written: set[bytes] = field(default_factory=set)
    deletions: set[int] = field(default_factory=set)
    """Revisions that hold a deletion; a watch from exactly the compacted one differs between releases."""


class Generator:
    """Draws the next operation."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.known = Knowledge()
        keys = [b"k/%03d" % number for number in range(120)]
        keys += [b"j/%d/%d" % (a, b) for a in range(6) for b in range(6)]
        keys += [
            b"\x00",
            b"\x00\x01",
            b"a",
            b"a\x00",
            b"\xfe\xff",
            b"\xff",
            b"\xff\xff",
            "ключ".encode(),
            b"z" * 300,
        ]
        self.keys = keys
        self._lease_next = 1000

    # Parts.

    def key(self) -> bytes:
        rng = self.random
        draw = rng.random()
        if draw < 0.01:
            return b""
        if draw < 0.06:
            return b"missing/%d" % rng.randrange(50)
        return rng.choice(self.keys)

    def range(self) -> tuple[bytes, bytes]:
        """A key and a range end: single, prefix, from key, everything, an interval, or nonsense."""
        rng = self.random
        draw = rng.random()
        if draw < 0.35:
            return self.key(), b""
        if draw < 0.55:
            return rng.choice(
                [(b"k/", b"k0"), (b"j/", b"j0"), (b"k/01", b"k/02"), (b"j/3/", b"j/30"), (b"x/", b"x0")]
            )
        if draw < 0.62:
            return self.key(), b"\x00"
        if draw < 0.68:
            return b"\x00", b"\x00"
        one, other = self.key(), self.key()
        if draw < 0.95:
            return min(one, other), max(one, other)
        return max(one, other), min(one, other)

    def value(self) -> bytes:
        rng = self.random
        draw = rng.random()
        if draw < 0.1:
            return b""
        if draw < 0.97:
            return rng.randbytes(rng.randrange(1, 60))
        return rng.randbytes(rng.randrange(1000, 20_000))

    def lease(self) -> int:
        rng, leases = self.random, self.known.leases
        draw = rng.random()
        if draw < 0.75 or not leases:
            return 0
        if draw < 0.98:
            return rng.choice(leases)
        return rng.choice([-5, 7, 2**62])

    def revision(self, *, old: float = 0.25) -> int:
        """0, a revision that can be read, or one that cannot."""
        rng, known = self.random, self.known
        draw = rng.random()
        if draw > old:
            return 0
        if draw > 0.15 * old:
            return rng.randint(max(1, known.compacted), known.revision)
        return rng.choice([known.revision + 1, known.revision + 100, max(1, known.compacted - 1), 1, -1])

    def bound(self) -> int:
        rng, known = self.random, self.known
        return 0 if rng.random() < 0.85 else rng.randint(1, known.revision + 2)

    # Requests.

    def put(self) -> pb.PutRequest:
        rng = self.random
        request = pb.PutRequest(
            key=self.key(), value=self.value(), lease=self.lease(), prev_kv=rng.random() < 0.3
        )
        draw = rng.random()
        if draw < 0.05:
            request.ignore_value = True
            if rng.random() < 0.9:
                request.value = b""
        elif draw < 0.1:
            request.ignore_lease = True
            if rng.random() < 0.9:
                request.lease = 0
        elif draw < 0.11:
            request.ignore_value = request.ignore_lease = True
            request.value, request.lease = b"", 0
        return request

    def get(self) -> pb.RangeRequest:
        rng = self.random
        key, end = self.range()
        return pb.RangeRequest(
            key=key,
            range_end=end,
            limit=0 if rng.random() < 0.6 else rng.choice([1, 2, 3, 10, 50, -1]),
            revision=self.revision(),
            sort_order=rng.choice([0, 0, 0, 1, 2]),
            sort_target=rng.choice([0, 0, 0, 1, 2, 3, 4]),
            serializable=rng.random() < 0.3,
            keys_only=rng.random() < 0.15,
            count_only=rng.random() < 0.1,
            min_mod_revision=self.bound(),
            max_mod_revision=self.bound(),
            min_create_revision=self.bound(),
            max_create_revision=self.bound(),
        )

    def delete(self) -> pb.DeleteRangeRequest:
        rng = self.random
        key, end = self.range()
        if end and rng.random() < 0.85:  # wide deletions empty the store; few are enough
            end = b""
        return pb.DeleteRangeRequest(key=key, range_end=end, prev_kv=rng.random() < 0.4)

    def compare(self) -> pb.Compare:
        rng, known = self.random, self.known
        target = rng.randrange(5)
        compare = pb.Compare(result=rng.randrange(4), target=target)
        compare.key, compare.range_end = (self.key(), b"") if rng.random() < 0.7 else self.range()
        if rng.random() < 0.03:
            return compare
        if target == pb.CompareTarget.VERSION:
            compare.version = rng.randrange(4)
        elif target == pb.CompareTarget.CREATE:
            compare.create_revision = rng.choice([0, rng.randint(0, known.revision)])
        elif target == pb.CompareTarget.MOD:
            compare.mod_revision = rng.choice([0, rng.randint(0, known.revision)])
        elif target == pb.CompareTarget.VALUE:
            compare.value = self.value()
        else:
            compare.lease = self.lease()
        return compare

    def operation(self, depth: int) -> pb.RequestOp:
        draw = self.random.random()
        if draw < 0.45:
            return pb.RequestOp(request_put=self.put())
        if draw < 0.7:
            request = self.get()
            if self.random.random() < 0.7:
                request.revision = 0
            return pb.RequestOp(request_range=request)
        if draw < 0.85 or depth == 0:
            return pb.RequestOp(request_delete_range=self.delete())
        if draw < 0.855:
            return pb.RequestOp()
        return pb.RequestOp(request_txn=self.txn(depth - 1))

    def txn(self, depth: int = 2) -> pb.TxnRequest:
        rng = self.random
        most = 5 if depth == 2 else 3
        txn = pb.TxnRequest(
            compare=[self.compare() for _ in range(rng.choice([0, 1, 1, 2, 3]))],
            success=[self.operation(depth) for _ in range(rng.randrange(most))],
            failure=[self.operation(depth) for _ in range(rng.randrange(most))],
        )
        if depth == 2:
            spare_go(txn)
        return txn

    def big_txn(self) -> pb.TxnRequest:
        """At the limit of operations, or one above it."""
        count = self.random.choice([128, 128, 129])
        keys = self.random.sample(self.keys, min(count, len(self.keys)))
        operations = [pb.RequestOp(request_put=pb.PutRequest(key=key, value=self.value())) for key in keys]
        return pb.TxnRequest(success=operations)

    def grant(self) -> pb.LeaseGrantRequest:
        rng = self.random
        draw = rng.random()
        ttl = rng.choice([600, 3600, 10**6, 9_000_000_000])
        if draw < 0.05:
            ttl = 9_000_000_001
        if draw > 0.9 and self.known.leases:
            return pb.LeaseGrantRequest(TTL=ttl, ID=rng.choice(self.known.leases))
        self._lease_next += 1
        return pb.LeaseGrantRequest(TTL=ttl, ID=self._lease_next if rng.random() < 0.9 else -self._lease_next)

    def some_lease(self) -> int:
        leases = self.known.leases
        return self.random.choice(leases) if leases and self.random.random() < 0.9 else 424242

    def compaction(self) -> pb.CompactionRequest:
        rng, known = self.random, self.known
        draw = rng.random()
        if draw < 0.1:
            revision = rng.choice([known.revision + 1, known.compacted, 0, 1])
        else:
            revision = rng.randint(max(known.compacted, known.revision - 400), max(1, known.revision - 5))
        return pb.CompactionRequest(revision=revision, physical=rng.random() < 0.5)

    def hash_kv(self) -> pb.HashKVRequest:
        rng, known = self.random, self.known
        draw = rng.random()
        if draw < 0.8 and known.revision > known.compacted:
            return pb.HashKVRequest(revision=rng.randint(known.compacted + 1, known.revision))
        if draw < 0.9:
            return pb.HashKVRequest()
        return pb.HashKVRequest(revision=rng.choice([known.revision + 1, max(1, known.compacted - 1)]))

    def watch(self) -> pb.WatchCreateRequest:
        rng, known = self.random, self.known
        key, end = self.range()
        while key and end and end != b"\x00" and end <= key and rng.random() < 0.8:
            key, end = self.range()
        start = 0
        draw = rng.random()
        if draw < 0.5 and known.revision > known.compacted:
            start = rng.randint(known.compacted + 1, known.revision)
        elif draw < 0.55:
            start = known.revision + rng.randrange(1, 30)
        elif draw < 0.6 and known.compacted > 2:
            start = rng.randrange(1, known.compacted)
        elif draw < 0.65 and known.compacted and known.compacted not in known.deletions:
            start = known.compacted
        return pb.WatchCreateRequest(
            key=key,
            range_end=end,
            start_revision=start,
            prev_kv=rng.random() < 0.5,
            filters=rng.choice([[], [], [], [0], [1], [0, 1]]),
            fragment=rng.random() < 0.3,
        )

    def next(self) -> Message:
        """The next operation that is one request and one answer."""
        rng = self.random
        draw = rng.random()
        if draw < 0.36:
            return self.put()
        if draw < 0.58:
            return self.get()
        if draw < 0.66:
            return self.delete()
        if draw < 0.86:
            return self.txn()
        if draw < 0.865:
            return self.big_txn()
        if draw < 0.895:
            return self.grant()
        if draw < 0.905:
            return pb.LeaseRevokeRequest(ID=self.some_lease())
        if draw < 0.925:
            return pb.LeaseTimeToLiveRequest(ID=self.some_lease(), keys=rng.random() < 0.7)
        if draw < 0.935:
            return pb.LeaseLeasesRequest()
        if draw < 0.955:
            return pb.LeaseKeepAliveRequest(ID=self.some_lease())
        if draw < 0.96:
            return self.compaction()
        if draw < 0.963:
            return self.hash_kv()
        if draw < 0.9635:
            size = rng.choice([1_572_864 - 40, 1_572_864, GRPC_LIMIT])
            return pb.PutRequest(key=b"huge", value=bytes(size))
        return self.get() if draw < 0.98 else self.put()

    def observe(self, request: Message, answer: Message | None) -> None:
        """Learn from an answer; None stands for an error."""
        known = self.known
        if answer is None:
            return
        header = getattr(answer, "header", None)
        before = known.revision
        if header is not None and header.revision > known.revision:
            known.revision = header.revision
        if known.revision > before and not isinstance(request, pb.PutRequest):
            known.deletions.add(known.revision)
        if isinstance(request, pb.LeaseGrantRequest):
            known.leases.append(request.ID)
        elif isinstance(request, pb.LeaseRevokeRequest):
            known.leases.remove(request.ID)
        elif isinstance(request, pb.CompactionRequest):
            known.compacted = max(known.compacted, request.revision)


def spare_go(txn: pb.TxnRequest) -> None:
    """A txn that deletes a key and then puts it with ignore_value or ignore_lease ends Go's process."""
    operations = list(flatten(txn))
    if any(operation.request_delete_range is not None for operation in operations):
        for operation in operations:
            if operation.request_put is not None:
                operation.request_put.ignore_value = operation.request_put.ignore_lease = False


def flatten(txn: pb.TxnRequest) -> Iterator[pb.RequestOp]:
    """The operations of a txn and of those within it."""
    for operation in (*txn.success, *txn.failure):
        if operation.request_txn is not None:
            yield from flatten(operation.request_txn)
        else:
            yield operation
