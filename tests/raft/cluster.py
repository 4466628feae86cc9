"""A cluster of raft nodes in one process: disks that lose what is not synced, a network in a list, a state
machine.

Nothing happens by itself. A test (or a scenario, or a seed) decides when a member takes its turn, when its
disk gets on, which message arrives, who crashes. ``Watcher`` sees every step and asserts the safety
properties of the Raft paper (Figure 3) and of the contract (page "history", part 4) over all members and
all time.
"""

from __future__ import annotations

import hashlib
import random
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

from petcd.raft import (
    ADD_LEARNER_NODE,
    ADD_NODE,
    ENTRY_NORMAL,
    LEADER,
    MSG_APP_RESP,
    MSG_PRE_VOTE,
    MSG_PRE_VOTE_RESP,
    MSG_PROP,
    MSG_READ_INDEX,
    MSG_SNAP,
    MSG_VOTE_RESP,
    ConfChange,
    ConfChangeError,
    Config,
    ConfState,
    Entry,
    HardState,
    Message,
    Node,
    ProposalDropped,
    Ready,
    Snapshot,
    SnapshotMetadata,
    decode_conf_change,
    encode_conf_change,
)

GENESIS = b"genesis"


def chain(digest: bytes, entry: Entry) -> bytes:
    """The state machine: a hash over everything applied."""
    return hashlib.blake2b(
        digest + entry.index.to_bytes(8, "big") + entry.term.to_bytes(8, "big") + entry.data, digest_size=8
    ).digest()


def copy_of(message: Message) -> Message:
    """What arrives: no object is shared between members, and a request never travels."""
    entries = [Entry(e.term, e.index, e.type, e.data) for e in message.entries]
    return replace(message, entries=entries)


@dataclass
class Disk:
    """What survives a crash."""

    hard_state: HardState = field(default_factory=HardState)
    snapshot: Snapshot = field(default_factory=Snapshot)
    entries: list[Entry] = field(default_factory=list)
    applied: int = 0
    """What the state machine has saved of itself."""
    digest: bytes = GENESIS
    conf_state: ConfState = field(default_factory=ConfState)

    @property
    def last_index(self) -> int:
        return self.snapshot.metadata.index + len(self.entries)

    def term_at(self, index: int) -> int:
        offset = self.snapshot.metadata.index
        if index == offset:
            return self.snapshot.metadata.term
        if offset < index <= self.last_index:
            return self.entries[index - offset - 1].term
        return 0

    def store(self, ready: Ready, entry_count: int | None = None) -> None:
        """Write a Ready: all of it, or (torn) only the first entries."""
        if entry_count is None:
            if ready.snapshot is not None:
                metadata = ready.snapshot.metadata
                assert metadata.index > self.snapshot.metadata.index
                self.snapshot = ready.snapshot
                self.entries = []
                self.applied, self.digest, self.conf_state = (
                    metadata.index,
                    ready.snapshot.data,
                    metadata.conf_state,
                )
        elif ready.snapshot is not None:
            return
        for entry in ready.entries[:entry_count]:
            position = entry.index - self.snapshot.metadata.index - 1
            if position < 0:
                continue  # compacted while it waited
            assert position <= len(self.entries), "a gap on the disk"
            del self.entries[position:]
            self.entries.append(entry)
        if entry_count is None and ready.hard_state is not None:
            self.hard_state = ready.hard_state


class Watcher:
    """Everything that must hold over all members and all time."""

    def __init__(self) -> None:
        self.leaders: dict[int, int] = {}
        """term -> its leader"""
        self.entries: dict[tuple[int, int], tuple[bytes, int, int]] = {}
        """(index, term) -> (data, type, term of the entry before)"""
        self.committed: dict[int, tuple[int, int]] = {}
        """index -> (term, term of the node that was first seen to have committed it)"""
        self.votes: dict[tuple[int, int], int] = {}
        """(voter, term) -> candidate, of votes that left the voter"""
        self.digests: dict[int, bytes] = {}
        """index -> state of the state machine"""
        self.configurations: dict[int, ConfState] = {}
        self.commit_max = 0
        self.reads: dict[bytes, int] = {}
        """context -> what was committed anywhere when it was asked"""
        self.answered = 0

    def saw_leader(self, member: Member) -> None:
        """Election safety, and leader completeness (paper 5.2, 5.4)."""
        node = member.node
        known = self.leaders.setdefault(node.term, node.id)
        assert known == node.id, f"{known} and {node.id} lead term {node.term}"
        for index, (term, commit_term) in self.committed.items():
            if commit_term < node.term and index >= node.first_index:
                assert node.term_at(index) == term, f"leader {node.id} lacks committed {term}/{index}"

    def saw_entries(self, member: Member, entries: Sequence[Entry]) -> None:
        """Log matching: index and term name an entry and everything before it (paper 5.3)."""
        before = member.node.term_at(entries[0].index - 1) if entries else 0
        for entry in entries:
            facts = (entry.data, entry.type, before)
            known = self.entries.setdefault((entry.index, entry.term), facts)
            assert known == facts, f"entry {entry.term}/{entry.index} is {known} and {facts}"
            before = entry.term

    def saw_commit(self, cluster: Cluster, member: Member, old: int) -> None:
        """State machine safety; and a leader's commit is on the disks of a quorum."""
        node = member.node
        assert node.commit_index >= old, "the commit index fell"
        for index in range(max(old + 1, node.first_index), node.commit_index + 1):
            term = node.term_at(index)
            known = self.committed.get(index)
            if known is None:
                self.committed[index] = (term, node.term)
                if node.role is LEADER:
                    cluster.assert_on_quorum(member, index, term)
            else:
                assert known[0] == term, f"{index} is committed with terms {known[0]} and {term}"
        self.commit_max = max(self.commit_max, node.commit_index)

    def saw_applied(self, member: Member, entry: Entry) -> None:
        assert self.committed[entry.index][0] == entry.term
        known = self.digests.setdefault(entry.index, member.digest)
        assert known == member.digest, f"state machines differ at {entry.index}"
        state = self.configurations.setdefault(entry.index, member.node.conf_state)
        assert state == member.node.conf_state, f"configurations differ at {entry.index}"

    def saw_sent(self, member: Member, message: Message) -> None:
        """What leaves a member it must not forget: terms, votes, acknowledged entries."""
        disk = member.disk
        granted_ahead = message.type == MSG_PRE_VOTE_RESP and not message.reject
        if message.type == MSG_PRE_VOTE:
            assert message.term - 1 <= disk.hard_state.term
        elif not granted_ahead and message.type not in (MSG_PROP, MSG_READ_INDEX):
            assert message.term <= disk.hard_state.term, "a term left before it was on disk"
        if message.type == MSG_VOTE_RESP and not message.reject:
            known = self.votes.setdefault((member.id, message.term), message.to)
            assert known == message.to, f"{member.id} voted for {known} and {message.to}"
            if disk.hard_state.term == message.term:
                assert disk.hard_state.vote == message.to, "a vote left before it was on disk"
        if message.type == MSG_APP_RESP and not message.reject and message.term == disk.hard_state.term:
            assert message.index <= disk.last_index, "an acknowledgement left before its entries were on disk"

    def asked(self, context: bytes) -> None:
        self.reads[context] = self.commit_max

    def answer(self, context: bytes, index: int) -> None:
        """A read must see everything that was committed when it was asked (thesis 6.4)."""
        assert index >= self.reads[context], f"a stale read: {index} < {self.reads[context]}"
        self.answered += 1


class Member:
    """A node with its disk and its state machine."""

    def __init__(self, cluster: Cluster, member_id: int, disk: Disk, settings: dict[str, object]) -> None:
        self.cluster = cluster
        self.id = member_id
        self.disk = disk
        self.settings = settings
        self.up = False
        self.node: Node
        self.writing: deque[Ready] = deque()
        self.digest = GENESIS
        self.read_states: dict[bytes, int] = {}
        self.refused_changes = 0
        self.start()

    def start(self) -> None:
        disk = self.disk
        metadata = disk.snapshot.metadata
        config = Config(
            id=self.id,
            random=self.cluster.random,
            applied=disk.applied,
            conf_state=disk.conf_state,
            **self.settings,  # type: ignore[arg-type]
        )
        self.node = Node(config, disk.hard_state, metadata, disk.entries)
        self.digest = disk.digest
        self.writing.clear()
        self.up = True
        self._seen_commit = self.node.commit_index
        self._seen_term = self.node.term

    def crash(self, written: int = 0, torn_entries: int = 0) -> None:
        """Lose what was not synced, except ``written`` Readys that happened to reach the disk, and part of
        one."""
        self.cluster.watcher.saw_commit(self.cluster, self, self._seen_commit)
        for _ in range(min(written, len(self.writing))):
            self.disk.store(self.writing.popleft())
        if torn_entries and self.writing:
            self.disk.store(self.writing[0], torn_entries)
        self.writing.clear()
        self.up = False

    def turn(self, rounds: int = 1) -> None:
        """Take what is ready: send, start writing, apply."""
        node = self.node
        for _ in range(rounds):
            if not self.up or not node.has_ready():
                return
            ready = node.ready()
            node.check()
            self.observe(ready)
            for message in ready.messages:
                if message.type == MSG_SNAP:
                    message.snapshot = self.current_snapshot()
                self.cluster.post(self, message)
            if ready.must_sync or ready.hard_state or ready.messages_after_append:
                self.writing.append(ready)
            self.apply(ready)
            node.check()

    def current_snapshot(self) -> Snapshot:
        """What a server really sends for a MsgSnap: its state as of now, with the configuration as of now.

        Contract page "peer", section 4. The snapshot kept by raft may be older than the receiver's
        membership.
        """
        node = self.node
        index = node.applied_index
        return Snapshot(self.digest, SnapshotMetadata(node.conf_state, index, node.term_at(index)))

    def observe(self, ready: Ready) -> None:
        node = self.node
        watcher = self.cluster.watcher
        assert node.term >= self._seen_term
        self._seen_term = node.term
        if ready.soft_state is not None and ready.soft_state.role is LEADER:
            watcher.saw_leader(self)
        watcher.saw_entries(self, ready.entries)
        watcher.saw_commit(self.cluster, self, self._seen_commit)
        self._seen_commit = node.commit_index
        for state in ready.read_states:
            watcher.answer(state.context, state.index)
            self.read_states[state.context] = state.index

    def apply(self, ready: Ready) -> None:
        node = self.node
        if ready.snapshot is not None:
            assert not ready.committed
        for entry in ready.committed:
            assert entry.index == node.applied_index + 1, "applied out of order"
            if entry.type != ENTRY_NORMAL:
                try:
                    node.apply_conf_change(decode_conf_change(entry))
                except ConfChangeError:
                    self.refused_changes += 1
            self.digest = chain(self.digest, entry)
            self.cluster.watcher.saw_applied(self, entry)
            node.applied_to(entry.index)

    def sync(self, count: int | None = None) -> None:
        """The disk finishes ``count`` Readys (all): they are durable, what waited for them leaves."""
        last = None
        for _ in range(len(self.writing) if count is None else min(count, len(self.writing))):
            ready = self.writing.popleft()
            self.disk.store(ready)
            for message in ready.messages_after_append:
                self.cluster.post(self, message)
            if ready.snapshot is not None and ready.snapshot.metadata.index > self.node.applied_index:
                self.digest = ready.snapshot.data
                self.node.applied_to(ready.snapshot.metadata.index)
            last = ready
        if last is not None:
            self.node.persisted(last.sequence)
            self.node.check()

    def step(self, message: Message) -> None:
        self.node.step(copy_of(message))
        self.node.check()

    def save(self) -> None:
        """The state machine saves itself, as the backend does now and then."""
        if not any(ready.snapshot for ready in self.writing):
            self.disk.applied = self.node.applied_index
            self.disk.digest = self.digest
            self.disk.conf_state = self.node.conf_state

    def snapshot(self, keep: int) -> None:
        """Make a snapshot of what is applied and saved, and compact all but ``keep`` entries before it."""
        node = self.node
        if any(ready.snapshot for ready in self.writing) or node.applied_index == 0:
            return
        self.save()
        index = node.applied_index
        if index <= node.snapshot.metadata.index:
            return
        node.create_snapshot(index, node.conf_state, self.digest)
        compact = min(max(index - keep, node.first_index - 1), self.disk.last_index)
        if compact <= node.first_index - 1:
            return
        term = node.term_at(compact)
        node.compact(compact)
        # On disk: the log after the compacted part. Its configuration is not needed: ``applied`` is later.
        disk = self.disk
        del disk.entries[: compact - disk.snapshot.metadata.index]
        disk.snapshot = Snapshot(b"", SnapshotMetadata(node.conf_state, compact, term))


class Cluster:
    """Members and the network between them."""

    def __init__(
        self,
        voters: Iterable[int] = (1, 2, 3),
        *,
        learners: Iterable[int] = (),
        seed: int = 1,
        settings: dict[str, object] | None = None,
        logs: dict[int, Sequence[int]] | None = None,
        terms: dict[int, int] | None = None,
        bootstrap: bool = False,
    ) -> None:
        """``logs`` gives a member the terms of its entries, ``terms`` a later current term.

        ``bootstrap`` begins as etcd does (contract page "peer", 7.3): with the members' additions as
        committed entries of term 1, so that a member that joins later finds the whole history in the log.
        """
        self.random = random.Random(seed)
        self.watcher = Watcher()
        self.network: list[Message] = []
        self.cut: set[tuple[int, int]] = set()
        self.on_post: Callable[[Message], None] | None = None
        self.settings = dict(settings or {})
        self.conf_state = ConfState(sorted(voters), sorted(learners))
        self.members: dict[int, Member] = {}
        self.bootstrapped = bootstrap
        if bootstrap:
            self._bootstrap()
            return
        for member in self.conf_state.voters + self.conf_state.learners:
            log = (logs or {}).get(member, ())
            entries = [
                Entry(term, index, ENTRY_NORMAL, b"%d/%d" % (term, index))
                for index, term in enumerate(log, 1)
            ]
            term = max((terms or {}).get(member, 0), *log, 0)
            disk = Disk(HardState(term=term), entries=entries, conf_state=self.conf_state)
            disk.snapshot.metadata.conf_state = self.conf_state
            self.members[member] = Member(self, member, disk, self.settings)

    def _bootstrap(self) -> None:
        learners = self.conf_state.learners
        entries = []
        for member in self.conf_state.voters + learners:
            change = ConfChange(0, ADD_LEARNER_NODE if member in learners else ADD_NODE, member)
            kind, data = encode_conf_change(change)
            entries.append(Entry(1, len(entries) + 1, kind, data))
            self.watcher.committed[len(entries)] = (1, 1)
        for member in self.conf_state.voters + learners:
            disk = Disk(HardState(term=1, commit=len(entries)), entries=list(entries))
            self.members[member] = Member(self, member, disk, self.settings)
            self.watcher.saw_entries(self.members[member], entries)

    def __getitem__(self, member: int) -> Node:
        return self.members[member].node

    def join(self, member: int) -> None:
        """A member with an empty disk; it knows no more than what the log began with."""
        disk = Disk(conf_state=ConfState() if self.bootstrapped else self.conf_state)
        disk.snapshot.metadata.conf_state = disk.conf_state
        self.members[member] = Member(self, member, disk, self.settings)

    # -- network ---------------------------------------------------------------------------------------------

    def post(self, sender: Member, message: Message) -> None:
        self.watcher.saw_sent(sender, message)
        assert message.to != sender.id
        self.network.append(message)
        if self.on_post is not None:
            self.on_post(message)

    def carry(self, message: Message) -> None:
        """Deliver, if the link and the receiver are up."""
        target = self.members.get(message.to)
        if target is None or not target.up or (message.from_, message.to) in self.cut:
            self.lose(message)
            return
        self._report(message, delivered=True)
        try:
            target.step(message)
        except ProposalDropped:
            assert message.type == MSG_PROP

    def lose(self, message: Message) -> None:
        self._report(message, delivered=False)

    def _report(self, message: Message, delivered: bool) -> None:
        """Snapshots go by a request of their own, whose sender learns what became of it."""
        sender = self.members.get(message.from_)
        if message.type == MSG_SNAP and sender is not None and sender.up:
            sender.node.report_snapshot(message.to, delivered)

    def isolate(self, member: int) -> None:
        for other in self.members:
            if other != member:
                self.cut |= {(member, other), (other, member)}

    def heal(self, member: int | None = None) -> None:
        if member is None:
            self.cut.clear()
        else:
            self.cut = {link for link in self.cut if member not in link}

    # -- progress --------------------------------------------------------------------------------------------

    def settle(self, rounds: int = 5000) -> None:
        """Everybody works, disks sync, messages arrive in order, until nothing is left to do."""
        for _ in range(rounds):
            for member in self.members.values():
                if member.up:
                    while member.node.has_ready():
                        member.turn()
                    member.sync()
            if not self.network:
                if not any(m.up and (m.node.has_ready() or m.writing) for m in self.members.values()):
                    return
                continue
            messages, self.network = self.network, []
            for message in messages:
                self.carry(message)
        raise AssertionError("the cluster does not come to rest")

    def tick(self, count: int = 1) -> None:
        """Time passes for all, with everything settled in between."""
        for _ in range(count):
            for member in self.members.values():
                if member.up:
                    member.node.tick()
            self.settle()

    def propose(self, member: int, *data: bytes) -> None:
        self.members[member].node.propose([Entry(data=d) for d in data])

    def ask(self, member: int, context: bytes) -> bool:
        self.watcher.asked(context)
        return self.members[member].node.read_index(context)

    def elect(self, member: int) -> None:
        """``member`` becomes leader, with everything settled."""
        self.members[member].node.campaign()
        self.settle()
        assert self.members[member].node.role is LEADER

    @property
    def leader(self) -> Node | None:
        """The leader of the latest term, if any."""
        leaders = [m.node for m in self.members.values() if m.up and m.node.role is LEADER]
        return max(leaders, key=lambda node: node.term, default=None)

    def assert_on_quorum(self, member: Member, index: int, term: int) -> None:
        """``index`` is on the disks of a majority of each half of the member's configuration."""
        configuration = member.node.configuration
        for half in (configuration.voters, configuration.outgoing):
            holders = 0
            for voter in half:
                other = self.members.get(voter)
                if other is None:
                    continue
                disk = other.disk
                if disk.term_at(index) == term or disk.snapshot.metadata.index > index:
                    holders += 1
            assert not half or 2 * holders > len(half), (
                f"{term}/{index} committed, {holders} of {sorted(half)} have it"
            )
