"""Random histories: Go is killed in the middle of one, and its directory served by Go and by petcd.

Both get a copy, so that both begin from the same files, and must say the same of everything. How much of it
is in the database and how much only in the log, is drawn as well.
"""

from __future__ import annotations

import dataclasses
import random
import shutil
import threading
from pathlib import Path

from tests.exchange.facts import facts
from tests.rpc import Rpc, Status
from tests.servers import Server

from petcd.pb import etcdserverpb as pb

_LAZY = ["--backend-batch-interval=1h", "--backend-batch-limit=100000000"]
_WRITERS = 3
_CHANGING = threading.Lock()
"""Go drops a change of the membership that comes at the heels of another; its client waits for nothing."""


class Writer(threading.Thread):
    """One client; it ends when the server is gone, or after ``requests_max``."""

    def __init__(self, endpoint: str, seed: int, requests_max: int) -> None:
        super().__init__(daemon=True)
        self._endpoint = endpoint
        self._random = random.Random(seed)
        self._left = requests_max
        self._leases: list[int] = []

    def run(self) -> None:
        with Rpc(self._endpoint, seconds_max=5) as rpc:
            while self._left:
                self._left -= 1
                try:
                    self._ask(rpc)
                except Status as refusal:
                    if refusal.code == 14:
                        return  # unavailable

    def _ask(self, rpc: Rpc) -> None:
        draw, leases = self._random, self._leases
        key = b"k%02d" % draw.randrange(30)
        kind = draw.random()
        if kind < 0.5:
            lease = draw.choice(leases) if leases and draw.random() < 0.3 else 0
            rpc.put(key, b"v" * draw.randrange(200), lease=lease)
        elif kind < 0.6:
            rpc.call(pb.DeleteRangeRequest(key=key, range_end=draw.choice([b"", key + b"\xff"])))
        elif kind < 0.75:
            puts = [pb.PutRequest(key=b"k%02d" % n, value=b"t") for n in range(draw.randrange(1, 5))]
            rpc.call(pb.TxnRequest(success=[pb.RequestOp(request_put=put) for put in puts]))
        elif kind < 0.85:
            leases.append(rpc.call(pb.LeaseGrantRequest(TTL=600)).ID)
        elif kind < 0.9:
            if leases:
                rpc.call(pb.LeaseRevokeRequest(ID=leases.pop()))
        elif kind < 0.95:
            header = rpc.get(key).header
            assert header is not None
            rpc.call(pb.CompactionRequest(revision=max(1, header.revision - 20)))
        else:
            url = f"http://127.0.0.1:{draw.randrange(10, 900)}"
            with _CHANGING:
                learner = rpc.call(pb.MemberAddRequest(peerURLs=[url], isLearner=True)).member
                rpc.put(b"added")
                rpc.call(pb.MemberRemoveRequest(ID=learner.ID))
                rpc.put(b"removed")


def compare_once(seed: int, directory: Path) -> str:
    """One round; what it was, in words. Raises: AssertionError."""
    draw = random.Random(seed)
    args = [f"--snapshot-count={draw.choice([7, 20, 50, 1000])}"]
    args += draw.choice([[], _LAZY, ["--backend-batch-limit=17"]])
    go = Server("go", directory / "go", args)
    ours = dataclasses.replace(go, kind="petcd", directory=directory / "petcd", args=[])
    try:
        go.start()
        requests = draw.randrange(20, 150)
        writers = [Writer(go.endpoint, seed * _WRITERS + n, requests * (1 + n)) for n in range(_WRITERS)]
        for writer in writers:
            writer.start()
        writers[0].join()
        go.kill()  # the others are in the middle of something
        for writer in writers:
            writer.join()
        shutil.copytree(go.directory, ours.directory)
        go.args = []
        go.start()
        with Rpc(go.endpoint) as rpc:
            answer = rpc.call(pb.HashKVRequest())
            oldest = min(max(0, answer.compact_revision) + 2, answer.header.revision)
        wanted = facts(go, oldest=oldest)
        go.kill()
        ours.start()
        found = facts(ours, oldest=oldest)
        for field in dataclasses.fields(wanted):
            assert getattr(found, field.name) == getattr(wanted, field.name), field.name
        return f"{' '.join(args)}: revision {wanted.revision}, {len(wanted.events)} events, all the same"
    finally:
        go.kill()
        ours.kill()
