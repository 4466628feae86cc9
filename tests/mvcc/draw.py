"""Random requests from a seed: small alphabets, so that histories collide."""

from __future__ import annotations

from random import Random

from petcd.pb.etcdserverpb import (
    Compare,
    DeleteRangeRequest,
    PutRequest,
    RangeRequest,
    RequestOp,
    TxnRequest,
)

KEYS = [b"\0", b"a", b"ab", b"abc", b"b", b"c", b"\xff"]
ENDS = [b"", b"", b"\0", b"abd", b"b", b"c", b"d"]
VALUES = [b"", b"1", b"2", b"x" * 200]
LEASES = [0, 0, 0, 7, 1 << 62, -3]


def one_in(rng: Random, n: int) -> bool:
    return rng.randrange(n) == 0


def put_request(rng: Random) -> PutRequest:
    ignore_value = one_in(rng, 5)
    ignore_lease = one_in(rng, 5)
    return PutRequest(
        key=rng.choice(KEYS),
        value=b"" if ignore_value else rng.choice(VALUES),
        lease=0 if ignore_lease else rng.choice(LEASES),
        prev_kv=one_in(rng, 2),
        ignore_value=ignore_value,
        ignore_lease=ignore_lease,
    )


def delete_request(rng: Random) -> DeleteRangeRequest:
    return DeleteRangeRequest(key=rng.choice(KEYS), range_end=rng.choice(ENDS), prev_kv=one_in(rng, 2))


def range_request(rng: Random, rev: int) -> RangeRequest:
    def revision() -> int:
        return rng.choice([0, 0, 0, 0, -1, -5, rev, rev + 1, *(rng.randint(1, rev) for _ in range(4))])

    def filtered() -> int:
        return rng.randint(-1, rev) if one_in(rng, 6) else 0

    return RangeRequest(
        key=rng.choice(KEYS),
        range_end=rng.choice(ENDS),
        limit=rng.choice([0, 0, -1, 1, 2, 3, 5]),
        revision=revision(),
        sort_order=rng.choice([0, 0, 1, 2]),
        sort_target=rng.choice([0, 0, 1, 2, 3, 4]),
        keys_only=one_in(rng, 3),
        count_only=one_in(rng, 5),
        min_mod_revision=filtered(),
        max_mod_revision=filtered(),
        min_create_revision=filtered(),
        max_create_revision=filtered(),
    )


def compare(rng: Random, rev: int) -> Compare:
    made = Compare(
        key=rng.choice(KEYS), range_end=rng.choice(ENDS), result=rng.randrange(4), target=rng.randrange(5)
    )
    member = rng.randrange(6)
    if member == 0:
        made.version = rng.randint(0, 3)
    elif member == 1:
        made.create_revision = rng.randint(0, rev)
    elif member == 2:
        made.mod_revision = rng.randint(0, rev)
    elif member == 3:
        made.value = rng.choice(VALUES)
    elif member == 4:
        made.lease = rng.choice([0, 7])
    return made


def txn_request(rng: Random, rev: int, depth: int = 2) -> TxnRequest:
    def op() -> RequestOp:
        kind = rng.randrange(8)
        if kind < 3:
            return RequestOp(request_put=put_request(rng))
        if kind < 5:
            return RequestOp(request_range=range_request(rng, rev))
        if kind < 7 or depth == 0:
            return RequestOp(request_delete_range=delete_request(rng))
        return RequestOp(request_txn=txn_request(rng, rev, depth - 1))

    return TxnRequest(
        compare=[compare(rng, rev) for _ in range(rng.randrange(3))],
        success=[op() for _ in range(rng.randrange(5))],
        failure=[op() for _ in range(rng.randrange(4))],
    )
