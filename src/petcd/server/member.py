"""One member: all its state belongs to one thread, and one turn of one loop is one batch.

Connections only collect: they call ``propose`` and ``read``, which append to a queue and ask for a turn.
``turn`` then reads top to bottom, and its order is the safety argument:

1. what other members said since the last turn is stepped into raft;
2. what was proposed becomes raft entries in one call;
3. waiting linearizable reads share one read-index round;
4. raft says what to send at once, what to make durable, what to apply;
5. committed entries are applied in order, in memory, and their proposers answered;
6. reads whose index is applied are answered;
7. the other members get one write each, before our own disk is waited for;
8. each connection of a client that has something to say gets one write.

An answer to a write leaves only after its entry was committed, that is after a quorum has it on disk; this
member counts itself only when its own WAL has said so (``LogWriter``).

The backend commits about ten times a second, everything applied until then together with the consistent
index, in one transaction. It never runs ahead of the WAL: entries are applied once they are durable here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from petcd import errors
from petcd.errors import EtcdError
from petcd.logs import Logger
from petcd.pb import splice
from petcd.raft import (
    ENTRY_NORMAL,
    MSG_SNAP,
    ConfChange,
    Entry,
    Message,
    ProposalDropped,
    Ready,
    Role,
    Snapshot,
    encode_conf_change,
)
from petcd.seams import Lane, Timer, World
from petcd.server.applier import Applier, decode_request
from petcd.server.confchange import apply_conf_change
from petcd.server.config import Config
from petcd.server.describe import describe_batch, go_duration
from petcd.server.ids import RequestIds, hex_id
from petcd.server.inbox import Inbox
from petcd.server.installing import Installer
from petcd.server.leader import LeaderView
from petcd.server.logwriter import LogWriter
from petcd.server.membership import ClusterMember
from petcd.server.parts import Parts
from petcd.server.peering import Peers, Solo
from petcd.server.proposals import NOBODY, Proposal, Proposals, Waiter
from petcd.server.quota import Quota
from petcd.server.reads import Read, Reads
from petcd.server.sending import SnapshotSender
from petcd.server.slices import Compaction, HubSlices, LongJobs
from petcd.server.snapshotting import take_snapshot
from petcd.server.space import SpaceAlarm
from petcd.storage import schema

APPLY_GAP_MAX: Final = 5000
"""Committed entries that may wait for apply before new requests are refused."""
_FLUSH_BYTES: Final = 16 * 1024 * 1024
"""Applied requests that may lie in the backend's buffer before it is flushed ahead of time."""
_UNLED_BYTES_MAX: Final = 64 * 1024 * 1024
"""Proposals that may wait for a leader before new ones are refused."""
_QUOTA_MARGIN_BYTES: Final = 16 * 1024 * 1024
_ANNOUNCE_SECONDS: Final = 0.002
"""How long a commit index may wait for entries that carry it to the members that have nothing to do with it.
Messages of their own were two fifths of all at one client."""
_LONE_BATCH: Final = 2
"""Entries applied together that say that clients come alone: a message then does not wait for company."""


def _nothing() -> None:
    return


class MemberStopped(Exception):
    """The member ended itself: its disk failed, or an invariant broke."""


class MemberRemoved(MemberStopped):
    """The member was removed from its cluster, for good. Not a failure."""


class Member:
    """A running member. Everything is called on its one thread.

    ``flush_edges`` writes out what connections have gathered; ``failed`` is called once when the member
    cannot go on, with the reason.
    """

    def __init__(
        self,
        world: World,
        config: Config,
        parts: Parts,
        logger: Logger,
        *,
        flush_edges: Callable[[], object],
        failed: Callable[[BaseException], object],
        peers: Peers | None = None,
    ) -> None:
        """``peers`` may be set later, before ``start``: the transport wants to know its receiver."""
        self.id = parts.member_id
        self.cluster_id = parts.cluster_id
        self.config = config
        self.logger = logger
        self.store = parts.store
        self.hub = parts.hub
        self.lessor = parts.lessor
        self.alarms = parts.alarms
        self.membership = parts.membership
        self.backend = parts.backend
        self.node = parts.node
        self.wal = parts.wal
        self.snapshotter = parts.snapshotter
        self.quota = Quota(config.quota_backend_bytes)
        self.clock = world.clock
        self.random = world.random
        self.world = world
        self.flush_edges = flush_edges
        self._report_failure = failed
        self.stopping = False
        self.stopped = False

        self.peers: Peers = Solo() if peers is None else peers
        self.ids = RequestIds(self.id, world.clock.wall_ns())
        self.proposals = Proposals(config.request_timeout_ticks)
        self._proposed: list[Entry] = []
        self._unled_bytes = 0
        self._inbox = Inbox(logger)

        self.applied = parts.applied
        self.applied_term = parts.applied_term
        self.snapshot_index = parts.snapshot_index
        self._snapshotting = False
        self.installing = False
        """A received snapshot is on its way into the backend; entries behind it wait in ``_deferred``."""
        self._install_at_start = parts.install
        self._deferred: list[Entry] = []
        self._flushing = False
        self._unflushed_bytes = 0
        self.tick_count = 0
        self.tick_seconds = config.heartbeat_ms / 1000
        self._turn_due = False
        self._announcing = False
        self._batch_count = 0
        """Entries that were applied together the last time: how busy the cluster is."""
        self._is_behind = False
        """Too many committed entries wait for apply, as of the last turn."""
        self._request_bytes_max = config.max_request_bytes
        self._timers: list[Timer] = []
        self.lead = 0
        self.leader = LeaderView(self)
        self.reads = Reads(
            self.node,
            self.ids,
            self.clock,
            logger,
            timeout_ticks=config.request_timeout_ticks,
            slow_seconds=config.warning_apply_seconds,
            on_slow=self._warn_of_slow_reads,
        )
        self.slow_applies = 0
        self.range_count = 0

        self._header = splice.Header(self.cluster_id, self.id)
        self.hub.header = self._watch_header
        self._hub_slices = HubSlices(self)
        self.hub.wake = self._hub_slices.wake
        self.raise_nospace = SpaceAlarm(self).start
        self.applier = Applier(
            store=self.store,
            hub=self.hub,
            lessor=self.lessor,
            alarms=self.alarms,
            membership=self.membership,
            quota=self.quota,
            logger=logger,
            now=world.clock.monotonic,
            raise_nospace=self.raise_nospace,
        )
        self.compaction = Compaction(self)
        self.when_compacted = self.compaction.when_compacted
        self.jobs = LongJobs(self)
        self.hash_kv, self.hash = self.jobs.hash_kv, self.jobs.hash
        self.defragment = self.jobs.defragment
        self.installer = Installer(self)
        self.sender = SnapshotSender(self)
        self._wal_lane = world.disk.lane("wal")
        self._files_lane = world.disk.lane("files")
        """For files whose syncs must not hold up the WAL's."""
        self._snapshot_lane: Lane | None = None
        self.log = LogWriter(
            parts.wal,
            self._wal_lane,
            world.failpoints,
            parts.snapshotter,
            persisted=self._on_persisted,
            send=self._send,
            snapshot_saved=self.installer.begin,
            failed=self.fail,
        )

    # -- life ----------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to tick; a member that is alone in its cluster need not wait for an election timeout."""
        self._timers = [
            self.clock.call_later(self.tick_seconds, self._tick),
            self.clock.call_later(self.config.backend_batch_interval_seconds, self._flush_on_timer),
        ]
        self._add_peers()
        if self._install_at_start is not None:
            self.installing = True
            self.installer.expect(self._install_at_start)
            self.installer.begin(self._install_at_start)
            self._install_at_start = None
        self.turn()  # what was committed before is applied first: the configuration is in it
        if self.node.conf_state.voters == [self.id]:
            self.logger.info(
                "started as single-node; fast-forwarding election ticks",
                **{"local-member-id": hex_id(self.id), "advance-ticks": self.config.election_ticks - 1},
            )
            self.node.campaign()
        self.compaction.resume()
        self.turn()

    def _add_peers(self) -> None:
        for one in self.membership.in_order():
            if one.id != self.id:
                self.peers.add(one.id, one.peer_urls)

    def fail(self, reason: BaseException) -> None:
        """Stop at once, loudly, before anything can be acknowledged that is not so."""
        if self.stopped:
            return
        self.logger.fatal("member cannot go on", error=str(reason) or type(reason).__name__)
        self._end()
        self._report_failure(reason)

    def stop(self, done: Callable[[], object]) -> None:
        """Answer who waits, make everything durable, then call ``done``."""
        if self.stopped or self.stopping:
            done()
            return
        self.stopping = True
        self._fail_waiting(errors.Stopped())
        self.peers.flush()
        self._when_idle(lambda: self._stop_backend(done))

    def _stop_backend(self, done: Callable[[], object]) -> None:
        if self.stopped:
            done()
            return

        def logged() -> None:
            if self.stopped:
                done()
            else:
                self.commit_backend(flushed)

        def flushed() -> None:
            self._end()
            done()

        self.log.flush_commit(logged)

    def _when_idle(self, then: Callable[[], object]) -> None:
        if self.stopped or self.log.idle:
            then()
        else:
            self.clock.call_later(0.002, self._when_idle, then)

    def _end(self) -> None:
        self.stopped = True
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()
        self._fail_waiting(errors.Stopped())

    def close(self) -> None:
        """Give back lanes, files and locks; after ``stop`` or ``fail``."""
        self._end()
        self.sender.abandon()
        self.peers.close()
        if self._snapshot_lane is not None:
            self._snapshot_lane.close()
        self._files_lane.close()
        self._wal_lane.close()
        self.wal.close()
        self.backend.close()

    def _fail_waiting(self, error: EtcdError) -> None:
        self.proposals.fail_all(error)
        self.reads.fail_all(error)
        self.leader.fail_all(error)
        self.flush_edges()

    # -- what connections ask --------------------------------------------------------------------------

    def propose(self, kind: int, body: bytes, request: object, waiter: Waiter) -> None:
        """Send a request through the log; the waiter is answered when it is applied.

        ``body`` is the encoded request, spliced as it came; ``request`` the same, decoded.
        """
        if self.stopping or self.stopped:
            waiter.fail(errors.Stopped.code, errors.Stopped.text)
            return
        if self._is_behind:
            waiter.fail(errors.RequestTooManyRequests.code, errors.RequestTooManyRequests.text)
            return
        request_id = self.ids.next()
        data = splice.internal_request(kind, body, request_id)
        if len(data) > self._request_bytes_max:
            waiter.fail(errors.RequestTooLarge.code, errors.RequestTooLarge.text)
            return
        proposal = Proposal(kind, request, waiter, request_id, self.tick_count)
        self.proposals.by_id[request_id] = proposal
        self._proposed.append(Entry(0, 0, ENTRY_NORMAL, data, proposal))
        if not self._turn_due:
            self._turn_due = True
            self.clock.call_soon(self.turn)

    def propose_message(self, kind: int, request: Any, waiter: Waiter = NOBODY) -> None:
        """``propose`` for a request that this member makes itself."""
        self.propose(kind, request.encode(), request, waiter)

    def propose_as_leader(self, kind: int, request: Any, waiter: Waiter = NOBODY) -> None:
        """Propose what only a leader may ask for: as an entry of this member's own term, or not at all.

        Otherwise one that has just been deposed would hand its view of the cluster on to the next leader.
        """
        self.clock.call_soon(self._propose_as_leader, kind, request, waiter)

    def _propose_as_leader(self, kind: int, request: Any, waiter: Waiter) -> None:
        self.turn()  # take in whatever says that another leads
        if not self.is_leader:
            waiter.fail(errors.ProposalDropped.code, errors.ProposalDropped.text)
            return
        self.propose_message(kind, request, waiter)
        self.turn()

    def read(self, answer: Callable[[Any, Any], object], waiter: Any, request: Any) -> None:
        """Call ``answer(waiter, request)`` once every write acknowledged before now is applied here."""
        if self.stopping or self.stopped:
            waiter.fail(errors.Stopped.code, errors.Stopped.text)
            return
        self.reads.queued.append((answer, waiter, request))
        if not self._turn_due:
            self._turn_due = True
            self.clock.call_soon(self.turn)

    def propose_conf_change(self, change: ConfChange, waiter: Waiter) -> None:
        """Send a change of the membership through the log; the waiter is answered when it is applied.

        ``change.id`` is given here. A change that came while another was not yet applied has no effect and
        is answered late, with a time-out.
        """
        if self.stopping or self.stopped:
            waiter.fail(errors.Stopped.code, errors.Stopped.text)
            return
        change.id = self.ids.next()
        proposal = Proposal(0, change, waiter, change.id, self.tick_count)
        self.proposals.by_id[change.id] = proposal
        kind, data = encode_conf_change(change)
        self._proposed.append(Entry(0, 0, kind, data, proposal))
        self.ask_turn()

    def ask_turn(self) -> None:
        """There is something to do that no turn has seen."""
        if not self._turn_due and not self.stopped:
            self._turn_due = True
            self.clock.call_soon(self.turn)

    def transfer_leader(self, to: int, done: Callable[[EtcdError | None], object]) -> None:
        """Hand the leadership to a voter; ``done(None)`` when it leads."""
        self.leader.transfer(to, done)

    def hand_over(self, done: Callable[[EtcdError | None], object]) -> None:
        """Hand the leadership to somebody, if this member has it; the step before a stop."""
        self.leader.hand_over(done)

    def when_led(self, then: Callable[[], object]) -> None:
        """Call ``then`` as soon as a leader is known."""
        self.leader.when_led(then)

    def header(self) -> bytes:
        """The response header as a field, with the store's present revision."""
        return self._header.at(self.store.rev, self.node.term)

    def header_at(self, rev: int) -> bytes:
        """The response header for a revision of the past."""
        return self._header.at(rev, self.node.term)

    def bare_header(self) -> bytes:
        """The same without a revision, as the membership calls answer."""
        return self._header.at(0, self.node.term)

    def _watch_header(self, rev: int) -> bytes:
        return self._header.at(rev, self.node.term)

    @property
    def is_leader(self) -> bool:
        return self.lead == self.id

    @property
    def is_learner(self) -> bool:
        return self.membership.is_learner(self.id)

    @property
    def role(self) -> Role:
        return self.leader.role

    @property
    def snapshot_lane(self) -> Lane:
        """For databases on their way in or out; made when it is needed."""
        lane = self._snapshot_lane
        if lane is None:
            lane = self._snapshot_lane = self.world.disk.lane("snapshot")
        return lane

    def on_files_lane(self, job: Callable[[], None], done: Callable[[None], object]) -> None:
        """Run a blocking job about files other than the WAL's and the backend's. A failure is fatal."""
        self._files_lane.submit(job, done, self.fail)

    # -- what other members say (``peering.Receiver``) ---------------------------------------------------

    def receive(self, messages: Sequence[Message]) -> None:
        """Messages from the network, to be stepped in the next turn; a member that stops hears no more."""
        if self.stopping or self.stopped:
            return
        self._inbox.put(messages)
        if not self._turn_due:
            self._turn_due = True
            if self._batch_count <= _LONE_BATCH:
                self.turn()  # nothing is likely to join it: a lone client waits for four of these in a row
            else:
                self.clock.call_soon(self.turn)

    def receive_snapshot(self, message: Message, done: Callable[[str], object]) -> None:
        """A MsgSnap whose database is in place. ``done("")`` when raft has seen it, else with the reason."""
        if self.stopping or self.stopped:
            done("the member is stopping")
            return
        self._inbox.put_snapshot(message, done)
        self.ask_turn()

    def is_removed(self, member_id: int) -> bool:
        return member_id in self.membership.removed

    def report_unreachable(self, member_id: int) -> None:
        if not self.stopped:
            self.node.report_unreachable(member_id)

    def on_refused(self, member_id: int) -> None:
        """A member's process is gone. If it led, there is no use in waiting for it to time out: without this
        an election takes a second longer."""
        if not self.stopped:
            self.leader.on_refused(member_id)

    def on_removed(self) -> None:
        """Another member refuses this one: it has been removed, perhaps without seeing that committed."""
        if not self.stopped:
            self.logger.warn(
                "the member has been permanently removed from the cluster; the data-dir must be removed",
                **{"local-member-id": hex_id(self.id)},
            )
            self.end_as_removed()

    def end_as_removed(self) -> None:
        """End without failure: this member does not belong to the cluster any more."""
        if not self.stopped:
            self._end()
            self._report_failure(MemberRemoved("the member has been permanently removed from the cluster"))

    # -- the turn --------------------------------------------------------------------------------------

    def turn(self) -> None:
        """Everything that gathered since the last turn becomes one batch."""
        self._turn_due = False
        if self.stopped:
            return
        node = self.node
        try:
            if self._inbox:
                self._inbox.step(node)
            if self._proposed:
                self._propose_batch()
            if self.reads.queued:
                self.reads.begin(self.tick_count)
            while True:
                appending = False
                while node.has_ready():
                    ready = node.ready()
                    appending = appending or bool(ready.entries)
                    self._handle(ready)
                quick = self.log.is_quick
                if quick or not appending:
                    self.flush_edges()  # no disk can work meanwhile: clients first
                if quick:
                    self.peers.flush_to(self._inbox.quickest)
                self.peers.flush()  # the others work while our disk does
                durable = self.log.finish()
                if not durable:
                    break
                node.persisted(durable)
            if node.commit_unsaid and not self._announcing:
                self._announcing = True
                self.clock.call_later(_ANNOUNCE_SECONDS, self._announce)
            self._is_behind = node.commit_index - self.applied > APPLY_GAP_MAX
        except Exception as bug:  # noqa: BLE001 - whatever it is, going on could corrupt
            self.fail(bug)
            return
        self.flush_edges()

    def _announce(self) -> None:
        """Nothing that followed has told the others of the last commits."""
        self._announcing = False
        if not self.stopped and self.node.commit_unsaid:
            self.node.announce_commit()
            self.turn()

    def _propose_batch(self) -> None:
        """Hand raft what has gathered. Without a leader, or while the leadership is handed over, it waits for
        as long as its clients do."""
        if self.node.lead == 0 or self.node.transferee:
            self._unled_bytes = sum([len(entry.data) for entry in self._proposed])
            if self._unled_bytes > _UNLED_BYTES_MAX:
                batch, self._proposed = self._proposed, []
                self._drop(batch, errors.RequestTooManyRequests())
            return
        batch, self._proposed = self._proposed, []
        if self._unled_bytes:  # some of it has waited: perhaps in vain
            self._unled_bytes = 0
            pending = self.proposals.by_id
            batch = [entry for entry in batch if entry.request.id in pending]  # type: ignore[attr-defined]
        try:
            self.node.propose(batch)
        except ProposalDropped:
            self._drop(batch, errors.ProposalDropped())

    def _handle(self, ready: Ready) -> None:
        if ready.soft_state is not None:
            self.leader.on_soft_state(ready.soft_state)
        if ready.messages:
            self._send(ready.messages)
            if ready.committed:
                self.peers.flush()  # the others work while we apply
        if ready.snapshot is not None:
            self.installing = True
            self.installer.expect(ready.snapshot)
            self._deferred.clear()  # they are in it
        if ready.entries or ready.hard_state is not None or ready.messages_after_append or ready.snapshot:
            self.log.add(ready)
            if ready.committed:
                self.log.kick()  # the disk works while we apply
        if ready.committed:
            if self.installing:
                self._deferred += ready.committed
            else:
                self._apply(ready.committed)
        for state in ready.read_states:
            self.reads.on_state(state.index, state.context, self.applied, self.tick_count)

    def _send(self, messages: list[Message]) -> None:
        for message in messages:
            if message.type == MSG_SNAP:
                self.sender.send(message)
                messages = [one for one in messages if one.type != MSG_SNAP]
        if messages:
            self.peers.send(messages)

    def _on_persisted(self, sequence: int) -> None:
        if not self.stopped:
            self.node.persisted(sequence)
            self.turn()

    def _drop(self, batch: list[Entry], error: EtcdError) -> None:
        for entry in batch:
            proposal = entry.request
            if isinstance(proposal, Proposal) and self.proposals.by_id.pop(proposal.id, None) is not None:
                self.proposals.failed += 1
                proposal.waiter.fail(error.code, error.text)

    # -- apply -----------------------------------------------------------------------------------------

    def _apply(self, entries: list[Entry]) -> None:
        """Apply committed entries in order and answer their proposers."""
        began = self.clock.monotonic()
        handlers = self.applier.handlers
        pending = self.proposals.by_id
        store = self.store
        header = self._header.at
        self.applier.quota_is_near = self._quota_is_near()
        for entry in entries:
            if entry.type != ENTRY_NORMAL:
                apply_conf_change(self, entry)
                continue
            proposal: Any = entry.request  # a Proposal: nobody else sets it here
            if proposal is None:
                if not entry.data:
                    self._on_empty_entry(entry)
                    continue
                request_id, kind, request = decode_request(entry.data)
                proposal = pending.get(request_id)
            else:
                kind, request = proposal.kind, proposal.request
                entry.request = None  # the log keeps the entry much longer than anybody waits
            try:
                body = handlers[kind](request)
            except EtcdError as error:
                if proposal is not None:
                    pending.pop(proposal.id, None)
                    proposal.waiter.fail(error.code, error.text)
                continue
            if proposal is not None:
                pending.pop(proposal.id, None)
                proposal.waiter.reply(header(store.rev, entry.term) + body)
        self._batch_count = len(entries)
        last = entries[-1]
        took = self.clock.monotonic() - began
        if took > self.config.warning_apply_seconds:
            self._warn_of_slow_apply(took, "", entries)
        self.applied, self.applied_term = last.index, last.term
        self.node.applied_to(last.index)
        self._unflushed_bytes += sum([len(entry.data) for entry in entries])
        if self._unflushed_bytes >= _FLUSH_BYTES or self.backend.puts >= self.config.backend_batch_limit:
            self.flush_backend()
        if self.store.compaction_due:
            self.compaction.resume()
        self.reads.on_applied(last.index)
        if last.index - self.snapshot_index > self.config.snapshot_count:
            self._snapshot()

    def _warn_of_slow_apply(self, took: float, prefix: str, batch: Sequence[object]) -> None:
        """One line for a batch: what took so long is one of its requests, or their number."""
        self.slow_applies += 1
        self.logger.warn(
            "apply request took too long",
            **{
                "took": go_duration(took),
                "expected-duration": go_duration(self.config.warning_apply_seconds),
                "prefix": prefix,
                "request": describe_batch(batch),
                "response": "",
            },
        )

    def _warn_of_slow_reads(self, took: float, reads: list[Read]) -> None:
        self._warn_of_slow_apply(took, "read-only ", [request for _, _, request in reads])

    def _on_empty_entry(self, entry: Entry) -> None:
        """The first entry of a leader's term is committed: the past is settled."""
        if self.is_leader and entry.term == self.node.term and not self.lessor.primary:
            self.lessor.promote(self.clock.monotonic(), self.config.election_ms / 1000)

    def _quota_is_near(self) -> bool:
        limit = self.quota.limit_bytes
        return limit != 0 and self.backend.size() + _QUOTA_MARGIN_BYTES > limit

    # -- the backend -----------------------------------------------------------------------------------

    def flush_backend(self) -> None:
        """Commit everything applied until now, with the consistent index, in one transaction."""
        if not self._flushing and not self.stopped and self.backend.puts:
            self.commit_backend(_nothing)

    def commit_backend(self, done: Callable[[], object]) -> None:
        """The same, and ``done`` when it is durable. A failure ends the member."""
        self._flushing = True
        self._unflushed_bytes = 0
        self._write_consistent_index()

        def flushed() -> None:
            self._flushing = False
            done()

        self.backend.flush(flushed, self.fail)

    def _write_consistent_index(self) -> None:
        put = self.backend.put
        put(schema.META, schema.CONSISTENT_INDEX, schema.encode_u64(self.applied))
        put(schema.META, schema.TERM, schema.encode_u64(self.applied_term))

    def _flush_on_timer(self) -> None:
        if self.stopped:
            return  # it was due when the member ended
        self._timers[1] = self.clock.call_later(
            self.config.backend_batch_interval_seconds, self._flush_on_timer
        )
        self.flush_backend()

    # -- snapshots -------------------------------------------------------------------------------------

    def _snapshot(self) -> None:
        """Make the log forgettable: commit the backend, write the .snap file, mark it in the WAL."""
        if self._snapshotting or self.stopping or self.installing:
            return
        self._snapshotting = True
        take_snapshot(self, self._on_snapshot)

    def _on_snapshot(self, index: int) -> None:
        self._snapshotting = False
        self.snapshot_index = max(self.snapshot_index, index)
        self._compact_log(index)

    def _compact_log(self, index: int) -> None:
        """Forget entries that nobody is likely to need; not while somebody is given a snapshot, for what
        comes after that must be here when it has arrived."""
        keep_from = index - self.config.snapshot_catchup_entries
        if keep_from > self.node.first_index and not self.sender.in_flight:
            self.node.compact(keep_from)

    def on_installed(self, snapshot: Snapshot, before: dict[int, ClusterMember]) -> None:
        """The backend and all state are those of a received snapshot; go on behind it. ``before`` is the
        membership that it replaced."""
        metadata = snapshot.metadata
        self.snapshot_index = metadata.index
        self.installing = False
        self.node.applied_to(metadata.index)
        self.log.release(metadata.index)
        for former in before.keys() - self.membership.members.keys():
            self.peers.remove(former)
        for one in self.membership.in_order():
            if one.id in before:
                self.peers.update(one.id, one.peer_urls)
        self._add_peers()
        if self.is_removed(self.id):
            self.on_removed()
            return
        deferred, self._deferred = self._deferred, []
        try:
            if deferred:
                self._apply(deferred)
            else:
                self.reads.on_applied(self.applied)
        except Exception as bug:  # noqa: BLE001 - as in turn
            self.fail(bug)
            return
        self.compaction.answer_waiters()
        self.compaction.resume()
        self._hub_slices.wake()  # those that were lagging before; slices rest during an install
        self.turn()

    # -- time ------------------------------------------------------------------------------------------

    def _tick(self) -> None:
        if self.stopped:
            return
        self._timers[0] = self.clock.call_later(self.tick_seconds, self._tick)
        self.tick_count += 1
        try:
            self.node.tick()
            self.proposals.expire(self.tick_count, self.leader.why_late)
            self.reads.on_tick(self.tick_count)
            self.leader.on_tick(self.tick_count)
        except Exception as bug:  # noqa: BLE001 - as in turn
            self.fail(bug)
            return
        self.turn()

    @property
    def storage_version(self) -> str:
        version = self.backend.get(schema.META, schema.STORAGE_VERSION)
        return version.decode("ascii", "replace") if version else ""
