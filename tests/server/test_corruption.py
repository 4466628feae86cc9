"""Members compare hashes (contract config-metrics section 9.4; history #13766)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest
from tests.server.fakepeers import Asked, FakePeers, use_peers
from tests.server.lab import Lab, simulated

from petcd import errors
from petcd.api.peer_pages import hash_kv_json
from petcd.mvcc import KVHash
from petcd.pb import etcdserverpb as pb
from petcd.server import alarms as alarm
from petcd.server.corruption import CorruptionMonitor, initial_check, parse_hash_kv
from petcd.server.membership import ClusterMember
from petcd.server.peering import PeerAnswer

OTHERS = (0xB, 0xC)
Answer = Callable[[Asked], PeerAnswer]


def answer(store_revision: int, kv: KVHash) -> PeerAnswer:
    return PeerAnswer(200, {}, hash_kv_json(store_revision, kv))


def refusal(status: int, text: str) -> PeerAnswer:
    return PeerAnswer(status, {}, f"{text}\n".encode())


SILENT = PeerAnswer(0, {}, b"connection refused")


async def own_hash(lab: Lab, revision: int = 0) -> KVHash:
    response = await lab.call(pb.HashKVRequest(revision=revision))
    return KVHash(response.hash, response.hash_revision, response.compact_revision)


def give_others(lab: Lab, answers: dict[int, Answer]) -> FakePeers:
    """Two more members, each of which answers for itself."""
    member = lab.member
    for other in OTHERS:
        member.membership.members[other] = ClusterMember(other, (f"http://{other:x}:1",), f"{other:x}")
    return use_peers(
        lab, lambda asked: answers[int(asked.urls[0][len("http://") :].partition(":")[0], 16)](asked)
    )


def test_answers_are_read() -> None:
    full = PeerAnswer(
        200, {}, b'{"header":{"revision":4},"hash":123,"compact_revision":-1,"hash_revision":3}\n'
    )
    assert parse_hash_kv(full) == (KVHash(123, 3, -1), 4)
    old = PeerAnswer(200, {}, b'{"header":{"revision":4},"hash":123,"compact_revision":2}')
    assert parse_hash_kv(old) == (KVHash(123, 0, 2), 4)
    for bad, text in (
        (SILENT, "connection refused"),
        (refusal(400, "mvcc: required revision has been compacted"), errors.Compacted.text),
        (refusal(400, "mvcc: required revision is a future revision"), errors.FutureRev.text),
        (refusal(412, "cluster ID mismatch"), errors.ClusterIDMismatch.text),
        (refusal(500, "odd"), "unknown error: odd"),
        (PeerAnswer(200, {}, b"{}"), "not an answer about hashes"),
        (PeerAnswer(200, {}, b'{"header":{"revision":"4"}}'), "not an answer about hashes"),
        (PeerAnswer(200, {}, b"[]"), "not an answer about hashes"),
    ):
        with pytest.raises(ValueError, match=f"^{text}$"):
            parse_hash_kv(bad)
    with pytest.raises(ValueError):
        parse_hash_kv(PeerAnswer(200, {}, b"<html>"))


# -- at start ----------------------------------------------------------------------------------------------


async def check(lab: Lab, answers: dict[int, Answer]) -> tuple[str, FakePeers]:
    peers = give_others(lab, answers)
    done: list[str] = []
    initial_check(lab.member, done.append)
    await asyncio.sleep(0.1)
    (text,) = done
    return text, peers


PASSED = "initial corruption checking passed; no corruption"
NOT_COMPARED = "initial corruption check was not able to compare with all peers"


@simulated()
async def test_a_start_among_equals(lab: Lab) -> None:
    await lab.put(b"a")
    same = await own_hash(lab)
    text, peers = await check(lab, {0xB: lambda _: answer(2, same), 0xC: lambda _: answer(9, same)})
    assert text == ""
    assert lab.messages(PASSED) == [{"local-member-id": f"{lab.member.id:x}"}]
    assert [asked.urls for asked in peers.asked] == [("http://b:1",), ("http://c:1",)]
    asked = peers.asked[0]
    assert (asked.method, asked.path, asked.body) == ("GET", "/members/hashkv", b'{"revision":2}')
    assert asked.headers == {
        "Content-Type": "application/json",
        "X-Etcd-Cluster-Id": f"{lab.member.cluster_id:x}",
    }


@simulated()
async def test_a_start_that_is_refused(lab: Lab) -> None:
    same = await own_hash(lab)
    other = same._replace(hash=same.hash ^ 1)
    text, _ = await check(lab, {0xB: lambda _: answer(2, same), 0xC: lambda _: answer(2, other)})
    assert text == f"{lab.member.id:x} found data inconsistency with peers"
    (line,) = lab.messages("found different hash values from remote peer")
    assert (line["remote-peer-id"], line["remote-peer-hash"]) == ("c", other.hash)
    assert not lab.messages(PASSED)


@simulated()
async def test_who_cannot_be_compared_is_not_equal(lab: Lab) -> None:
    same = await own_hash(lab)
    elsewhere = same._replace(hash=same.hash ^ 1, compact_revision=1)
    cases: list[tuple[PeerAnswer, str]] = [
        (SILENT, "failed hash kv request"),
        (
            refusal(400, "mvcc: required revision is a future revision"),
            "cannot fetch hash from slow remote peer",
        ),
        (
            refusal(400, "mvcc: required revision has been compacted"),
            "cannot fetch hash from remote peer; local member is behind",
        ),
        (refusal(412, "cluster ID mismatch"), "cluster ID mismatch"),
        (answer(1, elsewhere), "found different compact revision values from remote peer"),
        (answer(1, same._replace(revision=77)), "failed hash kv request"),
    ]
    for number, (odd, line) in enumerate(cases, 1):
        text, _ = await check(lab, {0xB: lambda _: answer(1, same), 0xC: lambda _, odd=odd: odd})  # type: ignore[misc]
        assert text == ""
        assert lab.messages(line), line
        assert not lab.messages(PASSED)
        assert len(lab.messages(NOT_COMPARED)) == number


# -- the periodic check ------------------------------------------------------------------------------------


async def run_check(lab: Lab, answers: dict[int, Answer]) -> list[tuple[int, int]]:
    """The alarms after one check."""
    give_others(lab, answers)
    CorruptionMonitor(lab.member).check_newest()
    await asyncio.sleep(0.5)
    return lab.member.alarms.get()


@simulated()
async def test_a_check_that_finds_nothing(lab: Lab) -> None:
    await lab.put(b"a")
    same = await own_hash(lab)
    compacted = same._replace(compact_revision=-5, hash=1)  # an older compaction: not comparable
    for second in (answer(2, same), SILENT, answer(2, compacted)):
        answers: dict[int, Answer] = {0xB: lambda _: answer(2, same), 0xC: lambda _, it=second: it}  # type: ignore[misc]
        assert await run_check(lab, answers) == []
    counts = [line["number-of-peers-checked"] for line in lab.messages("finished peer corruption check")]
    assert counts == [2, 1, 2]


@simulated()
async def test_whom_the_leader_accuses(lab: Lab) -> None:
    await lab.put(b"a")
    same = await own_hash(lab)
    cases = [
        (answer(2, same._replace(hash=1)), "same compact revision then hashes must match"),
        (answer(3, same), "revision from follower must be less than or equal to leader's"),
        (
            answer(2, same._replace(compact_revision=2)),
            "compact revision from follower must be less than or equal to leader's",
        ),
    ]
    for odd, line in cases:
        answers: dict[int, Answer] = {0xB: lambda _: answer(2, same), 0xC: lambda _, odd=odd: odd}  # type: ignore[misc]
        assert await run_check(lab, answers) == [(0xC, alarm.CORRUPT)]
        assert [fields["follower-peer-id"] for fields in lab.messages(line)] == ["c"]
        await lab.call(pb.AlarmRequest(action=alarm.DEACTIVATE, memberID=0xC, alarm=alarm.CORRUPT))
    both: dict[int, Answer] = {0xB: lambda _: cases[0][0], 0xC: lambda _: cases[0][0]}
    assert await run_check(lab, both) == [(0xB, alarm.CORRUPT)]  # one alarm a pass
    assert await lab.refused(pb.PutRequest(key=b"a")) == (int(errors.Corrupt.code), errors.Corrupt.text)


@simulated()
async def test_the_leaders_own_hash_changes_under_it(lab: Lab) -> None:
    await lab.put(b"a")
    same = await own_hash(lab)
    rows = lab.member.backend.range(b"key", b"", None)

    def spoil(_asked: Asked) -> PeerAnswer:
        lab.member.backend.put(b"key", rows[0][0], b"not what was written")
        return answer(2, same)

    assert await run_check(lab, {0xB: spoil, 0xC: spoil}) == [(lab.member.id, alarm.CORRUPT)]
    lab.member.backend.put(b"key", *rows[0])


@simulated(corrupt_check_seconds=60.0)
async def test_checks_come_around(lab: Lab) -> None:
    monitor = CorruptionMonitor(lab.member)
    monitor.start()
    assert lab.messages("enabled corruption checking")[-1] == {
        "local-member-id": f"{lab.member.id:x}",
        "interval": "1m0s",
    }
    before = len(lab.messages("finished peer corruption check"))
    await asyncio.sleep(185)
    assert len(lab.messages("finished peer corruption check")) - before >= 3
    lab.member.lead = 7
    lab.logged.clear()
    await asyncio.sleep(100)
    assert not lab.messages("finished peer corruption check")
    monitor.stop()


# -- compacted revisions -----------------------------------------------------------------------------------


async def compacted(lab: Lab, *revisions: int) -> dict[int, KVHash]:
    """Compact at these revisions; the hashes that were made then."""
    for number in range(max(revisions)):
        await lab.put(b"a", b"%d" % number)
    for revision in revisions:
        await lab.call(pb.CompactionRequest(revision=revision, physical=True))
    return {one.revision: one for one in lab.member.store.hashes.newest_first()}


def requested(asked: Asked) -> int:
    revision: Any = json.loads(asked.body)["revision"]
    return int(revision)


def run_compact_check(lab: Lab, answers: dict[int, Answer]) -> tuple[CorruptionMonitor, FakePeers]:
    peers = give_others(lab, answers)
    monitor = CorruptionMonitor(lab.member)
    monitor.check_compacted()
    return monitor, peers


@simulated()
async def test_compactions_agree(lab: Lab) -> None:
    hashes = await compacted(lab, 3, 5)
    assert sorted(hashes) == [3, 5]

    def same(asked: Asked) -> PeerAnswer:
        return answer(6, hashes[requested(asked)])

    monitor, peers = run_compact_check(lab, {0xB: same, 0xC: same})
    await asyncio.sleep(0.5)
    assert [requested(asked) for asked in peers.asked] == [5, 5]
    assert lab.messages("successfully checked hash on whole cluster")
    assert lab.messages("finished compaction hash check")[-1] == {"number-of-hashes-checked": 1}
    monitor.check_compacted()  # all of it was checked
    await asyncio.sleep(0.5)
    assert len(peers.asked) == 2
    assert lab.messages("finished compaction hash check")[-1] == {"number-of-hashes-checked": 0}
    assert lab.member.alarms.get() == []


@simulated()
async def test_a_revision_somebody_skipped_is_not_checked(lab: Lab) -> None:
    hashes = await compacted(lab, 3, 5)

    def same(asked: Asked) -> PeerAnswer:
        return answer(6, hashes[requested(asked)])

    def behind(asked: Asked) -> PeerAnswer:
        if requested(asked) == 5:
            return answer(6, hashes[5]._replace(compact_revision=2, hash=1))
        return SILENT

    monitor, peers = run_compact_check(lab, {0xB: same, 0xC: behind})
    await asyncio.sleep(0.5)
    assert [requested(asked) for asked in peers.asked] == [5, 5, 3, 3]
    reasons = [line["reason"] for line in lab.messages("Skipped peer's hash")]
    assert reasons == ["the peer's CompactRevision 2 doesn't match leader's CompactRevision 3", "no response"]
    assert not lab.messages("successfully checked hash on whole cluster")
    assert lab.member.alarms.get() == []
    peers.answer = same
    monitor.check_compacted()
    await asyncio.sleep(0.5)
    assert [requested(asked) for asked in peers.asked[4:]] == [5, 5]
    assert lab.messages("successfully checked hash on whole cluster")


@simulated()
async def test_the_minority_is_accused(lab: Lab) -> None:
    hashes = await compacted(lab, 3)
    odd = hashes[3]._replace(hash=1)
    run_compact_check(lab, {0xB: lambda _: answer(6, hashes[3]), 0xC: lambda _: answer(6, odd)})
    await asyncio.sleep(0.5)
    assert lab.member.alarms.get() == [(0xC, alarm.CORRUPT)]
    (line,) = lab.messages("Detected compaction hash mismatch")
    assert (line["peer-ids"], line["quorum-exist"]) == ("c", True)


@simulated()
async def test_the_leader_may_be_the_minority(lab: Lab) -> None:
    hashes = await compacted(lab, 3)
    odd = hashes[3]._replace(hash=1)
    run_compact_check(lab, {0xB: lambda _: answer(6, odd), 0xC: lambda _: answer(6, odd)})
    await asyncio.sleep(0.5)
    assert lab.member.alarms.get() == [(lab.member.id, alarm.CORRUPT)]


@simulated()
async def test_without_a_majority_nobody_is_named(lab: Lab) -> None:
    hashes = await compacted(lab, 3)
    run_compact_check(
        lab,
        {
            0xB: lambda _: answer(6, hashes[3]._replace(hash=1)),
            0xC: lambda _: answer(6, hashes[3]._replace(hash=2)),
        },
    )
    await asyncio.sleep(0.5)
    assert lab.member.alarms.get() == [(0, alarm.CORRUPT)]
    assert len(lab.messages("Detected compaction hash mismatch")) == 3


@simulated(features={"CompactHashCheck": True}, compact_hash_check_seconds=30.0)
async def test_compactions_are_checked_by_themselves(lab: Lab) -> None:
    hashes = await compacted(lab, 3)
    peers = give_others(lab, dict.fromkeys(OTHERS, lambda asked: answer(6, hashes[requested(asked)])))
    CorruptionMonitor(lab.member).start()
    await asyncio.sleep(31)
    assert len(peers.asked) >= 2
    assert lab.messages("successfully checked hash on whole cluster")
