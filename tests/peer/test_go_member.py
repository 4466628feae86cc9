"""Beside a real Go member, in a new cluster of two: the bytes are right in both directions.

Our half is the transport and a bare raft node with its log in memory; it answers whatever raft answers.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.peer.cluster import Station
from tests.servers import Server, free_port, needs_go_etcd

from petcd.raft import (
    ADD_NODE,
    MSG_APP,
    MSG_APP_RESP,
    MSG_HEARTBEAT,
    MSG_VOTE,
    MSG_VOTE_RESP,
    ConfChange,
    Config,
    Entry,
    HardState,
    Message,
    Node,
    SnapshotMetadata,
    decode_conf_change,
    encode_conf_change,
)
from petcd.seams.real import real_world
from petcd.server.ids import cluster_id, member_id
from petcd.server.membership import ClusterMember

pytestmark = [needs_go_etcd, pytest.mark.go]

TOKEN = "etcd-cluster"


class Half:
    """One Go member and ours."""

    def __init__(self, directory: Path) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.go = Server("go", directory, name="go")
        self.go_url = f"http://127.0.0.1:{self.go.peer_port}"
        self.go.args = [
            f"--initial-cluster=go={self.go_url},ours={self.url}",
            f"--initial-cluster-token={TOKEN}",
        ]
        self.id, self.go_id = member_id([self.url], TOKEN), member_id([self.go_url], TOKEN)
        self.received: list[Message] = []
        self.station: Station
        self.node: Node
        self.campaigns = True
        self._due = False
        self._ticker: Any = None

    async def start(self) -> None:
        world = real_world(asyncio.get_running_loop())
        members = sorted([(self.id, self.url, "ours"), (self.go_id, self.go_url, "go")])
        entries = []
        for index, (one, url, name) in enumerate(members, 1):
            context = ClusterMember(one, (url,), name).to_json().encode()
            kind, data = encode_conf_change(ConfChange(0, ADD_NODE, one, context))
            entries.append(Entry(1, index, kind, data))
        config = Config(self.id, random.Random(1), pre_vote=False, check_quorum=False)
        self.node = Node(config, HardState(1, 0, len(entries)), SnapshotMetadata(), entries)
        self.station = Station(
            world,
            self.id,
            self.url,
            directory=str(self.go.directory.parent / "snap"),
            cluster_id=cluster_id([self.id, self.go_id]),
        )
        self.station.receiver.on_message = self._receive
        await self.station.listen(self.port)
        self.station.transport.add(self.go_id, [self.go_url])
        self._ticker = asyncio.get_running_loop().create_task(self._tick())

    async def stop(self) -> None:
        self._ticker.cancel()
        self.station.transport.close()
        self.station.edge.abort()
        self.go.kill()
        await asyncio.sleep(0)

    def _receive(self, message: Message) -> None:
        self.received.append(message)
        self.node.step(message)
        self.ask()

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(0.1)
            if self.campaigns or self.node.is_leader:
                self.node.tick()
            self.ask()

    def ask(self) -> None:
        if not self._due:
            self._due = True
            asyncio.get_running_loop().call_soon(self._turn)

    def _turn(self) -> None:
        self._due = False
        node, transport = self.node, self.station.transport
        while node.has_ready():
            ready = node.ready()
            transport.send(ready.messages)
            transport.send(ready.messages_after_append)
            transport.flush()
            if ready.must_sync:
                node.persisted(ready.sequence)
            for entry in ready.committed:
                if entry.type:
                    node.apply_conf_change(decode_conf_change(entry))
                node.applied_to(entry.index)

    async def until(self, condition: Callable[[], bool], seconds_max: float = 20.0) -> None:
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds_max
        while loop.time() < end:
            if condition():
                return
            await asyncio.sleep(0.02)
        raise AssertionError(f"{self.station.texts()[-20:]}\n{self.go.log_tail()}")

    async def healthy(self) -> None:
        """Until Go serves; aside, because it asks us before it answers."""
        await asyncio.get_running_loop().run_in_executor(None, lambda: self.go.wait_ready(seconds_max=20.0))

    async def etcdctl(self, *args: str) -> str:
        done = await asyncio.get_running_loop().run_in_executor(None, lambda: self.go.etcdctl(*args))
        return str(done.stdout)

    def kinds(self) -> set[int]:
        return {message.type for message in self.received}


def with_half(test: Callable[[Half], Awaitable[None]], directory: Path, *args: str) -> None:
    async def run() -> None:
        half = Half(directory)
        half.go.args = [*half.go.args, *args]
        await half.start()
        half.go.spawn()
        try:
            await test(half)
        finally:
            await half.stop()

    asyncio.run(run())


def test_go_leads_and_we_follow(tmp_path: Path) -> None:
    """Its votes, its entries and its heartbeats decode; our votes and acknowledgements are taken."""

    async def test(half: Half) -> None:
        half.campaigns = False
        await half.until(lambda: half.node.lead == half.go_id and half.station.all_up(half.go_id))
        assert "OK" in await half.etcdctl("put", "foo", "bar")
        big = "x" * 100_000
        assert "OK" in await half.etcdctl("put", "big", big)
        await half.until(lambda: any(b"\x0a\x03foo\x12\x03bar" in e.data for e in entries(half.node)))
        await half.until(lambda: any(big.encode() in e.data for e in entries(half.node)))
        assert (await half.etcdctl("get", "foo")).split() == ["foo", "bar"], (
            "a read needs our heartbeat answer"
        )
        assert {MSG_VOTE, MSG_APP, MSG_HEARTBEAT} <= half.kinds()
        log = half.go.log()
        assert log.count("established TCP streaming connection with remote peer") >= 4
        assert "prober" not in log

    with_half(test, tmp_path / "go")


def test_we_lead_and_go_follows(tmp_path: Path) -> None:
    """It grants us its vote, takes our entries, and serves what they say."""

    async def test(half: Half) -> None:
        await half.until(lambda: half.station.all_up(half.go_id))
        half.node.campaign()
        half.ask()
        await half.until(lambda: half.node.is_leader and half.node.commit_index == half.node.last_index)
        # foo = bar, and a batch of many in one message
        puts = [bytes.fromhex("220a 0a03666f6f 1203626172 a2060208") + b"\x07"]
        puts += [
            bytes((0x22, 8, 0x0A, 6)) + b"key%03d" % n + bytes((0xA2, 6, 2, 8, 10 + n % 100))
            for n in range(300)
        ]
        half.node.propose([Entry(data=put) for put in puts])
        half.ask()
        await half.until(lambda: half.node.commit_index == half.node.last_index)
        await half.healthy()
        assert (await half.etcdctl("get", "foo")).split() == ["foo", "bar"], "read through our ReadIndex"
        assert len((await half.etcdctl("get", "key", "--prefix", "--keys-only")).split()) == 300
        assert {MSG_VOTE_RESP, MSG_APP_RESP} <= half.kinds()

    with_half(test, tmp_path / "go", "--election-timeout=20000")


def test_streams_survive_a_restart_of_either_side(tmp_path: Path) -> None:
    async def test(half: Half) -> None:
        half.campaigns = False
        await half.until(lambda: half.node.lead == half.go_id and half.station.all_up(half.go_id))
        half.go.kill()
        await half.until(lambda: half.station.transport.active_since(half.go_id) is None)
        half.go.spawn()
        await half.until(lambda: half.station.all_up(half.go_id))
        before = len(half.received)
        await half.until(lambda: any(m.type == MSG_HEARTBEAT for m in half.received[before:]))
        await half.healthy()
        assert "OK" in await half.etcdctl("put", "again", "1")

    with_half(test, tmp_path / "go")


def test_posts_reach_go_when_no_stream_is_up(tmp_path: Path) -> None:
    """It dials us in vain, because we refuse its streams, and the cluster works by posts all the same."""

    async def test(half: Half) -> None:
        half.campaigns = False
        await half.until(lambda: half.node.lead == half.go_id)
        assert half.station.transport.peer(half.go_id).streams[2:] == (False, False)  # type: ignore[union-attr]
        assert "OK" in await half.etcdctl("put", "posted", "1")

    async def run() -> None:
        half = Half(tmp_path / "go")
        await half.start()
        half.station.transport.attach = lambda member, kind, exchange: exchange.abort()  # type: ignore[method-assign]
        half.go.spawn()
        try:
            await test(half)
        finally:
            await half.stop()

    asyncio.run(run())


def test_a_removed_member_is_told_so_and_ends_without_failure(tmp_path: Path) -> None:
    async def test(half: Half) -> None:
        half.campaigns = False
        await half.until(lambda: half.node.lead == half.go_id and half.station.all_up(half.go_id))
        half.station.receiver.removed_ids.add(half.go_id)
        half.station.transport.remove(half.go_id)
        process = half.go.process
        assert process is not None
        await half.until(lambda: process.poll() is not None)
        assert process.returncode == 0
        assert "the member has been permanently removed from the cluster" in half.go.log()

    with_half(test, tmp_path / "go")


def entries(node: Node) -> Sequence[Entry]:
    return node.entries(node.first_index, node.last_index + 1)
