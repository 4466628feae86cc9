"""One run of a whole cluster from one seed: clients, faults, healing, and every checker at the end.

    python -m tests.simulation --cluster --seeds 100

While the storm lasts, members crash and lose unsynced writes, are paused, cut off, slow, out of space,
removed and added; messages are lost, repeated, delayed and reordered. Then everything is mended, and the
cluster must elect a leader, answer writes through every member and come to the same state everywhere.
"""

from __future__ import annotations

import gc
import hashlib
import json
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.linearizability.histories import READ, WRITE, Wrong, check_calls
from tests.linearizability.leases import check_leases
from tests.linearizability.statemachine import StateMachine
from tests.linearizability.watches import check_watches
from tests.simulation.clients import KEYS, Clients
from tests.simulation.cluster import ELECTION_SECONDS, Cluster, Seat, Settings, peer_url, scaled
from tests.simulation.observer import Observer, Violation, watching

from petcd.pb import etcdserverpb as pb
from petcd.pb import raftpb
from petcd.raft import ADD_LEARNER_NODE, ADD_NODE, ENTRY_CONF_CHANGE, REMOVE_NODE, ConfChange
from petcd.server.bootstrap import Joined
from petcd.server.ids import member_id
from petcd.server.member import MemberRemoved
from petcd.server.membership import ClusterMember, Membership, promote_change
from petcd.testing.drive import Loss
from petcd.testing.world import Simulation

STORM_SECONDS = (0.8, 1.2, 1.6, 2.4)
PAUSE_SECONDS = (0.03, 0.06, 0.1)
"""Between two requests of a client, at most."""
HEAL_SECONDS = 6.0
LOST_SECONDS = 0.8
QUIET_SECONDS = 1.7
"""In which leases end, at the end of some runs."""
LEASE_DELAY_SECONDS = 0.8
"""The rounds of the primary are half a second apart."""
CLIENTS = 4
RATE_MAX = 1.05
FAILPOINTS = (
    "raftBeforeSave",
    "raftAfterSave",
    "raftBeforeSaveSnap",
    "raftAfterSaveSnap",
    "raftBeforeApplySnap",
    "raftAfterApplySnap",
    "applyBeforeOpenSnapshot",
    "raftAfterWALRelease",
    "beforeCommit",
    "afterCommit",
    "compactBeforeCommitBatch",
    "compactAfterCommitBatch",
    "compactBeforeSetFinishedCompact",
    "beforeApplyOneConfChange",
)
SNAPSHOT_FAILPOINTS = (
    "raftBeforeSaveSnap",
    "raftAfterSaveSnap",
    "raftBeforeApplySnap",
    "raftAfterApplySnap",
    "applyBeforeOpenSnapshot",
)
_LOSSES = (Loss.NONE, Loss.ALL, Loss.SOME)


@dataclass
class Outcome:
    """What a run was like."""

    seed: int
    digest: str = ""
    calls: int = 0
    answered: int = 0
    entries: int = 0
    leaders: int = 0
    snapshots: int = 0
    crashes: int = 0
    faults: dict[str, int] = field(default_factory=dict)


class Storm:
    """The faults of one run."""

    def __init__(self, seed: int, size: int, *, traced: bool = False) -> None:
        self.seed = seed
        self.sim = Simulation(seed)
        self.random = random.Random(self.sim.rng.getrandbits(64))
        rng = self.random
        settings = Settings(
            size=size,
            snapshot_count=rng.choice((8, 20, 20, 50, 1000)),
            catchup_entries=rng.choice((2, 5, 20)),
            batch_limit=rng.choice((5, 20, 1000)),
            batch_seconds=rng.choice((0.02, 0.1)),
            pre_vote=rng.random() < 0.8,
        )
        self.observer = Observer()
        self.cluster = Cluster(self.sim, settings, self.observer, traced=traced)
        self.clients: Clients
        self.outcome = Outcome(seed)
        self.seconds = rng.choice(STORM_SECONDS)
        self.disk_faults = False
        self.next_seat = size
        self._arm_at: dict[str, tuple[str, int]] = {}
        self.cluster.arm = self._arm
        for seat in self.cluster.seats.values():
            self._set_clock(seat)

    def _set_clock(self, seat: Seat) -> None:
        if self.random.random() < 0.5:
            seat.host.clock_rate = self.random.uniform(1 / RATE_MAX, RATE_MAX)
            seat.host.wall_offset_ns = self.random.randrange(-(10**12), 10**12)

    # -- the run ---------------------------------------------------------------------------------------

    def run(self) -> Outcome:
        """Raises: Violation, Wrong, AssertionError."""
        sim, cluster = self.sim, self.cluster
        gc.disable()  # a run is short, and its world goes as a whole
        try:
            with sim, scaled(cluster.settings.segment_bytes), watching(self.observer):
                cluster.boot_all()
                self.clients = Clients(
                    cluster,
                    random.Random(self.random.getrandbits(64)),
                    CLIENTS,
                    self.random.choice(PAUSE_SECONDS),
                )
                self._schedule()
                sim.run_for(self.seconds)
                self._heal()
                self._settle()
                if self.random.random() < 0.2:
                    self._let_leases_end()
                self._check()
                self.outcome.digest = self._digest()
        finally:
            gc.enable()
        return self.outcome

    def _digest(self) -> str:
        text = "".join(str(call) for call in self.clients.calls)
        text += repr(sorted((index, entry.data) for index, entry in self.observer.log.items()))
        return hashlib.sha256(text.encode()).hexdigest()

    def _schedule(self) -> None:
        rng, loop = self.random, self.sim.loop
        kinds: list[Callable[[], object]] = [
            self.crash,
            self.crash,
            self.crash_all,
            self.pause,
            self.partition,
            self.partition,
            self.isolate_leader,
            self.old_leader,
            self.old_leader,
            self.fall_behind,
            self.fall_behind,
            self.one_way,
            self.noise,
            self.slow_disk,
            self.full_disk,
            self.failpoint,
            self.failpoint,
            self.crash_in_disk,
            self.transfer,
            self.reconfigure,
            self.reconfigure,
            self.crash_leader,
            self.check_now,
        ]
        chosen = rng.sample(kinds, rng.randrange(1, len(kinds)))
        seconds = self.seconds
        for _ in range(rng.choice((2, 4, 7, 12))):
            loop.call_outside(0.2 + rng.random() * (seconds - 0.25), self._strike, rng.choice(chosen))
        for _ in range(6):
            loop.call_outside(0.2 + rng.random() * seconds, self.clients.ask_progress)
            loop.call_outside(0.2 + rng.random() * seconds, self.clients.resume)

    def _strike(self, fault: Callable[[], object]) -> None:
        if not self.clients.stopped:
            name = fault.__name__
            self.outcome.faults[name] = self.outcome.faults.get(name, 0) + 1
            self.cluster.note("storm", name)
            fault()

    def _later(self, low: float, high: float, callback: Callable[..., object], *args: Any) -> None:
        loop = self.sim.loop
        loop.call_outside(loop.now + self.random.uniform(low, high), callback, *args)

    def _any(self) -> Seat | None:
        up = self.cluster.up
        return self.random.choice(up) if up else None

    # -- processes -------------------------------------------------------------------------------------

    def crash(self, seat: Seat | None = None) -> None:
        seat = seat or self._any()
        if seat is not None and seat.process is not None:
            self.outcome.crashes += 1
            seat.crash(self.random.choice(_LOSSES))
            self._later(0.02, 0.6, self.restart, seat)

    def crash_leader(self) -> None:
        self.crash(self.cluster.leader)

    def crash_all(self) -> None:
        for seat in list(self.cluster.seats.values()):
            if seat.process is not None and not seat.retired:
                self.outcome.crashes += 1
                seat.crash(self.random.choice(_LOSSES))
                self._later(0.01, 0.3, self.restart, seat)

    def restart(self, seat: Seat) -> None:
        if seat.up or seat.removed or seat.retired:
            return
        if seat.process is not None and seat.process.alive and not seat.failure and not seat.start_failure:
            return
        if seat.process is not None:
            seat.crash(Loss.NONE)
        if not seat.boot():
            self.crash(seat)

    def pause(self) -> None:
        seat = self.cluster.leader if self.random.random() < 0.5 else self._any()
        if seat is not None and not seat.paused:
            host, process = seat.host, seat.process
            host.pause()
            self._later(0.02, 0.5, self._resume, host, process)

    def _resume(self, host: Any, process: Any) -> None:
        if host.process is process and process.alive and process.paused:
            self._go_on(self.cluster.seats[host.name])

    def _go_on(self, seat: Seat) -> None:
        seat.host.resume()
        self.cluster.wire.release(seat.id)

    def failpoint(self) -> None:
        """The process dies at a named place in its next lives, or in this one."""
        seat = self._any()
        if seat is None:
            return
        self._arm_at[seat.name] = (self.random.choice(FAILPOINTS), self.random.randrange(1, 4))
        if seat.member is not None:
            self._arm(seat, seat.member.world)

    def _arm(self, seat: Seat, world: Any) -> None:
        armed = self._arm_at.pop(seat.name, None)
        if armed is None:
            return
        name, count = armed
        left = [count]

        def hit() -> None:
            left[0] -= 1
            if left[0] == 0:
                self.outcome.crashes += 1
                self.sim.loop.call_outside(self.sim.loop.now, self._died, seat, seat.process)
                seat.host.stop_here()

        world.failpoints.arm(name, hit)

    def _died(self, seat: Seat, process: Any) -> None:
        """The process has killed itself: what it left, and a new one later."""
        if seat.process is process and process is not None and not process.alive:
            seat.crash(self.random.choice(_LOSSES))
            self._later(0.02, 0.4, self.restart, seat)

    # -- disks -----------------------------------------------------------------------------------------

    def crash_in_disk(self) -> None:
        """Power fails in the middle of an operation."""
        seat = self._any()
        if seat is None:
            return
        faults, drive = seat.host.drive.faults, seat.host.drive
        faults.crash_at = drive.operations + self.random.randrange(1, 12)
        faults.crash_keeps = self.random.choice((None, 0, 1, 7, 40))
        process = seat.process

        def look() -> None:
            if seat.process is process and process is not None and not process.alive:
                self.outcome.crashes += 1
                self._died(seat, process)
            elif seat.process is process:
                faults.crash_at = 0

        self._later(0.05, 0.15, look)

    def slow_disk(self) -> None:
        seat = self._any()
        if seat is not None:
            faults = seat.host.drive.faults
            usual = faults.sync_seconds
            slow = self.random.uniform(0.02, 0.3)
            faults.sync_seconds = lambda: slow
            self._later(0.1, 0.6, setattr, faults, "sync_seconds", usual)

    def full_disk(self) -> None:
        seat = self._any()
        if seat is not None:
            self.disk_faults = True
            faults = seat.host.drive.faults
            faults.capacity_bytes = seat.host.drive.used_bytes() + self.random.choice((0, 200, 3000))

            def free() -> None:
                faults.capacity_bytes = 0
                self._later(0.0, 0.1, self.restart, seat)

            self._later(0.1, 0.5, free)

    # -- links -----------------------------------------------------------------------------------------

    def _cut(self, links: set[tuple[int, int]], low: float = 0.05, high: float = 0.6) -> None:
        wire = self.cluster.wire
        wire.cut |= links

        def mend() -> None:
            for link in links & wire.cut:
                wire.since[link] = self.sim.loop.now
            wire.cut -= links

        self._later(low, high, mend)

    def partition(self) -> None:
        ids = list(self.cluster.wire.seats)
        if len(ids) < 2:
            return
        self.random.shuffle(ids)
        some = set(ids[: self.random.randrange(1, len(ids))])
        others = set(ids) - some
        self._cut({(a, b) for a in some for b in others} | {(b, a) for a in some for b in others})

    def isolate_leader(self) -> None:
        leader = self.cluster.leader
        if leader is not None:
            others = [one for one in self.cluster.wire.seats if one != leader.id]
            links = {(leader.id, one) for one in others}
            if self.random.random() < 0.6:
                links |= {(one, leader.id) for one in others}
            self._cut(links)

    def old_leader(self) -> None:
        """The leader is cut off or stopped, somebody follows it, and clients ask both."""
        leader = self.cluster.leader
        if leader is None or leader.member is None:
            return
        rng, clients = self.random, self.clients
        for _ in range(rng.randrange(3)):  # they never get away, perhaps
            clients.ask(
                leader, -3, WRITE, pb.PutRequest(key=rng.choice(KEYS), value=b"old %d" % len(clients.calls))
            )
        if rng.random() < 0.5:
            self.isolate_leader()
        elif not leader.paused:
            leader.host.pause()
            self._later(0.15, 0.3, self._resume, leader.host, leader.process)
        for number in range(12):
            self._later(0.1 + number * 0.012, 0.105 + number * 0.012, self._ask_both, leader)

    def _ask_both(self, former: Seat) -> None:
        """A write at the others, and when it is answered a read at the former leader."""
        others = [seat for seat in self.cluster.up if seat is not former]
        if self.clients.stopped or not others or not former.up:
            return
        clients, rng = self.clients, self.random
        key = rng.choice(KEYS)
        if clients.leases:
            clients.renew(former, rng.choice(clients.leases))

        def read() -> None:
            if former.up and not clients.stopped:
                clients.ask(former, -5, READ, pb.RangeRequest(key=key))

        put = pb.PutRequest(key=key, value=b"new %d" % len(clients.calls))
        clients.ask(rng.choice(others), -4, WRITE, put, read)

    def fall_behind(self) -> None:
        """A member hears nothing until it needs a snapshot, and perhaps dies while it takes it over."""
        leader, rng = self.cluster.leader, self.random
        others = [seat for seat in self.cluster.up if seat is not leader]
        if leader is None or not others:
            return
        seat = rng.choice(others)
        ids = [one for one in self.cluster.wire.seats if one != seat.id]
        self._cut({(seat.id, one) for one in ids} | {(one, seat.id) for one in ids}, 0.2, 0.6)
        count = self.cluster.settings.snapshot_count + self.cluster.settings.catchup_entries
        for number in range(min(count, 30)):
            self._later(0.02 + number * 0.004, 0.03 + number * 0.004, self._write_somewhere, seat)
        if rng.random() < 0.6 and seat.member is not None:
            self._arm_at[seat.name] = (rng.choice(SNAPSHOT_FAILPOINTS), 1)
            self._arm(seat, seat.member.world)

    def _write_somewhere(self, but: Seat) -> None:
        others = [seat for seat in self.cluster.up if seat is not but]
        if others and not self.clients.stopped:
            put = pb.PutRequest(key=self.random.choice(KEYS), value=b"more %d" % len(self.clients.calls))
            self.clients.ask(self.random.choice(others), -6, WRITE, put)

    def one_way(self) -> None:
        ids = list(self.cluster.wire.seats)
        self._cut({(a, b) for a in ids for b in ids if a != b and self.random.random() < 0.3})

    def noise(self) -> None:
        wire, rng = self.cluster.wire, self.random
        wire.loss = rng.choice((0.0, 0.05, 0.3))
        wire.repeat = rng.choice((0.0, 0.1, 0.3))
        wire.reorder = rng.choice((0.0, 0.2, 0.6))
        wire.delay = rng.choice(((0.0002, 0.001), (0.001, 0.02), (0.005, 0.06)))
        wire.snapshot_loss = rng.choice((0.0, 0.3))
        self._later(0.1, 0.7, self._quiet)

    def _quiet(self) -> None:
        wire = self.cluster.wire
        wire.loss = wire.repeat = wire.reorder = wire.snapshot_loss = 0.0
        wire.delay = (0.0002, 0.001)

    # -- orders ----------------------------------------------------------------------------------------

    def transfer(self) -> None:
        leader, target = self.cluster.leader, self._any()
        if leader is not None and target is not None and leader.member is not None:
            leader.run(leader.member.transfer_leader, target.id, lambda problem: None)

    def check_now(self) -> None:
        self.cluster.check()

    def reconfigure(self) -> None:
        """Add a learner or a voter, promote, remove, in whatever order it comes."""
        rng, cluster = self.random, self.cluster
        seat, membership = self._any(), cluster.newest_membership()
        if seat is None or membership is None or seat.member is None:
            return
        voters = [one.id for one in membership.voters()]
        learners = [one.id for one in membership.in_order() if one.is_learner]
        draw = rng.random()
        if draw < 0.3 and len(voters) > 3:
            gone = rng.choice(voters)
            up = [one for one in cluster.up if one.id in voters and one.id != gone]
            if len(up) * 2 <= len(voters):
                return
            cluster.change(seat, ConfChange(0, REMOVE_NODE, gone), lambda problem: None)
        elif draw < 0.5 and learners:
            cluster.change(seat, promote_change(rng.choice(learners)), lambda problem: None)
        elif draw < 0.6 and learners:
            cluster.change(seat, ConfChange(0, REMOVE_NODE, rng.choice(learners)), lambda problem: None)
        elif len(cluster.seats) < len(cluster.founders) + 3:
            self._add(seat, as_learner=rng.random() < 0.7)

    def _add(self, seat: Seat, *, as_learner: bool) -> None:
        cluster = self.cluster
        member = seat.member
        assert member is not None
        name = f"n{self.next_seat}"
        self.next_seat += 1
        url = peer_url(name)
        new_id = member_id([url], "added", self.next_seat)
        one = ClusterMember(new_id, (url,), is_learner=as_learner)
        kind = ADD_LEARNER_NODE if as_learner else ADD_NODE
        cluster_id = member.cluster_id

        def added(problem: Any) -> None:
            if problem is None and name not in cluster.seats:
                fresh = cluster.add_seat(name)
                fresh.joined = Joined(new_id, cluster_id)
                self.sim.loop.call_outside(self.sim.loop.now + 0.01, self.restart, fresh)

        cluster.change(seat, ConfChange(0, kind, new_id, one.to_json().encode()), added)

    # -- healing ---------------------------------------------------------------------------------------

    def _heal(self) -> None:
        cluster, wire = self.cluster, self.cluster.wire
        self.clients.stopped = True
        self._quiet()
        wire.mend()
        self._arm_at.clear()
        for seat in cluster.seats.values():
            faults = seat.host.drive.faults
            faults.crash_at = faults.capacity_bytes = 0
            faults.crash_keeps = None
            faults.fail_at.clear()
            faults.sync_seconds = lambda: 0.0005
            if seat.paused:
                self._go_on(seat)

    def _tend(self) -> None:
        """What an operator does: start what has ended, unless it was removed."""
        membership = self.cluster.newest_membership()
        if membership is not None:
            self._start_added(membership)
        for seat in self.cluster.seats.values():
            if membership is not None and seat.id in membership.removed:
                seat.removed = True
            if seat.paused:
                self._go_on(seat)
            if not seat.up and not seat.removed and not seat.retired:
                if seat.process is not None:
                    seat.crash(Loss.NONE)
                if not seat.boot() and seat.start_failure is not None:
                    raise Violation(f"{seat.name} does not start: {seat.start_failure!r}")

    def _start_added(self, membership: Membership) -> None:
        """Those whose addition was committed, though nobody lived to tell."""
        for one in membership.in_order():
            name = one.peer_urls[0].removeprefix("http://").removesuffix(":2380")
            if name not in self.cluster.seats:
                self.cluster.add_seat(name).joined = Joined(one.id, membership.cluster_id)

    def _settle(self) -> None:
        sim = self.sim
        end = sim.now + HEAL_SECONDS
        asked: dict[str, Any] = {}
        while True:
            self._raise_violation()
            self._tend()
            sim.run_for(0.05)
            if self._is_settled(asked):
                return
            if sim.now > end:
                raise Violation(f"no progress {HEAL_SECONDS} s after healing: {self._state()}")

    def _let_leases_end(self) -> None:
        """While a leader lives, a lease ends soon after its time is over."""
        self.sim.run_for(QUIET_SECONDS)
        leader = self.cluster.leader
        if leader is None or leader.member is None:
            raise Violation("the leader was lost though nothing is wrong any more")
        now = leader.member.clock.monotonic()
        for lease in leader.member.lessor.by_remaining():
            if lease.expiry < now - LEASE_DELAY_SECONDS:
                raise Violation(f"lease {lease.id} should have ended {now - lease.expiry:.3f} s ago")
            if leader.member.lessor.primary and lease.expiry > now + lease.ttl + 2 * ELECTION_SECONDS:
                raise Violation(
                    f"lease {lease.id} of {lease.ttl} s lasts until {lease.expiry - now:.3f} s from now"
                )

    def _members(self) -> list[Seat]:
        membership = self.cluster.newest_membership()
        assert membership is not None
        return [seat for seat in self.cluster.seats.values() if seat.id in membership.members]

    def _is_settled(self, asked: dict[str, Any]) -> bool:
        """A leader, a write and a read through each member, and the same log applied everywhere."""
        leader = self.cluster.leader
        if leader is None or leader.member is None:
            return False
        seats = self._members()
        if len({seat.id for seat in seats}) != len(leader.member.membership.members):
            return False
        if not all(seat.up and seat.member is not None for seat in seats):
            return False
        for seat in seats:
            assert seat.member is not None
            if seat.member.is_learner:
                continue
            call = asked.get(seat.name)
            if self._must_ask(call):
                number = len(self.clients.calls)
                request = pb.PutRequest(key=b"k0", value=b"final %d" % number)
                asked[seat.name] = self.clients.ask(seat, -1, WRITE, request)
                return False
            read = asked.get(seat.name + "/read")
            if call.complete is not None and self._must_ask(read):
                asked[seat.name + "/read"] = self.clients.ask(
                    seat, -2, READ, pb.RangeRequest(key=b"k0", range_end=b"k9")
                )
                return False
            if call.complete is None or read is None or read.complete is None:
                return False
        last = leader.member.node.last_index
        return all(
            seat.member is not None and not seat.member.installing and seat.member.applied == last
            for seat in seats
        )

    def _is_quiet(self) -> bool:
        """No entry is on its way: leases may end even now."""
        last = len(self.observer.log)
        return all(
            seat.member is not None
            and seat.member.applied == last
            and seat.member.node.last_index == last
            and not seat.member.hub.pending
            for seat in self._members()
        )

    def _must_ask(self, call: Any) -> bool:
        """Whether this was never asked, was refused, or has got lost with a leader that is no more."""
        if call is None or call.error is not None:
            return True
        return call.complete is None and self.sim.now > call.invoke + LOST_SECONDS

    def _state(self) -> str:
        lines = []
        for seat in self.cluster.seats.values():
            member = seat.member
            if member is None:
                lines.append(f"{seat.name}: down, removed {seat.removed}, {seat.failure!r}")
                continue
            node = member.node
            lines.append(
                f"{seat.name} {seat.id:x}: up {seat.up} paused {seat.paused} {member.role.name} "
                f"term {node.term} lead {member.lead:x} last {node.last_index} commit {node.commit_index} "
                f"applied {member.applied} installing {member.installing} failure {seat.failure!r} "
                f"conf {node.conf_state.voters}"
            )
        lines += [str(call) for call in self.clients.calls[-6:]]
        return "\n  ".join(["", *lines])

    def _raise_violation(self) -> None:
        if self.observer.violation is not None:
            raise self.observer.violation
        for seat, reason in self.cluster.ended:
            if isinstance(reason, MemberRemoved):
                continue
            if self.disk_faults and "space" in str(reason).lower():
                continue
            raise Violation(f"{seat.name} ended itself: {reason!r}") from reason
        self.cluster.ended.clear()

    # -- checking --------------------------------------------------------------------------------------

    def _check(self) -> None:
        self.sim.run_for(0.3)  # watchers hear the last of it
        self.sim.run_until(self._is_quiet, seconds_max=2.0, step_seconds=0.003)
        self._raise_violation()
        cluster, observer, clients = self.cluster, self.observer, self.clients
        cluster.check()
        machine = StateMachine()
        for index, entry in observer.normal_entries():
            machine.apply(index, entry.data)
        times = {index: entry.time for index, entry in observer.log.items()}
        calls = clients.calls
        out = self.outcome
        out.calls, out.entries = len(calls), len(observer.log)
        out.answered = sum(call.answer is not None for call in calls)
        out.leaders, out.snapshots = observer.leader_changes, cluster.wire.snapshots
        self._complete_watches(machine)
        self._check_states(machine)
        check_calls(calls, machine, times)
        check_watches(clients.watches, machine)
        check_leases(machine, calls, clients.renewals, times, rate_max=RATE_MAX)

    def _check_states(self, machine: StateMachine) -> None:
        """Every member holds what the log says: keys, leases, membership, and the same hash."""
        hashes: dict[str, Any] = {}
        seats = self._members()
        for seat in seats:
            member = seat.member
            assert member is not None
            store = member.store
            store.check()
            if store.rev != machine.rev:
                raise Violation(f"{seat.name} is at revision {store.rev} of {machine.rev}")
            range_all = pb.RangeRequest(key=b"k0", range_end=b"k9")
            found = pb.RangeResponse.decode(store.range(range_all)).kvs
            expected = machine.at(machine.rev, b"k0", b"k9")
            if found != expected:
                raise Violation(f"{seat.name} holds {found}, the log says {expected}")
            if {lease.id for lease in member.lessor.by_remaining()} != machine.leases.keys():
                raise Violation(f"{seat.name} has other leases than the log: {machine.leases.keys()}")
            for lease in member.lessor.by_remaining():
                if set(lease.keys) != machine.leases[lease.id].keys:
                    raise Violation(f"{seat.name}: lease {lease.id} holds {lease.keys}")
            seat.run(member.hash_kv, 0, lambda kv, name=seat.name: hashes.__setitem__(name, kv))
        self.sim.run_until(lambda: len(hashes) == len(seats), seconds_max=5)
        if len({(kv.hash, kv.revision, kv.compact_revision) for kv in hashes.values()}) > 1:
            raise Violation(f"members differ: {hashes}")
        members, removed = self._membership_of_log()
        for seat in seats:
            assert seat.member is not None
            membership = seat.member.membership
            found_members = {one.id: one.is_learner for one in membership.in_order()}
            if (found_members, membership.removed) != (members, removed):
                raise Violation(
                    f"{seat.name} knows members {found_members}, removed {membership.removed}; "
                    f"the log says {members}, {removed}"
                )
        memberships = {seat.member.membership.to_json() for seat in seats if seat.member is not None}
        if len(memberships) > 1:
            raise Violation(f"members see different memberships: {memberships}")

    def _membership_of_log(self) -> tuple[dict[int, bool], set[int]]:
        """Whether each member is a learner, and who was removed, by the changes in the log alone."""
        members: dict[int, bool] = {}
        urls: dict[int, str] = {}
        removed: set[int] = set()
        learners_max = self.cluster.configuration("m0").max_learners
        for index in range(1, len(self.observer.log) + 1):
            entry = self.observer.log[index]
            if entry.type != ENTRY_CONF_CHANGE:
                continue
            change = raftpb.ConfChange.decode(entry.data)
            one = change.node_id
            if one in removed:
                continue
            if change.type == REMOVE_NODE:
                is_last = list(members.values()).count(False) == 1
                if one in members and (members[one] or not is_last):
                    del members[one]
                    removed.add(one)
                continue
            context = json.loads(change.context)
            if context.get("isPromote"):
                if members.get(one):
                    members[one] = False
                continue
            taken = any(urls[other] == context["peerURLs"][0] for other in members)
            is_learner = change.type == ADD_LEARNER_NODE
            full = is_learner and list(members.values()).count(True) >= learners_max
            if one not in members and not taken and not full:
                members[one] = is_learner
                urls[one] = context["peerURLs"][0]
        return members, removed

    def _complete_watches(self, machine: StateMachine) -> None:
        """Watchers that live must have heard of everything by now."""
        living = self._members()
        for record, member, _ in self.clients.open_watches:
            seat = self.cluster.seats[record.member]
            if seat in living and seat.member is member and seat.up and seat.life == record.life:
                record.complete_to = machine.rev


COMPLAINTS = (Violation, Wrong)


def run(seed: int, size: int = 5, *, traced: bool = False) -> Outcome:
    """Raises what a checker found, with the seed in its notes."""
    storm = Storm(seed, size, traced=traced)
    try:
        return storm.run()
    except Exception as error:
        error.add_note(f"cluster seed {seed}, {size} members; faults {storm.outcome.faults}")
        raise


def trace_of(seed: int, size: int = 5) -> list[str]:
    """The same run again, with all that happened in it; the last lines of that."""
    storm = Storm(seed, size, traced=True)
    try:
        storm.run()
    except Exception as error:  # noqa: BLE001 - it has been reported
        storm.sim.note("storm", f"{type(error).__name__}: {error}")
    return list(storm.sim.trace)
