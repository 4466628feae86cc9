"""Watches: events lost, doubled, reordered or announced too early in etcd, told again to petcd (contract
history, part 2). ``docs/history.md`` has the list."""

from __future__ import annotations

import asyncio

from tests.history.clusterlab import PROGRESS, ClusterLab, Watching, cluster, create, together
from tests.server.lab import Talk

from petcd.pb import etcdserverpb as pb


def put_op(key: bytes, value: bytes = b"") -> pb.RequestOp:
    return pb.RequestOp(request_put=pb.PutRequest(key=key, value=value))


@cluster()
async def test_15220_progress_never_ahead_of_events(lab: ClusterLab) -> None:
    """etcd#15220: a progress notification named a revision whose events were still to come, so that who
    resumed from there missed them."""
    lead, follower, _ = lab.ranked()
    connection = await follower.connect(window=2000)
    talk = Talk(connection.stream(b"/etcdserverpb.Watch/Watch"), pb.WatchResponse)
    keys = [b"a", b"b", b"c"]
    for key in keys:
        await talk.ask(create(key, progress_notify=True))
    # The watchers of a stream, by what each may still hear.
    lowest = dict.fromkeys(range(len(keys)), 2)
    heard: list[tuple[int, bytes]] = []
    progress: list[int] = []

    async def listen() -> None:
        while True:
            response = await talk.receive(1e6)
            revision = response.header.revision
            if response.watch_id == -1:
                progress.append(revision)
                for watcher in lowest:
                    lowest[watcher] = max(lowest[watcher], revision + 1)
            for event in response.events:
                assert event.kv.mod_revision >= lowest[response.watch_id], "it was said to be over"
                heard.append((event.kv.mod_revision, event.kv.key))
            if response.events:
                lowest[response.watch_id] = response.events[-1].kv.mod_revision + 1
            await asyncio.sleep(0.02)  # a slow reader: events wait at the member

    listening = lab.client.spawn(listen())
    told = 0
    for number in range(40):
        if number == 10:
            lab.isolate(follower)
        if number == 25:
            lab.heal()
        answers = await together([lead.put(keys[one % 3], b"x" * 5000) for one in range(6)])
        told += len(answers)
        talk.send(PROGRESS)
        await asyncio.sleep(0.02)
        talk.send(PROGRESS)
    await lab.settle()
    await asyncio.sleep(20)
    talk.send(PROGRESS)
    await asyncio.sleep(1)
    listening.cancel()
    assert not listening.done() or listening.result() is None
    assert [revision for revision, _ in sorted(heard)] == list(range(2, told + 2))
    assert progress[-1] == lead.member.store.rev
    assert sorted(progress) == progress


@cluster(watch_progress_notify_seconds=1.0)
async def test_15220_progress_of_each_watcher(lab: ClusterLab) -> None:
    """The same for the notifications that come by themselves, at a member that is behind."""
    lead, follower, _ = lab.ranked()
    watching = await follower.watching(progress_notify=True)
    quiet = await follower.watching(b"quiet", b"", progress_notify=True)
    for number in range(30):
        if number % 10 == 3:
            lab.isolate(follower)
        if number % 10 == 8:
            lab.heal()
        await lead.put(b"a%d" % number, b"v")
        await asyncio.sleep(0.4)
    await lab.settle()
    await asyncio.sleep(5)
    for one in (watching, quiet):
        one.check()
        assert one.progress[-1] == lead.member.store.rev
        assert sorted(one.progress) == one.progress
    assert len(watching.events) == 30
    assert not quiet.events and len(quiet.progress) > 10


@cluster()
async def test_17247_no_duplicate_events_in_a_txn(lab: ClusterLab) -> None:
    """etcd#17247: an event of a transaction came twice, when the watcher changed over from reading the past
    to hearing the present in the middle of it."""
    lead, follower, _ = lab.ranked()
    watchers: list[Watching] = []

    async def write() -> int:
        for number in range(150):
            ops = [put_op(b"k%d" % (number * 7 % 10 + one), b"%d" % number) for one in range(3)]
            ops.append(
                pb.RequestOp(request_delete_range=pb.DeleteRangeRequest(key=b"k%d" % (number % 20 + 30)))
            )
            ops.append(put_op(b"k%d" % ((number + 1) % 20 + 30)))
            await lead.call(pb.TxnRequest(success=ops))
        return lead.member.store.rev

    writing = lab.client.spawn(write())
    while not writing.done():
        watchers.append(await follower.watching(start=1 + len(watchers) % 9 * 10))
        if len(watchers) % 4 == 0:
            await asyncio.sleep(0.01)
    last = writing.result()
    await asyncio.sleep(2)
    assert len(watchers) > 20
    everything = max((one.seen for one in watchers), key=len)
    assert everything[-1][0] == last
    for one in watchers:
        one.check()
        assert one.seen == [event for event in everything if event[0] >= one.start]


@cluster()
async def test_17529_slow_reader_700_watchers(lab: ClusterLab) -> None:
    """etcd#17529: with many watchers on a stream whose reader was slow, events were lost."""
    lead, follower, _ = lab.ranked()
    connection = await follower.connect(window=4000)
    talk = Talk(connection.stream(b"/etcdserverpb.Watch/Watch"), pb.WatchResponse)
    count, writes = 700, 25
    for number in range(count):
        key = b"\0" if number % 2 else b"k%02d" % (number % writes)
        talk.send(create(key, range_end=b"\0" if number % 2 else b""))
    for _ in range(count):
        assert (await talk.receive()).created
    revisions = [await lead.put(b"k%02d" % (number % writes), b"v" * 50) for number in range(writes)]
    talk.send(PROGRESS)
    heard: dict[int, list[int]] = {number: [] for number in range(count)}
    expected = count // 2 * writes + count // 2
    total = 0
    while total < expected:
        response = await talk.receive()
        if response.watch_id == -1:
            assert total == expected, "progress before the events"
            continue
        for event in response.events:
            heard[response.watch_id].append(event.kv.mod_revision)
            total += 1
        if total % 500 == 0:
            await asyncio.sleep(0.05)
    for number, got in heard.items():
        assert got == (revisions if number % 2 else [revisions[number % writes]]), number
    assert await talk.silent(2)


@cluster(snapshot_count=20, snapshot_catchup_entries=5)
async def test_18089_delete_at_the_compacted_revision(lab: ClusterLab) -> None:
    """etcd#18089, #19179: a compaction at the revision of a deletion dropped its event, although watches
    from that revision on were still allowed."""
    lead, follower, other = lab.ranked()
    await lead.put(b"a", b"1")
    await lead.put(b"b", b"1")
    gone = await lead.delete(b"a")
    await lead.put(b"c", b"1")
    open_before = await follower.watching(start=gone)
    await lead.compact(gone, physical=True)
    await lab.settle()
    for seat in lab.seats:
        watching = await seat.watching(start=gone)
        await asyncio.sleep(0.5)
        assert watching.seen == [(gone, b"a"), (gone + 1, b"c")], seat
        watching.check()
    assert open_before.seen == [(gone, b"a"), (gone + 1, b"c")]
    assert await lead.refused(pb.RangeRequest(key=b"b", revision=gone - 1)) == (
        "etcdserver: mvcc: required revision has been compacted"
    )
    # Through a restart, and through a snapshot that another member receives.
    await other.restart()
    lab.isolate(follower)
    await asyncio.sleep(15)
    for number in range(60):
        await lead.put(b"k%d" % number)
    lab.heal()
    await lab.settle()
    assert follower.member.installer.count == 1
    for seat in lab.seats:
        watching = await seat.watching(start=gone)
        await asyncio.sleep(0.5)
        assert watching.seen[:2] == [(gone, b"a"), (gone + 1, b"c")], seat
    # One compaction further it may go, and everybody says so.
    await lead.compact(gone + 1, physical=True)
    await lab.settle()
    for seat in lab.seats:
        watching = await seat.watching(start=gone)
        await asyncio.sleep(0.5)
        assert watching.ended is not None and watching.ended.compact_revision == gone + 1
        assert not watching.events


@cluster(watch_progress_notify_seconds=0.5)
async def test_20221_watch_on_a_future_revision(lab: ClusterLab) -> None:
    """etcd#20221: a watch from a revision of the future heard of earlier events after it had been moved
    between the sets of watchers, and of progress before it had begun."""
    lead, follower, _ = lab.ranked()
    start = lead.member.store.rev + 100
    early = [await seat.watching(start=start, progress_notify=True) for seat in lab.seats]
    talk = await follower.watch()
    await talk.ask(create(b"a", start_revision=start))
    talk.send(PROGRESS)
    assert await talk.silent(2), "progress of a watcher that has not begun"
    for number in range(40):
        await lead.put(b"k%d" % number)
    lab.isolate(follower)
    for number in range(40):
        await lead.put(b"k%d" % number)
    lab.heal()
    await lab.settle()
    await asyncio.sleep(3)
    assert lead.member.store.rev < start
    for one in early:
        assert not one.events and not one.progress
    # A restart of the member, a new start: the same is asked for again.
    await lead.restart()
    await lab.settle()
    early.append(await lead.watching(start=start, progress_notify=True))
    for number in range(40):
        await follower.put(b"k%d" % number)
    await lab.settle()
    await asyncio.sleep(3)
    last = follower.member.store.rev
    for seat, one in zip([*lab.seats, lead], early, strict=True):
        one.check()
        if seat is lead and one is not early[-1]:
            continue  # its stream ended with the restart
        assert [revision for revision, _ in one.seen] == list(range(start, last + 1)), seat
        assert one.progress and min(one.progress) >= start


@cluster()
async def test_11496_watch_from_revision_0(lab: ClusterLab) -> None:
    """etcd#11496: what "from now on" means. It is the present of the member that is asked, told in the
    header of the answer; a member that is behind has an older one. Everything after it comes."""
    lead, follower, other = lab.ranked()
    revision = await lead.put(b"a", b"1")
    await lab.settle()
    watching = await follower.watching()
    assert watching.start == revision + 1
    lab.isolate(follower)
    newer = await lead.put(b"a", b"2")
    behind = await follower.watching()
    assert behind.start == revision + 1, "its own present"
    assert await other.get(b"a") == b"2", "a linearizable read first, and it is the newest"
    ahead = await other.watching()
    assert ahead.start == newer + 1
    lab.heal()
    await lab.settle()
    await asyncio.sleep(1)
    assert watching.seen == behind.seen == [(newer, b"a")]
    assert ahead.seen == []
    for one in (watching, behind, ahead):
        one.check()


@cluster()
async def test_watches_that_are_resumed_elsewhere(lab: ClusterLab) -> None:
    """Resumable (contract history, part 1): whichever member goes on where another one stopped."""
    lead, *_ = lab.ranked()
    got: list[tuple[int, bytes]] = []
    start = 2

    async def write() -> None:
        for number in range(120):
            await together([lab.seats[number % 3].put(b"k%d" % (number % 7), seconds=1)])
            await asyncio.sleep(0.02)

    writing = lab.client.spawn(write())
    turn = 0
    while not writing.done() or start <= lead.member.store.rev:
        seat = lab.seats[turn % 3]
        turn += 1
        watching = await seat.watching(start=start)
        if turn % 4 == 1:
            lab.isolate(seat)
        await asyncio.sleep(0.3)
        lab.heal()
        if turn == 5:
            await seat.restart()
            await lab.leader()
        watching.check()
        got += watching.seen
        if got:
            start = got[-1][0] + 1
        lead = await lab.leader()
        await lab.settle()
    check = await lead.watching(start=2)
    await asyncio.sleep(1)
    assert got == check.seen
