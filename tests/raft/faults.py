"""A run of a cluster under faults, drawn from one seed, then healed: it must be safe all along, and live
at the end."""

from __future__ import annotations

import random

from tests.raft.cluster import Cluster, Member

from petcd.raft import (
    LEADER,
    ConfChange,
    ConfChangeSingle,
    ConfChangeV2,
    Entry,
    HardState,
    ProposalDropped,
)


class Faults:
    """One seed's cluster and what happens to it."""

    def __init__(self, seed: int, *, changes: bool = True) -> None:
        self.seed = seed
        self.random = random.Random(seed)
        draw = self.random
        size = draw.choice((1, 2, 3, 3, 3, 5, 5, 7) if changes else (1, 2, 3, 3, 5, 5))
        self.changes = changes and draw.random() < 0.7
        learners = (size + 1,) if draw.random() < 0.2 else ()
        settings: dict[str, object] = {
            "pre_vote": draw.random() < 0.7,
            "check_quorum": draw.random() < 0.7,
            "inflight_max": draw.choice((1, 2, 5, 512)),
            "max_message_bytes": draw.choice((1, 20, 100, 1 << 20)),
            "committed_bytes_max": draw.choice((1, 30, 1 << 20)),
            "uncommitted_bytes_max": draw.choice((50, 1 << 30)),
        }
        self.cluster = Cluster(
            range(1, size + 1), learners=learners, seed=seed + 1, settings=settings, bootstrap=True
        )
        self.loss = draw.choice((0.0, 0.02, 0.1, 0.3))
        self.repeat = draw.choice((0.0, 0.02, 0.1))
        self.shuffle = draw.choice((0.0, 0.1, 1.0))
        self.crash_rate = draw.choice((0.0, 0.002, 0.01))
        self.cut_rate = draw.choice((0.0, 0.002, 0.01))
        self.campaign_rate = draw.choice((0.0, 0.0, 0.003, 0.01))
        self.forgetful = not self.changes or draw.random() < 0.2
        """Whether a crash loses what was known to be committed.

        Configurations take effect when they are applied. If the members that remain forget in the same
        moment that the change was committed, they may need the vote of one that was removed, and that one
        may have a longer log: safe, but stuck, here as in etcd. So with changes of the membership only some
        seeds do this, and those are not asked for progress at the end.
        """
        self.slow_disk = draw.choice((0.1, 0.5, 0.9))
        self.next_member = size + 2
        self.next_data = 0
        self.proposed = 0

    # -- one event -------------------------------------------------------------------------------------------

    def member(self) -> Member:
        members = self.cluster.members
        return members[self.random.choice(sorted(members))]

    def event(self) -> None:
        draw = self.random
        chance = draw.random()
        if chance < 0.45:
            self.deliver()
            return
        member = self.member()
        if not member.up:
            if draw.random() < 0.2:
                member.start()
            return
        node = member.node
        if chance < 0.68:
            member.turn()
            if draw.random() > self.slow_disk:
                member.sync(draw.choice((1, 1, 2, None)))
        elif chance < 0.76:
            member.sync(1)
        elif chance < 0.84:
            node.tick()
        elif chance < 0.85:
            for other in self.cluster.members.values():
                if other.up:
                    other.node.tick()
        elif chance < 0.90:
            self.propose(member)
        elif chance < 0.93:
            context = b"%d.%d" % (member.id, self.next_data)
            self.next_data += 1
            self.cluster.ask(member.id, context)
        elif chance < 0.945:
            if self.changes:
                self.change(member)
        else:
            self.rare(member)
        if draw.random() < self.crash_rate:
            self.crash(member)
        if draw.random() < self.cut_rate:
            self.partition()
        if draw.random() < self.campaign_rate:
            node.campaign()

    def rare(self, member: Member) -> None:
        draw = self.random
        node = member.node
        chance = draw.randrange(10)
        if chance < 2:
            member.save()
        elif chance < 5:
            member.snapshot(draw.choice((0, 2, 10)))
        elif chance < 6:
            node.transfer_leader(draw.choice(sorted(self.cluster.members)))
        elif chance < 7:
            node.report_unreachable(draw.choice(sorted(self.cluster.members)))

    def crash(self, member: Member) -> None:
        draw = self.random
        if not member.up:
            return
        commit = min(member.node.commit_index, member.node.stable_index)
        member.crash(draw.choice((0, 0, 1, 2)), draw.choice((0, 0, 1, 2)))
        if not self.forgetful:
            disk = member.disk
            commit = max(disk.hard_state.commit, commit)
            disk.hard_state = HardState(disk.hard_state.term, disk.hard_state.vote, commit)

    def deliver(self) -> None:
        draw = self.random
        network = self.cluster.network
        if not network:
            return
        position = draw.randrange(len(network)) if draw.random() < self.shuffle else 0
        message = network[position] if draw.random() < self.repeat else network.pop(position)
        if draw.random() >= self.loss:
            self.cluster.carry(message)
        else:
            self.cluster.lose(message)
        if len(network) > 2000:
            for lost in network[:1000]:
                self.cluster.lose(lost)
            del network[:1000]

    def propose(self, member: Member) -> None:
        entries = []
        for _ in range(self.random.choice((1, 1, 2, 5))):
            self.next_data += 1
            entries.append(Entry(data=b"value-%d" % self.next_data))
        try:
            member.node.propose(entries)
            self.proposed += len(entries)
        except ProposalDropped:
            pass

    def change(self, member: Member) -> None:
        draw = self.random
        cluster = self.cluster
        singles = []
        for _ in range(draw.choice((1, 1, 1, 2, 3))):
            kind = draw.choice((0, 0, 1, 3))
            if kind in (0, 3) and draw.random() < 0.5 and len(cluster.members) < 8:
                target = self.next_member
                self.next_member += 1
                cluster.join(target)
            else:
                target = draw.choice(sorted(cluster.members))
            singles.append(ConfChangeSingle(kind, target))
        try:
            if len(singles) == 1 and draw.random() < 0.6:
                single = singles[0]
                member.node.propose_conf_change(ConfChange(1, single.type, single.node_id))
            elif draw.random() < 0.2:
                member.node.propose_conf_change(ConfChangeV2())
            else:
                member.node.propose_conf_change(ConfChangeV2(draw.choice((0, 0, 1, 2)), singles))
        except ProposalDropped:
            pass

    def partition(self) -> None:
        """Cut along a line: at random, or around the leader, sometimes in one direction only."""
        draw = self.random
        cluster = self.cluster
        cluster.heal()
        if draw.random() < 0.4:
            return
        members = sorted(cluster.members)
        leader = cluster.leader
        if leader is not None and draw.random() < 0.5:
            side = {leader.id}
            if draw.random() < 0.5:
                side.add(draw.choice(members))
        else:
            side = {member for member in members if draw.random() < 0.5}
        one_way = draw.random() < 0.3
        for a in members:
            for b in members:
                if (a in side) != (b in side) and not (one_way and a in side):
                    cluster.cut.add((a, b))

    # -- the run ---------------------------------------------------------------------------------------------

    def run(self, events: int) -> None:
        for _ in range(events):
            self.event()
        if not (self.changes and self.forgetful):
            self.heal()

    def heal(self) -> None:
        """Everything works again: a leader is found, the rest catches up, a proposal is committed
        everywhere."""
        cluster = self.cluster
        cluster.heal()
        for member in cluster.members.values():
            if not member.up:
                member.start()
        cluster.settle()
        cluster.tick(60)
        for attempt in range(20):
            leader = cluster.leader
            if leader is None:
                cluster.tick(20)
                continue
            if leader.applied_index == leader.last_index:
                # The removed have been told by now. Servers stop them, and refuse what they say.
                for member in sorted(cluster.members.keys() - leader.configuration.members):
                    self.stop(member)
            if leader.id not in cluster.members:
                cluster.tick(40)
                continue
            if leader.configuration.joint and not leader.configuration.auto_leave:
                leader.propose_conf_change(ConfChangeV2())
                cluster.settle()
                cluster.tick(3)
                continue
            marker = b"marker-%d" % attempt
            try:
                leader.propose([Entry(data=marker)])
            except ProposalDropped:
                cluster.tick(20)
                continue
            cluster.settle()
            cluster.tick(3)
            if (
                leader.role is not LEADER
                or leader.entries(leader.last_index, leader.last_index + 1)[0].data != marker
            ):
                cluster.tick(20)
                continue
            last = leader.last_index
            states = {m: cluster[m].applied_index for m in leader.configuration.members}
            if set(states.values()) != {last}:
                cluster.tick(20)
                continue
            assert len({cluster.members[m].digest for m in states}) == 1
            context = b"read at the end"
            cluster.ask(leader.id, context)
            cluster.settle()
            assert context in cluster.members[leader.id].read_states
            return
        if not self.untold():
            raise AssertionError("no progress after healing")

    def untold(self) -> bool:
        """Whether somebody was removed, knows it, and crashed before the members that remain knew it too.

        They may need its vote then, and its log may be longer than theirs. The same is true of etcd.
        """
        for member in self.cluster.members.values():
            node = member.node
            voters = node.configuration.voters
            if node.id not in voters and voters:
                behind = [v for v in voters if self.cluster[v].commit_index < node.commit_index]
                if 2 * len(behind) >= len(voters):
                    return True
        return False

    def stop(self, member: int) -> None:
        self.cluster.members[member].crash()
        del self.cluster.members[member]


def run(seed: int, events: int = 3000, *, changes: bool = True) -> Faults:
    """One seed."""
    faults = Faults(seed, changes=changes)
    faults.run(events)
    return faults
