"""What the backend holds after a conversion: the database as of its consistent index, and the membership."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.exchange.godir import (
    MEMBER,
    ONE_MEMBER,
    URL,
    GoDirectory,
    add,
    history,
    publish,
    put,
    rows,
    tree,
    v2,
    write_file,
)
from tests.exchange.taking import backend_rows, files, made, take_over
from tests.storage.bbolt.build import written

from petcd.logs import Logger
from petcd.pb import etcdserverpb as pb
from petcd.pb import raftpb
from petcd.pb.membershippb import (
    Attributes,
    ClusterMemberAttrSetRequest,
    ClusterVersionSetRequest,
    DowngradeInfoSetRequest,
)
from petcd.raft import ADD_LEARNER_NODE, ADD_NODE, REMOVE_NODE, UPDATE_NODE, Entry
from petcd.seams.real import RealDisk
from petcd.server.membership import ClusterMember
from petcd.storage import schema
from petcd.storage.datadir import BACKUP_NAME
from petcd.storage.snapshots import Snapshotter
from petcd.storage.wal import Wal, encode_hard_state, encode_snapshot_record

MINE = {
    "id": MEMBER,
    "peerURLs": [URL],
    "name": "a",
    "clientURLs": ["http://127.0.0.1:2379"],
}
COPIED = (schema.KEY, schema.LEASE, schema.ALARM, schema.AUTH, schema.AUTH_USERS, schema.AUTH_ROLES)


def members_in(found: Mapping[schema.Bucket, Mapping[bytes, bytes]]) -> list[dict[str, Any]]:
    return [json.loads(value) for _, value in sorted(found[schema.MEMBERS].items())]


@pytest.mark.parametrize(
    ("applied", "snapshot"),
    [(0, 0), (1, 0), (2, 0), (3, 0), (4, 0), (10, 0), (16, 0), (10, 4), (10, 10), (16, 10)],
)
def test_the_backend_is_that_of_the_consistent_index(tmp_path: Path, applied: int, snapshot: int) -> None:
    path = tmp_path / "data"
    before = made(path, applied=applied, snapshot=snapshot)
    assert take_over(path)
    found = backend_rows(path)
    wanted = rows(applied)
    for bucket in COPIED:
        assert found[bucket] == wanted[bucket]
    mine = {key: value for key, value in MINE.items() if applied >= 3 or key not in ("clientURLs",)}
    assert members_in(found) == ([mine] if applied else []), "the buckets' own members were never there"
    assert found[schema.MEMBERS_REMOVED] == {}
    assert found[schema.CLUSTER] == ({b"clusterVersion": b"3.4.0"} if applied >= 4 else {})
    if applied:
        assert found[schema.META] == {
            b"consistent_index": schema.encode_u64(applied),
            b"term": schema.encode_u64(1 if applied == 1 else 2),
            b"confState": b'{"voters":[%d],"auto_leave":false}' % MEMBER,
        }
    else:
        assert found[schema.META] == {}
    after = files(path)
    backup = f"{BACKUP_NAME}/"
    assert {n.removeprefix(backup): c for n, c in after.items() if n.startswith(backup)} == {
        name.removeprefix("member/"): content for name, content in before.items()
    }
    del before["member/snap/db"]
    assert {name: after.get(name) for name in before} == before
    assert not take_over(path), "once"


def conf(
    index: int, kind: int, member: ClusterMember | None = None, member_id: int = 0, **more: Any
) -> Entry:
    context = json.dumps({**member.to_shape(), **more}).encode() if member is not None else b""
    change = raftpb.ConfChange(type=kind, node_id=member.id if member else member_id, context=context)
    return Entry(2, index, 1, change.encode())


def learner(member_id: int, port: int) -> ClusterMember:
    return ClusterMember(member_id, (f"http://h:{port}",), is_learner=True)


CHANGES = [
    *history(1),  # 1 to 5
    conf(6, ADD_LEARNER_NODE, learner(7, 7)),
    conf(7, ADD_LEARNER_NODE, learner(8, 8)),  # one too many: no effect
    conf(8, UPDATE_NODE, ClusterMember(7, ("http://h:77",))),  # as Go does it: a learner is not named one
    conf(9, ADD_NODE, ClusterMember(9, ("http://h:9",))),
    publish(10, "nine", 9),
    conf(11, REMOVE_NODE, member_id=9),
    publish(12, "late", 9),
    conf(13, ADD_NODE, ClusterMember(9, ("http://h:9",))),  # removed ids do not come back
    conf(14, ADD_NODE, ClusterMember(10, ("http://h:10",))),
    v2(15, "/0/version", "3.5.0"),
    v2(16, "", "", "SYNC"),
    conf(17, ADD_NODE, ClusterMember(7, ()), isPromote=True),  # for Go it is no learner any more: no effect
]
TREE = tree(
    {
        **ONE_MEMBER,
        "7": {"raftAttributes": {"peerURLs": ["http://h:77"]}},
        "a": {"raftAttributes": {"peerURLs": ["http://h:10"]}},
    },
    removed=["9"],
    version="3.5.0",
)


@pytest.mark.parametrize(("snapshot", "content"), [(0, b""), (5, tree(ONE_MEMBER)), (16, TREE)])
def test_changes_of_the_membership(tmp_path: Path, snapshot: int, content: bytes) -> None:
    """The same from the log, from the tree, and from both."""
    path = tmp_path / "data"
    directory = GoDirectory(entries=CHANGES, applied=17, snapshot=snapshot, tree=content, contents=rows(5))
    directory.contents[schema.META][schema.CONSISTENT_INDEX] = schema.encode_u64(17)  # type: ignore[index]
    directory.configuration = ([MEMBER, 10], [7]) if snapshot == 16 else ([MEMBER], [])
    path.mkdir()
    directory.write(RealDisk(), str(path))
    assert take_over(path)
    found = backend_rows(path)
    assert members_in(found) == [
        MINE,
        {"id": 7, "peerURLs": ["http://h:77"], "isLearner": True},
        {"id": 10, "peerURLs": ["http://h:10"]},
    ]
    assert found[schema.MEMBERS_REMOVED] == {b"9": b"removed"}
    assert found[schema.CLUSTER] == {b"clusterVersion": b"3.5.0"}
    assert json.loads(found[schema.META][schema.CONF_STATE]) == {
        "voters": [10, MEMBER],
        "learners": [7],
        "auto_leave": False,
    }


def test_a_database_of_later_releases(tmp_path: Path) -> None:
    """With a storage version the buckets count; the configuration in it may be of before a restore."""

    def request(index: int, **set_: Any) -> Entry:
        return Entry(2, index, 0, pb.InternalRaftRequest(ID=index, **set_).encode())

    attributes = Attributes(name="a", client_urls=["http://127.0.0.1:2379"])
    entries = [
        add(1, name="a"),
        Entry(2, 2),
        request(
            3,
            cluster_member_attr_set=ClusterMemberAttrSetRequest(
                member_ID=MEMBER, member_attributes=attributes
            ),
        ),
        request(4, cluster_version_set=ClusterVersionSetRequest(ver="3.6.0")),
        request(5, downgrade_info_set=DowngradeInfoSetRequest(enabled=True, ver="3.5.0")),
        put(6, b"k"),
    ]
    contents = rows(0)
    member = json.dumps(MINE, separators=(",", ":")).encode()
    contents[schema.MEMBERS] = {b"%x" % MEMBER: member}
    contents[schema.CLUSTER] = {
        b"clusterVersion": b"3.6.0",
        b"downgrade": b'{"target-version":"3.5.0","enabled":true}',
    }
    contents[schema.META] = {
        b"confState": b'{"voters":[99],"auto_leave":false}',
        b"consistent_index": schema.encode_u64(5),
        b"storageVersion": b"3.6.0",
        b"term": schema.encode_u64(2),
    }
    path = tmp_path / "with"
    made(path, entries=entries, applied=5, contents=contents)
    assert take_over(path)
    found = backend_rows(path)
    assert found[schema.META].pop(schema.CONF_STATE) == b'{"voters":[%d],"auto_leave":false}' % MEMBER
    assert {**found[schema.META], b"confState": contents[schema.META][b"confState"]} == contents[schema.META]
    assert found[schema.MEMBERS] == contents[schema.MEMBERS]
    assert found[schema.MEMBERS_REMOVED] == contents[schema.MEMBERS_REMOVED]
    assert found[schema.CLUSTER] == contents[schema.CLUSTER]
    # 3.5 writes the same entries, and no storage version.
    del contents[schema.META][schema.STORAGE_VERSION]
    contents[schema.MEMBERS] = {b"dead": b'{"id":57005}'}
    path = tmp_path / "without"
    made(path, entries=entries, applied=5, contents=contents)
    assert take_over(path)
    again = backend_rows(path)
    assert members_in(again) == [MINE]
    assert again[schema.CLUSTER] == contents[schema.CLUSTER]


def test_a_database_that_was_received_and_not_put_in_place(tmp_path: Path) -> None:
    """A crash came between the snapshot's record and the database's move: what was received counts."""
    path = tmp_path / "data"
    made(path, applied=6, snapshot=10)
    received = written(rows(10))
    name = f"{10:016x}.snap.db"
    write_file(RealDisk(), f"{path}/member/snap/{name}", received)
    old = (path / "member/snap/db").read_bytes()
    assert take_over(path)
    assert backend_rows(path)[schema.KEY] == rows(10)[schema.KEY]
    backup = path / BACKUP_NAME / "snap"
    assert (backup / name).read_bytes() == received and (backup / "db").read_bytes() == old
    assert not (path / "member/snap" / name).exists()


def test_entries_that_a_received_snapshot_replaced(tmp_path: Path) -> None:
    """They stand in the log, with an earlier term, and nobody will apply them; so they may be anything."""
    path = tmp_path / "data"
    replaced = [Entry(2, 11, 0, b"\xff\xff"), Entry(2, 12, 0, b"\xff\xff")]
    made(path, entries=[*history(6), *replaced], applied=6, commit=6)
    disk = RealDisk()
    wal, _ = Wal.open(disk, f"{path}/member/wal")
    state = encode_hard_state(5, MEMBER, 10)
    wal.write(wal.encode([], state, True, encode_snapshot_record(10, 5, None)))
    wal.close()
    metadata = raftpb.SnapshotMetadata(conf_state=raftpb.ConfState(voters=[MEMBER]), index=10, term=5)
    snap = f"{path}/member/snap"
    Snapshotter(disk, snap).save(raftpb.Snapshot(data=tree(ONE_MEMBER), metadata=metadata))
    write_file(disk, f"{snap}/{10:016x}.snap.db", written(rows(10)))
    assert take_over(path)
    assert backend_rows(path)[schema.META][schema.TERM] == schema.encode_u64(5)


def test_a_snap_file_that_cannot_be_read_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "data"
    made(path, applied=12, snapshot=10)
    (path / f"member/snap/{9:016x}-{99:016x}.snap").write_bytes(b"rubbish")
    (path / f"member/snap/{2:016x}-{16:016x}.snap").write_bytes(
        (path / f"member/snap/{2:016x}-{10:016x}.snap").read_bytes()
    )
    lines: list[str] = []
    assert take_over(path, logger=Logger(lambda _level, message, _fields: lines.append(message)))
    assert "failed to read a snap file" in lines
    assert backend_rows(path)[schema.KEY] == rows(12)[schema.KEY]


def test_a_torn_end_is_left_to_the_start(tmp_path: Path) -> None:
    path = tmp_path / "data"
    made(path, applied=10)
    segment = next((path / "member/wal").glob("*.wal"))
    whole = segment.read_bytes().rstrip(b"\0")
    segment.write_bytes(whole[:-20])
    assert take_over(path)
    assert segment.read_bytes() == whole[:-20]


def test_an_earlier_backup_stays(tmp_path: Path) -> None:
    path = tmp_path / "data"
    made(path)
    (path / BACKUP_NAME).mkdir()
    (path / BACKUP_NAME / "mine").write_text("untouched")
    assert take_over(path)
    assert [one.name for one in (path / BACKUP_NAME).iterdir()] == ["mine"]
    assert (path / f"{BACKUP_NAME}-2" / "snap" / "db").exists()


def test_the_log_tells_how_far_it_is(tmp_path: Path) -> None:
    path = tmp_path / "data"
    made(path, entries=history(3000), applied=3004)
    lines: list[tuple[str, dict[str, Any]]] = []
    assert take_over(
        path, logger=Logger(lambda _level, message, fields: lines.append((message, dict(fields))))
    )
    progress = [fields for message, fields in lines if "percent" in fields]
    assert len(progress) > 3
    assert [one["percent"] for one in progress] == sorted(one["percent"] for one in progress)
    assert all(0 < one["pairs"] <= one["of-pairs"] and one["bytes"] for one in progress)
    first, last = lines[0], lines[-1]
    assert first == (
        "found a data directory of Go etcd; checking it before it is taken over",
        {"path": str(path)},
    )
    assert last[0] == "took over the data directory of Go etcd"
    assert last[1]["backup"] == f"{path}/{BACKUP_NAME}" and last[1]["pairs"] == progress[0]["of-pairs"]
