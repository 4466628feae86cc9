"""What a restarted server must still hold: every promise, and a hash that a replay confirms."""

from __future__ import annotations

import google_crc32c
from tests.crash.load import Acknowledged
from tests.rpc import Rpc

from petcd.pb import etcdserverpb as pb
from petcd.pb import mvccpb

PAGE = 5000


def read_all(rpc: Rpc, prefix: bytes) -> list[mvccpb.KeyValue]:
    """Every pair below a prefix, in pages at one revision."""
    end = prefix[:-1] + bytes((prefix[-1] + 1,))
    found: list[mvccpb.KeyValue] = []
    key, revision = prefix, 0
    while True:
        response = rpc.get(key, end, limit=PAGE, revision=revision)
        assert response.header is not None
        revision = revision or response.header.revision
        found += response.kvs
        if not response.more:
            return found
        key = response.kvs[-1].key + b"\x00"


def history(rpc: Rpc, revision: int) -> list[mvccpb.Event]:
    """All events from the first to ``revision``; the history must not be compacted."""
    stream = rpc.watch()
    create = pb.WatchCreateRequest(key=b"\x00", range_end=b"\x00", start_revision=1)
    stream.send(pb.WatchRequest(create_request=create))
    assert stream.receive().created
    events: list[mvccpb.Event] = []
    while not events or events[-1].kv is None or events[-1].kv.mod_revision < revision:
        response = stream.receive(30)
        assert not response.canceled, response
        events += response.events
    stream.cancel()
    return events


def hash_of(events: list[mvccpb.Event]) -> int:
    """HashKV of a history without compactions (contract/wire-v3.md section 8.4)."""
    checksum = google_crc32c.value(b"key")
    main = sub = 0
    for event in events:
        kv = event.kv
        assert kv is not None
        sub = sub + 1 if kv.mod_revision == main else 0
        main = kv.mod_revision
        key = main.to_bytes(8, "big") + b"_" + sub.to_bytes(8, "big")
        if event.type == mvccpb.EventType.DELETE:
            key, kv = key + b"t", mvccpb.KeyValue(key=kv.key)
        checksum = google_crc32c.extend(checksum, key + kv.encode())
    return int(checksum)


def check_promises(rpc: Rpc, acknowledged: Acknowledged, prefix: bytes) -> list[str]:
    """What is wrong with keys below ``prefix`` and with the overwritten ones, in words."""
    wrong = list(acknowledged.failures)
    response = rpc.get(b"o/", b"o0", count_only=True)
    assert response.header is not None
    if response.header.revision < acknowledged.revision:
        wrong.append(f"revision {response.header.revision} after {acknowledged.revision} was promised")
        return wrong
    found = {kv.key: kv for kv in read_all(rpc, prefix)}
    for key, (value, revision) in acknowledged.once.items():
        if not key.startswith(prefix):
            continue
        kv = found.pop(key, None)
        if kv is None:
            wrong.append(f"{key!r} of revision {revision} is lost")
        elif kv.value != value or kv.mod_revision != revision or kv.version != 1:
            wrong.append(f"{key!r} of revision {revision} is {kv}")
    for key, kv in found.items():
        if acknowledged.unanswered.get(key) != kv.value:
            wrong.append(f"{kv} was never asked for")
    return wrong


def check_history(rpc: Rpc, acknowledged: Acknowledged) -> list[str]:
    """Replay everything: overwrites at their revisions, no gap, and the same hash."""
    wrong: list[str] = []
    response = rpc.call(pb.HashKVRequest())
    events = history(rpc, response.header.revision)
    by_revision = {event.kv.mod_revision: event.kv for event in events if event.kv is not None}
    missing = set(range(2, response.header.revision + 1)) - set(by_revision)
    if missing:
        wrong.append(f"{len(missing)} revisions are missing, the first is {min(missing)}")
    for revision, (key, value) in acknowledged.shared.items():
        kv = by_revision.get(revision)
        if kv is None or kv.key != key or kv.value != value:
            wrong.append(f"{key!r} of revision {revision} is {kv}")
    if hash_of(events) != response.hash:
        wrong.append(f"HashKV says {response.hash}, the replay {hash_of(events)}")
    return wrong
