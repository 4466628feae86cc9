"""The scenarios can fail: the mistake that a row of history was is made again, in one rule of our own code,
and the scenario that is named after the row must notice.

``tests/raft/test_mutations.py`` has those of consensus alone, under random faults.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from tests.history import test_consensus as consensus
from tests.history import test_leases as leases
from tests.history import test_membership as membership
from tests.history import test_storage as storage
from tests.history import test_watch as watch
from tests.raft.test_mutations import edit

from petcd import embed
from petcd.lease.lessor import Lessor
from petcd.mvcc import txn
from petcd.mvcc.compaction import Compactor
from petcd.mvcc.restore import Restorer
from petcd.mvcc.watch.hub import WatchHub
from petcd.mvcc.watch.stream import WatchStream
from petcd.peer.sending import SnapshotPost
from petcd.raft import leader
from petcd.raft.progress import Progress
from petcd.server import bootstrap
from petcd.server.config import Config
from petcd.server.leadcheck import LeadCheck
from petcd.server.member import Member
from petcd.server.membership import Membership
from petcd.storage.backend import BufferedBackend
from petcd.testing.drive import Loss

Patch = Callable[[pytest.MonkeyPatch], None]


def silence(owner: object, name: str) -> Patch:
    """The function does nothing."""

    def apply(patch: pytest.MonkeyPatch) -> None:
        patch.setattr(owner, name, lambda *_args, **_options: None)

    return apply


def both(one: Patch, other: Patch) -> Patch:
    def apply(patch: pytest.MonkeyPatch) -> None:
        one(patch)
        other(patch)

    return apply


async def _found_anyway(*_args: object) -> None:
    return


MUTATIONS: dict[str, tuple[Patch, Callable[[], Any]]] = {
    "answer reads without asking a quorum": (
        edit(leader, "_admit_read", "raft.config.lease_based_reads", "True"),
        consensus.test_20418_no_read_from_a_leader_that_is_cut_off,
    ),
    "acknowledge before the sync": (
        lambda patch: patch.setattr(Config, "unsafe_no_fsync", True),
        consensus.test_14140_power_loss_on_all_nodes_at_once,
    ),
    "press a member that lost its log": (
        edit(
            Progress,
            "maybe_decrease",
            "or rejected <= self.match:\n        return False\n    self.next = max",
            ":\n        return False\n    self.next = max",
        ),
        consensus.test_13066_wiped_disk,
    ),
    "let a member found twice": (
        lambda patch: patch.setattr(embed, "refuse_founded", _found_anyway),
        consensus.test_13066_wiped_disk,
    ),
    "wait for ever for the answer to a snapshot": (
        silence(SnapshotPost, "tick"),
        consensus.test_18055_a_snapshot_that_nobody_answers,
    ),
    "wait for the answer of a member that was started anew": (
        silence(SnapshotPost, "doubt"),
        consensus.test_18055_a_snapshot_that_nobody_answers,
    ),
    "forget who waits for a flush that a snapshot supersedes": (
        edit(BufferedBackend, "_drop_buffers", "return superseded", "return []"),
        consensus.test_20650_snapshot_during_defrag,
    ),
    "forget a snapshot that was not taken over": (
        edit(bootstrap, "_reopen", "install = snapshot", "install = None"),
        lambda: consensus.test_20271_snapshot_receive_crash(Loss.ALL),
    ),
    "leave watchers behind at a snapshot": (
        silence(WatchHub, "resync"),
        consensus.test_15271_watch_across_a_snapshot,
    ),
    "send watchers back in time at a snapshot": (
        edit(WatchHub, "resync", "max(stream_watcher.next_rev, self._notified + 1)", "2"),
        consensus.test_15271_watch_across_a_snapshot,
    ),
    "tell of progress ahead of events": (
        edit(WatchStream, "progress", "w.state == SYNCED and w.start_rev <= rev", "w.start_rev <= rev"),
        watch.test_15220_progress_never_ahead_of_events,
    ),
    "tell of progress before the start": (
        edit(WatchStream, "tick", " and watcher.start_rev <= rev", ""),
        watch.test_20221_watch_on_a_future_revision,
    ),
    "tell of progress before the start when asked": (
        edit(WatchStream, "progress", " and w.start_rev <= rev", ""),
        watch.test_20221_watch_on_a_future_revision,
    ),
    "send the past to watchers of the future": (
        edit(WatchHub, "_notify_one", "watcher.next_rev > rev or ", ""),
        watch.test_20221_watch_on_a_future_revision,
    ),
    "read a revision again that was sent": (
        edit(WatchHub, "_advance", "watcher.next_rev = next_rev", "watcher.next_rev = next_rev - 1"),
        watch.test_17247_no_duplicate_events_in_a_txn,
    ),
    "lose the event that did not fit": (
        edit(WatchHub, "_park", "watcher.next_rev = next_rev", "watcher.next_rev = next_rev + 1"),
        watch.test_17529_slow_reader_700_watchers,
    ),
    "drop the deletion at the compacted revision": (
        edit(Compactor, "_prune", "bound(rev - 1) if rev > 0 else bound(-1)", "bound(rev)"),
        watch.test_18089_delete_at_the_compacted_revision,
    ),
    "save the consistent index before its effects": (
        edit(
            Member,
            "_write_consistent_index",
            "schema.encode_u64(self.applied)",
            "schema.encode_u64(self.node.last_index)",
        ),
        storage.test_13766_consistent_index_with_its_effects,
    ),
    "lose the newest revision to a compaction": (
        both(
            edit(Compactor, "_prune", "bound(rev - 1) if rev > 0 else bound(-1)", "bound(rev)"),
            edit(Restorer, "result", "max(self.rev, finished, scheduled, 1)", "max(self.rev, 1)"),
        ),
        storage.test_17780_revision_never_decreases_after_a_crash_in_compaction,
    ),
    "look at the reads of a transaction when it is half done": (
        silence(txn, "_validate"),
        storage.test_18667_txn_range_at_compacted_revision,
    ),
    "promote in memory only": (
        edit(
            Membership,
            "promote",
            "self._store(replace(self.members[member_id], is_learner=False))",
            "self.members[member_id] = replace(self.members[member_id], is_learner=False)",
        ),
        membership.test_19557_promotion_survives_crashes_and_snapshots,
    ),
    "forget who was removed": (
        edit(Membership, "remove", 'self.backend.put(schema.MEMBERS_REMOVED, key, b"removed")', "pass"),
        membership.test_zombie_members_do_not_come_back,
    ),
    "an update makes a voter": (
        edit(
            Membership,
            "update_urls",
            "peer_urls=tuple(peer_urls))",
            "peer_urls=tuple(peer_urls), is_learner=False)",
        ),
        membership.test_7c528e856_an_updated_learner_stays_a_learner,
    ),
    "begin leases anew with each leader": (
        edit(Lessor, "promote", "(lease.remaining_ttl or lease.ttl)", "lease.ttl"),
        leases.test_17132_checkpoints_over_many_leaders,
    ),
    "believe to lead after a pause": (
        edit(LeadCheck, "is_sure", "return self._sure", "return True"),
        leases.test_a_leader_of_the_past_renews_nothing,
    ),
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_caught(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    mutate, scenario = MUTATIONS[name]
    mutate(monkeypatch)
    with pytest.raises(BaseException) as caught:
        scenario()  # a wrong answer, a time-out, an invariant that broke
    print(
        "CAUGHT",
        name,
        "BY",
        repr(caught.value)[:150],
        [e.name for e in caught.traceback if "history" in str(e.path)][-1:],
    )
    assert not isinstance(caught.value, (KeyboardInterrupt, pytest.fail.Exception))
