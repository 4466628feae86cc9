"""Data directories as Go etcd leaves them, written by hand: no Go needed, and every detail can be chosen."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.storage.bbolt.build import revision, written

from petcd.pb import mvccpb, raftpb, splice
from petcd.pb.etcdserverpb import InternalRaftRequest, Metadata, PutRequest, Request, RequestHeader
from petcd.raft import ADD_NODE, ENTRY_CONF_CHANGE, ENTRY_NORMAL, Entry
from petcd.seams.disk import Disk
from petcd.server.membership import ClusterMember
from petcd.storage import schema
from petcd.storage.schema import Bucket
from petcd.storage.snapshots import Snapshotter
from petcd.storage.wal import Wal, encode_hard_state, encode_snapshot_record

MEMBER = 0x66D553261B52C411
CLUSTER = 0x48192AFC67498AF6
URL = "http://127.0.0.1:2380"
SEGMENT_BYTES = 32 << 10
_FIRST_PUT = 5
"""Index of the entry that makes revision 2."""

Contents = dict[Bucket, dict[bytes, bytes]]


def add(index: int, member_id: int = MEMBER, url: str = URL, kind: int = ADD_NODE, name: str = "") -> Entry:
    member = ClusterMember(member_id, (url,), name, is_learner=kind == 3)
    change = raftpb.ConfChange(type=kind, node_id=member_id, context=member.to_json().encode())
    return Entry(1, index, ENTRY_CONF_CHANGE, change.encode())


def v2(index: int, path: str, value: str, method: str = "PUT") -> Entry:
    request = Request(ID=index, Method=method, Path=path, Val=value)
    return Entry(2, index, ENTRY_NORMAL, request.encode())


def publish(index: int, name: str = "a", member_id: int = MEMBER) -> Entry:
    shape = {"name": name, "clientURLs": ["http://127.0.0.1:2379"]}
    return v2(index, f"/0/members/{member_id:x}/attributes", json.dumps(shape))


def put(index: int, key: bytes, value: bytes = b"v") -> Entry:
    request = InternalRaftRequest(header=RequestHeader(ID=index), put=PutRequest(key=key, value=value))
    return Entry(2, index, ENTRY_NORMAL, request.encode())


def key_of(index: int) -> bytes:
    return b"k%03d" % index


def history(count: int = 12) -> list[Entry]:
    """What a new member of 3.4 logs, and then puts."""
    begun = [add(1, name="a"), Entry(2, 2), publish(3), v2(4, "/0/version", "3.4.0")]
    return begun + [put(index, key_of(index)) for index in range(_FIRST_PUT, _FIRST_PUT + count)]


def rows(applied: int) -> Contents:
    """The database after the puts up to the entry ``applied``."""
    keys = {}
    for index in range(_FIRST_PUT, applied + 1):
        rev = index - _FIRST_PUT + 2
        record = mvccpb.KeyValue(
            key=key_of(index), create_revision=rev, mod_revision=rev, version=1, value=b"v"
        )
        keys[revision(rev)] = record.encode()
    contents: Contents = {
        schema.KEY: keys,
        schema.MEMBERS: {b"dead": b'{"id":57005,"peerURLs":["http://gone:1"],"name":"gone"}'},
        schema.MEMBERS_REMOVED: {b"beef": b"removed"},
        schema.CLUSTER: {b"clusterVersion": b"3.3.0"},
        schema.LEASE: {schema.lease_key(9): b"\x08\x09\x10\x3c"},
        schema.ALARM: {b"\x08\x05\x10\x01": b""},
        schema.AUTH: {b"authRevision": schema.encode_u64(3)},
        schema.AUTH_USERS: {b"u" * 600: b"\x0a\x01u"},
        schema.AUTH_ROLES: {b"r": b"\x0a\x01r"},
        schema.META: {},
    }
    if applied:
        contents[schema.META][schema.CONSISTENT_INDEX] = schema.encode_u64(applied)
    return contents


def tree(members: dict[str, Any], removed: Sequence[str] = (), version: str = "3.4.0", **roots: Any) -> bytes:
    """The v2 store in a ``.snap`` file; ``members`` are their leaves' values by hexadecimal id."""

    def node(value: str = "", children: dict[str, Any] | None = None) -> dict[str, Any]:
        return {"Path": "", "Value": value, "Children": children}

    system = {
        "members": node(
            children={
                one: node(children={leaf: node(json.dumps(value)) for leaf, value in leaves.items()})
                for one, leaves in members.items()
            }
        ),
        "removed_members": node(children={one: node() for one in removed}),
    }
    if version:
        system["version"] = node(version)
    root = node(children={"0": node(children=system), "1": node(children={}), **roots})
    return json.dumps({"Root": root, "CurrentIndex": 1, "CurrentVersion": 2}).encode()


ONE_MEMBER = {
    f"{MEMBER:x}": {
        "raftAttributes": {"peerURLs": [URL]},
        "attributes": {"name": "a", "clientURLs": ["http://127.0.0.1:2379"]},
    }
}


@dataclass
class GoDirectory:
    """What to write."""

    entries: list[Entry] = field(default_factory=history)
    applied: int = 10
    snapshot: int = 0
    """Index of the ``.snap`` file; 0: there is none."""
    tree: bytes = field(default_factory=lambda: tree(ONE_MEMBER))
    commit: int | None = None
    """The last entry's index unless given."""
    contents: Contents | None = None
    """``rows(applied)`` unless given."""
    configuration: tuple[list[int], list[int]] = field(default_factory=lambda: ([MEMBER], []))
    """Voters and learners in the ``.snap`` file."""

    def write(self, disk: Disk, path: str) -> None:
        member = f"{path}/member"
        disk.mkdir(f"{member}/snap", mode=0o700)
        contents = rows(self.applied) if self.contents is None else self.contents
        write_file(disk, f"{member}/snap/db", written(contents))
        first = [one for one in self.entries if one.index <= self.snapshot]
        later = self.entries[len(first) :]
        commit = self.entries[-1].index if self.commit is None else self.commit
        wal = Wal.create(
            disk,
            f"{member}/wal",
            Metadata(NodeID=MEMBER, ClusterID=CLUSTER).encode(),
            _records(first),
            encode_hard_state(2, MEMBER, self.snapshot) if first else None,
            segment_bytes=SEGMENT_BYTES,
        )
        if self.snapshot:
            term = first[-1].term
            conf_state = raftpb.ConfState(voters=self.configuration[0], learners=self.configuration[1])
            metadata = raftpb.SnapshotMetadata(conf_state=conf_state, index=self.snapshot, term=term)
            Snapshotter(disk, f"{member}/snap").save(raftpb.Snapshot(data=self.tree, metadata=metadata))
            wal.write(wal.encode([], None, True, encode_snapshot_record(self.snapshot, term, None)))
        wal.write(wal.encode(_records(later), encode_hard_state(2, MEMBER, commit), True))
        wal.close()
        disk.sync_dir(f"{member}/snap")
        disk.sync_dir(member)
        disk.sync_dir(path)


def write_file(disk: Disk, path: str, content: bytes) -> None:
    file = disk.open(path, create=True, mode=0o600)
    file.truncate(0)
    file.pwrite(content, 0)
    file.sync()
    file.close()


def _records(entries: Sequence[Entry]) -> list[tuple[int, bytes]]:
    return [(one.index, splice.entry(one.type, one.term, one.index, one.data)) for one in entries]
