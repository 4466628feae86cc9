"""A short random history of writes for one simulated member, from a seed.

Everything in it goes through the log and is a function of what came before, so that two members that applied
the same prefix are in the same state. Times to live are long: nothing expires by itself.
"""

from __future__ import annotations

import random

from petcd.pb import etcdserverpb as pb
from petcd.pb.message import Message

KEYS = [b"k/%d" % number for number in range(8)]
LEASES = [101, 102, 103]


def history(seed: int, count: int) -> list[Message]:
    """``count`` requests that are valid in form; some are refused when they are applied."""
    rng = random.Random(seed)
    requests: list[Message] = []
    revision = 1  # an upper bound of the store's revision, good enough to aim compactions
    for number in range(count):
        draw = rng.random()
        if draw < 0.55:
            requests.append(_put(rng, number))
            revision += 1
        elif draw < 0.65:
            key = rng.choice(KEYS)
            end = b"" if rng.random() < 0.7 else b"k/5"
            requests.append(pb.DeleteRangeRequest(key=key, range_end=end, prev_kv=True))
            revision += 1
        elif draw < 0.8:
            requests.append(_txn(rng, number))
            revision += 1
        elif draw < 0.88:
            requests.append(pb.LeaseGrantRequest(TTL=100_000 + number, ID=rng.choice(LEASES)))
        elif draw < 0.94:
            requests.append(pb.LeaseRevokeRequest(ID=rng.choice(LEASES)))
            revision += 1
        else:
            requests.append(pb.CompactionRequest(revision=rng.randint(1, max(1, revision // 2))))
    return requests


def _put(rng: random.Random, number: int) -> pb.PutRequest:
    lease = rng.choice(LEASES) if rng.random() < 0.3 else 0
    value = b"%d/" % number + rng.randbytes(rng.randrange(30))
    return pb.PutRequest(key=rng.choice(KEYS), value=value, lease=lease, prev_kv=True)


def _txn(rng: random.Random, number: int) -> pb.TxnRequest:
    one, other = rng.sample(KEYS, 2)
    compare = pb.Compare(result=pb.CompareResult.GREATER, target=pb.CompareTarget.VERSION, key=one, version=1)
    put = pb.RequestOp(request_put=pb.PutRequest(key=one, value=b"then %d" % number))
    delete = pb.RequestOp(request_delete_range=pb.DeleteRangeRequest(key=other))
    otherwise = pb.RequestOp(request_put=pb.PutRequest(key=other, value=b"else %d" % number))
    return pb.TxnRequest(compare=[compare], success=[put, delete], failure=[otherwise])
