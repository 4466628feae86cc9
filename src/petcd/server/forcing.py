"""``--force-new-cluster``: one survivor goes on alone with what it holds.

Entries that are not known to be committed are dropped, and changes that remove every other member are
written as if they had been: the cluster of one that results has this member's history (contract peer 6.2,
config-metrics on the flag). Two survivors started so are two clusters with the same id: the flag is for
disasters.
"""

from __future__ import annotations

from collections.abc import Sequence

from petcd.logs import Logger
from petcd.pb import splice
from petcd.raft import (
    ADD_NODE,
    ENTRY_CONF_CHANGE,
    ENTRY_NORMAL,
    REMOVE_NODE,
    ConfChange,
    Entry,
    HardState,
    SnapshotMetadata,
    decode_conf_change,
    encode_conf_change,
)
from petcd.server.ids import hex_id
from petcd.server.membership import ClusterMember
from petcd.server.url import Url
from petcd.storage.wal import Wal, encode_hard_state


def force_alone(
    wal: Wal,
    member_id: int,
    hard_state: HardState,
    start: SnapshotMetadata,
    entries: list[Entry],
    logger: Logger,
    peer_urls: Sequence[Url],
) -> tuple[HardState, list[Entry]]:
    """The log and hard state of a cluster of one, made durable. Blocks."""
    kept = [entry for entry in entries if entry.index <= hard_state.commit]
    if len(kept) < len(entries):
        logger.info(
            "discarding uncommitted WAL entries",
            **{
                "entry-index": entries[len(kept)].index,
                "commit-index-from-wal": hard_state.commit,
                "number-of-discarded-entries": len(entries) - len(kept),
            },
        )
    others = _members(start, kept)
    changes = []
    if member_id not in others:
        mine = ClusterMember(member_id, tuple(sorted(map(str, peer_urls))))
        changes.append(ConfChange(0, ADD_NODE, member_id, mine.to_json().encode()))
    others.discard(member_id)
    changes += [ConfChange(0, REMOVE_NODE, other) for other in sorted(others)]
    index = kept[-1].index if kept else start.index
    forced = []
    for change in changes:
        index += 1
        kind, data = encode_conf_change(change)
        forced.append(Entry(hard_state.term, index, kind, data))
    result = HardState(hard_state.term, hard_state.vote, index)
    if forced:
        logger.info("forcing restart member", **{"local-member-id": hex_id(member_id), "commit-index": index})
        wal.write(
            wal.encode(
                [(e.index, splice.entry(e.type, e.term, e.index, e.data)) for e in forced],
                encode_hard_state(result.term, result.vote, result.commit),
                True,
            )
        )
    return result, kept + forced


def _members(start: SnapshotMetadata, entries: list[Entry]) -> set[int]:
    """Everybody in the configuration at the end of the log, learners included."""
    conf = start.conf_state
    members = {*conf.voters, *conf.learners, *conf.voters_outgoing}
    for entry in entries:
        if entry.type == ENTRY_NORMAL:
            continue
        change = decode_conf_change(entry)
        if not isinstance(change, ConfChange) or entry.type != ENTRY_CONF_CHANGE:
            continue
        if change.type == REMOVE_NODE:
            members.discard(change.node_id)
        elif change.node_id:
            members.add(change.node_id)
    return members
