"""Maintenance and membership against a real server."""

from __future__ import annotations

import asyncio
import hashlib
import subprocess
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
from tests.servers import GO_ETCDCTL, HAS_GO_ETCDCTL, Server, clean_environment, free_port

from petcd import errors
from petcd.client import (
    Alarm,
    AlarmType,
    Client,
    SnapshotDamaged,
    SnapshotProgress,
    TransportFailure,
)
from petcd.client.snapshots import save
from petcd.errors import Code, EtcdError
from petcd.pb.etcdserverpb.maintenance import SnapshotResponse


def test_status_and_hashes(server: Server) -> None:
    async def main() -> None:
        async with Client(server.endpoint) as client:
            revision = (await client.put("status", "1")).revision
            here = await client.maintenance.status()
            there = await client.maintenance.status(f"http://{server.endpoint}")
            assert here.leading
            assert not here.learner
            assert here.revision >= revision
            assert here.db_size >= here.db_size_in_use > 0
            assert (here.errors, here.downgrade_target) == ((), "")
            assert (there.member_id, there.cluster_id) == (here.member_id, here.cluster_id)
            assert here.raft_index >= here.raft_applied_index > 0
            assert int(here.version.split(".")[0]) == 3
            now = await client.maintenance.hash_kv()
            assert (await client.maintenance.hash_kv(now.revision, server.endpoint)).hash == now.hash
            assert now.compact_revision <= revision
            assert 0 <= await client.maintenance.hash() < 1 << 32

    asyncio.run(main())


def test_whether_authentication_is_on(server: Server) -> None:
    async def main() -> None:
        async with Client(server.endpoint) as client:
            if server.kind == "petcd":
                assert not (await client.auth.status()).enabled
                return
            with pytest.raises(EtcdError) as caught:  # since 3.4.31 and 3.5
                await client.auth.status()
            assert caught.value.code == Code.UNIMPLEMENTED

    asyncio.run(main())


def test_alarms(server: Server) -> None:
    async def main() -> None:
        async with Client(server.endpoint) as client:
            member = (await client.maintenance.status()).member_id
            raised = Alarm(member, AlarmType.NOSPACE)
            assert await client.maintenance.arm(member, AlarmType.NOSPACE) == [raised]
            assert await client.maintenance.alarms() == [raised]
            with pytest.raises(errors.NoSpace):
                await client.put("full", "1")
            assert await client.maintenance.disarm(alarm=AlarmType.CORRUPT) == []
            assert await client.maintenance.disarm() == [raised]
            assert await client.maintenance.alarms() == []
            await client.put("full", "1")

    asyncio.run(main())


def test_a_leader_does_not_move_to_a_stranger(server: Server) -> None:
    async def main() -> None:
        async with Client(server.endpoint) as client:
            with pytest.raises(EtcdError) as caught:
                await client.maintenance.move_leader(4711)
            assert caught.value.code in (Code.FAILED_PRECONDITION, Code.UNKNOWN)

    asyncio.run(main())


def test_downgrades_where_the_server_has_them(server: Server) -> None:
    async def main() -> None:
        async with Client(server.endpoint) as client:
            for call in (
                client.maintenance.downgrade_validate("3.6"),
                client.maintenance.downgrade_enable("2.0"),
                client.maintenance.downgrade_cancel(),
            ):
                try:
                    assert await call
                except EtcdError as error:
                    expected = (Code.UNIMPLEMENTED, Code.INVALID_ARGUMENT, Code.FAILED_PRECONDITION)
                    assert error.code in expected  # noqa: PT017

    asyncio.run(main())


def test_a_snapshot_in_a_file(server: Server, tmp_path: Path) -> None:
    seen: list[SnapshotProgress] = []

    async def main() -> None:
        async with Client(server.endpoint) as client:
            for n in range(40):
                await client.put(f"snap/{n}", bytes(50_000))
            saved = await client.maintenance.save_snapshot(tmp_path / "db", progress=seen.append)
            data = (tmp_path / "db").read_bytes()
            assert saved.path == tmp_path / "db"
            assert saved.size == len(data) > 2_000_000
            assert hashlib.sha256(data[:-32]).digest() == data[-32:]
            # Over a connection of its own to one member, and over an older file.
            await client.maintenance.save_snapshot(str(tmp_path / "db"), endpoint=f"http://{server.endpoint}")

    asyncio.run(main())
    assert [path.name for path in tmp_path.iterdir()] == ["db"]
    received = [progress.received for progress in seen]
    assert received == sorted(received)
    assert seen[-1].received == seen[-1].total
    assert len(seen) > 10
    if HAS_GO_ETCDCTL:
        args = [GO_ETCDCTL, "snapshot", "status", str(tmp_path / "db")]
        environment = clean_environment({"ETCDCTL_API": "3"})
        status = subprocess.run(args, env=environment, check=True, capture_output=True, text=True)
        assert int(status.stdout.split(",")[2]) >= 40


def test_a_damaged_snapshot_leaves_nothing(tmp_path: Path) -> None:
    async def pieces(data: bytes) -> AsyncGenerator[SnapshotResponse, None]:
        for at in range(0, len(data), 1000):
            yield SnapshotResponse(blob=data[at : at + 1000])

    data = bytes(range(256)) * 20
    good = data + hashlib.sha256(data).digest()

    async def main() -> None:
        saved = await save(pieces(good), tmp_path / "good", None)
        assert saved.size == len(good)
        for bad in (good[:-1], good[:2000], b"x" + good[1:], good + b"\0", b""):
            with pytest.raises(SnapshotDamaged):
                await save(pieces(bad), tmp_path / "bad", None)

    asyncio.run(main())
    assert [path.name for path in tmp_path.iterdir()] == ["good"]


@pytest.mark.parametrize("named", [False, True])
def test_a_snapshot_of_nobody_ends_and_leaves_nothing(tmp_path: Path, named: bool) -> None:
    async def main() -> None:
        endpoint = f"127.0.0.1:{free_port()}"
        async with Client(endpoint, timeout=0.2) as client:
            with pytest.raises(TransportFailure):
                await client.maintenance.save_snapshot(tmp_path / "db", endpoint=endpoint if named else None)

    asyncio.run(main())
    assert list(tmp_path.iterdir()) == []


def test_members_come_and_go(own_server: Server) -> None:
    async def main() -> None:
        async with Client(own_server.endpoint) as client:
            (first,) = await client.cluster.members()
            assert first.started
            assert not first.learner
            assert first.client_urls == (own_server.url,)
            url, moved = (f"http://127.0.0.1:{free_port()}" for _ in range(2))
            learner = await client.cluster.add(url, learner=True)
            assert (learner.learner, learner.started, learner.peer_urls) == (True, False, (url,))
            with pytest.raises(errors.LearnerNotReady):
                await client.cluster.promote(learner.id)
            with pytest.raises(errors.MemberNotLearner):
                await client.cluster.promote(first.id)
            with pytest.raises(errors.TooManyLearners):
                await client.cluster.add(moved, learner=True)
            # The ids are equal too when both are made within one second.
            with pytest.raises((errors.PeerURLExist, errors.MemberExist)):
                await client.cluster.add([url])
            members = await client.cluster.update(learner.id, [moved])
            assert next(each for each in members if each.id == learner.id).peer_urls == (moved,)
            assert await client.sync_endpoints() == [own_server.url]
            assert await client.cluster.remove(learner.id) == [first]
            assert await client.cluster.members(linearizable=False) == [first]
            with pytest.raises(errors.MemberNotFound):
                await client.cluster.remove(learner.id)
            assert (await client.get("x")).count == 0

    asyncio.run(main())


@pytest.mark.slow
def test_a_learner_becomes_a_voter_and_the_leader(own_server: Server, tmp_path: Path) -> None:
    """``promote`` is refused until the learner has caught up; ``move_leader`` must ask the leader."""
    joining = Server(own_server.kind, tmp_path / "second", name="second")
    peers = f"default=http://127.0.0.1:{own_server.peer_port},second=http://127.0.0.1:{joining.peer_port}"
    joining.args = [f"--initial-cluster={peers}", "--initial-cluster-state=existing"]

    async def promote(client: Client, member: int) -> None:
        async with asyncio.timeout(20):
            while True:
                try:
                    members = await client.cluster.promote(member)
                except (errors.LearnerNotReady, errors.MemberNotEnoughStarted, errors.Unhealthy):
                    await asyncio.sleep(0.1)
                else:
                    assert not any(each.learner for each in members)
                    return

    async def main() -> None:
        async with Client(own_server.endpoint, timeout=10.0) as client:
            url = f"http://127.0.0.1:{joining.peer_port}"
            added = await client.cluster.add(url, learner=True)
            joining.spawn()
            await promote(client, added.id)
            await asyncio.to_thread(joining.wait_ready)
            assert sorted(await client.sync_endpoints()) == sorted([own_server.url, joining.url])
            with pytest.raises(errors.NotLeader):
                await client.maintenance.move_leader(added.id, joining.endpoint)
            await client.maintenance.move_leader(added.id, own_server.endpoint)
            status = client.maintenance.status
            async with asyncio.timeout(10):
                while (await status(own_server.endpoint)).leader != added.id:  # noqa: ASYNC110
                    await asyncio.sleep(0.02)
            assert (await client.maintenance.status(joining.endpoint)).leading

    try:
        asyncio.run(main())
    finally:
        joining.kill()
