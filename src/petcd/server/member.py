"""One member: all its state belongs to one thread, and one turn of one loop is one batch.

Connections only collect: they call ``propose`` and ``read``, which append to a queue and ask for a turn.
``turn`` then reads top to bottom, and its order is the safety argument:

1. what was proposed since the last turn becomes raft entries in one call;
2. waiting linearizable reads share one read-index round;
3. raft says what to send at once, what to make durable, what to apply;
4. committed entries are applied in order, in memory, and their proposers answered;
5. reads whose index is applied are answered;
6. each connection that has something to say gets one write.

An answer to a write leaves only after its entry was committed, that is after a quorum has it on disk; this
member counts itself only when its own WAL has said so (``LogWriter``).

The backend commits about ten times a second, everything applied until then together with the consistent
index, in one transaction. It never runs ahead of the WAL: entries are applied once they are durable here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from petcd import errors
from petcd.counters import Histogram
from petcd.errors import Code, EtcdError
from petcd.lease import Lessor
from petcd.logs import Logger
from petcd.mvcc import Compactor, HashRun, KVHash, Store, WatchHub, cached_hash, hash_all, start_hash_kv
from petcd.pb import splice
from petcd.pb.etcdserverpb import AlarmRequest
from petcd.raft import (
    ADD_NODE,
    ENTRY_NORMAL,
    LEADER,
    ConfChange,
    Entry,
    Message,
    Node,
    ProposalDropped,
    Ready,
    Role,
    SoftState,
    decode_conf_change,
)
from petcd.seams import Timer, World
from petcd.server import alarms as alarm
from petcd.server.alarms import Alarms
from petcd.server.applier import ALARM, Applier, decode_request
from petcd.server.config import Config
from petcd.server.describe import describe_batch, go_duration
from petcd.server.ids import RequestIds, hex_id
from petcd.server.logwriter import LogWriter
from petcd.server.membership import ClusterMember, Membership
from petcd.server.proposals import NOBODY, Proposal, Proposals, Waiter
from petcd.server.quota import Quota
from petcd.server.snapshotting import take_snapshot
from petcd.storage import schema
from petcd.storage.backend import Backend
from petcd.storage.snapshots import Snapshotter
from petcd.storage.wal import Wal

APPLY_GAP_MAX: Final = 5000
"""Committed entries that may wait for apply before new requests are refused."""
_FLUSH_BYTES: Final = 16 * 1024 * 1024
"""Applied requests that may lie in the backend's buffer before it is flushed ahead of time."""
_READ_BYTES_PER_RUN: Final = 2 * 1024 * 1024
"""Answers made at a stretch; the reads after that wait for the next callback."""
_QUOTA_MARGIN_BYTES: Final = 16 * 1024 * 1024

Read = tuple[Callable[[Any, Any], object], Any, Any]
"""A waiting read: function, waiter, request. Called as ``function(waiter, request)``."""


def _nothing() -> None:
    return


class _Either:
    """A waiter for which every answer is as good."""

    __slots__ = ("_then",)

    def __init__(self, then: Callable[[], object]) -> None:
        self._then = then

    def reply(self, _message: bytes, /) -> None:
        self._then()

    def fail(self, _code: int, _text: str, /) -> None:
        self._then()


class MemberStopped(Exception):
    """The member ended itself: its disk failed, or an invariant broke."""


class Parts:
    """What ``bootstrap`` opened and ``Member`` drives."""

    def __init__(
        self,
        *,
        member_id: int,
        cluster_id: int,
        node: Node,
        wal: Wal,
        snapshotter: Snapshotter,
        backend: Backend,
        store: Store,
        hub: WatchHub,
        lessor: Lessor,
        alarms: Alarms,
        membership: Membership,
        consistent_index: int,
        snapshot_index: int,
        restarted: bool,
    ) -> None:
        self.member_id = member_id
        self.cluster_id = cluster_id
        self.node = node
        self.wal = wal
        self.snapshotter = snapshotter
        self.backend = backend
        self.store = store
        self.hub = hub
        self.lessor = lessor
        self.alarms = alarms
        self.membership = membership
        self.consistent_index = consistent_index
        self.snapshot_index = snapshot_index
        self.restarted = restarted


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
    ) -> None:
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

        self.ids = RequestIds(self.id, world.clock.wall_ns())
        self.proposals = Proposals(config.request_timeout_ticks)
        self._proposed: list[Entry] = []
        self._reads: list[Read] = []
        self._round: list[Read] = []
        self._round_context = b""
        self._round_tick = 0
        self._waiting_reads: list[tuple[int, list[Read]]] = []

        self.applied = self.node.applied_index
        self._applied_term = 0
        self._consistent_index = parts.consistent_index
        """Entries up to here have their effects in the backend already; they come again after a restart."""
        self.snapshot_index = parts.snapshot_index
        self._snapshotting = False
        self._flushing = False
        self._unflushed_bytes = 0
        self._tick_count = 0
        self._turn_due = False
        self._is_behind = False
        """Too many committed entries wait for apply, as of the last turn."""
        self._request_bytes_max = config.max_request_bytes
        self._timers: list[Timer] = []
        self.lead = 0
        self.leader_changes = 0
        self.role = Role.FOLLOWER
        self._when_led: list[Callable[[], object]] = []
        self.slow_applies = self.slow_read_indexes = self.failed_read_indexes = 0
        self.defragmenting = False
        self.defrag_seconds = Histogram([0.1 * 2**i for i in range(13)])
        self.hash_seconds = Histogram([0.01 * 2**i for i in range(15)])
        self.hash_kv_seconds = Histogram([0.01 * 2**i for i in range(15)])
        self.range_count = 0
        self.read_bytes = 0
        """Bytes of answers made in the present run of reads; see ``_answer``."""

        self._header = splice.Header(self.cluster_id, self.id)
        self.hub.header = self._watch_header
        self.hub.wake = self._wake_hub
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
        self.compactor = Compactor(
            self.store, batch_limit=config.compaction_batch_limit, failpoints=world.failpoints
        )
        self._compaction_waiters: list[tuple[int, Callable[[], object]]] = []
        self._nospace_waiters: list[Callable[[], object]] = []
        self._compacting = False
        self._hub_due = False
        self._wal_lane = world.disk.lane("wal")
        self._files_lane = world.disk.lane("files")
        """For files whose syncs must not hold up the WAL's."""
        self.log = LogWriter(
            parts.wal,
            self._wal_lane,
            world.failpoints,
            persisted=self._on_persisted,
            send=self._send,
            failed=self.fail,
        )

    # -- life ----------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to tick; a member that is alone in its cluster need not wait for an election timeout."""
        self._tick_seconds = self.config.heartbeat_ms / 1000
        self._timers = [
            self.clock.call_later(self._tick_seconds, self._tick),
            self.clock.call_later(self.config.backend_batch_interval_seconds, self._flush_on_timer),
        ]
        self.turn()  # what was committed before is applied first: the configuration is in it
        if self.node.conf_state.voters == [self.id]:
            self.logger.info(
                "started as single-node; fast-forwarding election ticks",
                **{"local-member-id": hex_id(self.id), "advance-ticks": self.config.election_ticks - 1},
            )
            self.node.campaign()
        self._resume_compaction()
        self.turn()

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
        self._files_lane.close()
        self._wal_lane.close()
        self.wal.close()
        self.backend.close()

    def _fail_waiting(self, error: EtcdError) -> None:
        self.proposals.fail_all(error)
        reads = self._reads + self._round
        for _, waiting in self._waiting_reads:
            reads += waiting
        self._reads, self._round, self._waiting_reads = [], [], []
        for _, waiter, _ in reads:
            waiter.fail(error.code, error.text)
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
        proposal = Proposal(kind, request, waiter, request_id, self._tick_count)
        self.proposals.by_id[request_id] = proposal
        self._proposed.append(Entry(0, 0, ENTRY_NORMAL, data, proposal))
        if not self._turn_due:
            self._turn_due = True
            self.clock.call_soon(self.turn)

    def propose_message(self, kind: int, request: Any, waiter: Waiter = NOBODY) -> None:
        """``propose`` for a request that this member makes itself."""
        self.propose(kind, request.encode(), request, waiter)

    def read(self, answer: Callable[[Any, Any], object], waiter: Any, request: Any) -> None:
        """Call ``answer(waiter, request)`` once every write acknowledged before now is applied here."""
        if self.stopping or self.stopped:
            waiter.fail(errors.Stopped.code, errors.Stopped.text)
            return
        self._reads.append((answer, waiter, request))
        if not self._turn_due:
            self._turn_due = True
            self.clock.call_soon(self.turn)

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

    def on_files_lane(self, job: Callable[[], None], done: Callable[[None], object]) -> None:
        """Run a blocking job about files other than the WAL's and the backend's. A failure is fatal."""
        self._files_lane.submit(job, done, self.fail)

    def raise_nospace(self, then: Callable[[], object] = _nothing) -> None:
        """Raise the alarm for this member, unless it is up already; ``then`` when it is, or cannot be."""
        if self.alarms.is_active(self.id, alarm.NOSPACE):
            then()
            return
        self._nospace_waiters.append(then)
        if len(self._nospace_waiters) == 1:
            request = AlarmRequest(action=alarm.ACTIVATE, memberID=self.id, alarm=alarm.NOSPACE)
            self.propose_message(ALARM, request, _Either(self._nospace_answered))

    def _nospace_answered(self) -> None:
        waiters, self._nospace_waiters = self._nospace_waiters, []
        for then in waiters:
            then()

    def when_led(self, then: Callable[[], object]) -> None:
        """Call ``then`` as soon as a leader is known."""
        if self.lead:
            then()
        else:
            self._when_led.append(then)

    def when_compacted(self, rev: int, then: Callable[[], object]) -> None:
        """Call ``then`` when the backend no longer holds what a compaction to ``rev`` removed."""
        if self.store.finished_compact_rev >= rev or not self.store.compaction_due:
            then()
        else:
            self._compaction_waiters.append((rev, then))

    # -- the turn --------------------------------------------------------------------------------------

    def turn(self) -> None:
        """Everything that gathered since the last turn becomes one batch."""
        self._turn_due = False
        if self.stopped:
            return
        node = self.node
        try:
            if self._proposed:
                batch, self._proposed = self._proposed, []
                try:
                    node.propose(batch)
                except ProposalDropped:
                    self._drop(batch)
            if self._reads and not self._round:
                self._begin_round()
            while True:
                while node.has_ready():
                    self._handle(node.ready())
                durable = self.log.finish()
                if not durable:
                    break
                node.persisted(durable)
            self._is_behind = node.commit_index - self.applied > APPLY_GAP_MAX
        except Exception as bug:  # noqa: BLE001 - whatever it is, going on could corrupt
            self.fail(bug)
            return
        self.flush_edges()

    def _handle(self, ready: Ready) -> None:
        if ready.soft_state is not None:
            self._on_soft_state(ready.soft_state)
        if ready.messages:
            self._send(ready.messages)
        if ready.entries or ready.hard_state is not None or ready.messages_after_append:
            self.log.add(ready)
            if ready.committed:
                self.log.kick()  # the disk works while we apply
        if ready.committed:
            self._apply(ready.committed)
        for state in ready.read_states:
            self._on_read_state(state.index, state.context)

    def _send(self, messages: list[Message]) -> None:
        """Messages to other members: there are none yet."""
        assert not messages, messages

    def _on_persisted(self, sequence: int) -> None:
        if not self.stopped:
            self.node.persisted(sequence)
            self.turn()

    def _drop(self, batch: list[Entry]) -> None:
        for entry in batch:
            proposal = entry.request
            if isinstance(proposal, Proposal) and self.proposals.by_id.pop(proposal.id, None) is not None:
                self.proposals.failed += 1
                proposal.waiter.fail(errors.ProposalDropped.code, errors.ProposalDropped.text)

    # -- reads -----------------------------------------------------------------------------------------

    def _begin_round(self) -> None:
        self._round, self._reads = self._reads, []
        self._round_context = self.ids.next().to_bytes(8, "big")
        self._round_tick = self._tick_count
        self.node.read_index(self._round_context)

    def _on_read_state(self, index: int, context: bytes) -> None:
        if context != self._round_context:
            return  # an answer to a round that was given up
        reads, self._round = self._round, []
        self._round_context = b""
        if index <= self.applied:
            self._answer(reads)
        else:
            self._waiting_reads.append((index, reads))
        if self._reads:
            self._begin_round()

    def _answer_waiting_reads(self) -> None:
        still: list[tuple[int, list[Read]]] = []
        for index, reads in self._waiting_reads:
            if index > self.applied:
                still.append((index, reads))
                continue
            self._answer(reads)
        self._waiting_reads = still

    def _answer(self, reads: list[Read]) -> None:
        """Answer reads; one that fails for a reason of its own cannot have changed anything, so the rest goes
        on."""
        began = self.clock.monotonic()
        self.read_bytes = 0
        for place, (answer, waiter, request) in enumerate(reads, 1):
            try:
                answer(waiter, request)
            except Exception as bug:  # noqa: BLE001 - it is this reader's alone
                self.logger.error("read failed", error=f"{type(bug).__name__}: {bug}")
                waiter.fail(Code.INTERNAL, "internal error")
            if self.read_bytes > _READ_BYTES_PER_RUN and place < len(reads):
                self.clock.call_soon(self._answer, reads[place:])  # others want the loop, too
                del reads[place:]
                break
        took = self.clock.monotonic() - began
        if took > self.config.warning_apply_seconds:
            self._warn_of_slow_apply(took, "read-only ", [request for _, _, request in reads])

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
                self._apply_conf_change(entry)
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
            if entry.index <= self._consistent_index:
                continue
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
        last = entries[-1]
        took = self.clock.monotonic() - began
        if took > self.config.warning_apply_seconds:
            self._warn_of_slow_apply(took, "", entries)
        self.applied, self._applied_term = last.index, last.term
        self.node.applied_to(last.index)
        self._unflushed_bytes += sum([len(entry.data) for entry in entries])
        if self._unflushed_bytes >= _FLUSH_BYTES or self.backend.puts >= self.config.backend_batch_limit:
            self.flush_backend()
        if self.store.compaction_due and not self._compacting:
            self._resume_compaction()
        if self._waiting_reads:
            self._answer_waiting_reads()
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

    def _on_empty_entry(self, entry: Entry) -> None:
        """The first entry of a leader's term is committed: the past is settled."""
        if self.is_leader and entry.term == self.node.term and not self.lessor.primary:
            self.lessor.promote(self.clock.monotonic(), self.config.election_ms / 1000)

    def _apply_conf_change(self, entry: Entry) -> None:
        change = decode_conf_change(entry)
        if not isinstance(change, ConfChange):
            raise MemberStopped(f"entry {entry.index} is a change that etcd never proposes")
        conf_state = self.node.apply_conf_change(change)
        if entry.index <= self._consistent_index:
            return
        if change.type == ADD_NODE and change.context:
            member = ClusterMember.from_json(change.context)
            if member.id not in self.membership.members:
                self.membership.add(member)
                self.logger.info(
                    "added member",
                    **{
                        "cluster-id": hex_id(self.cluster_id),
                        "local-member-id": hex_id(self.id),
                        "added-peer-id": hex_id(member.id),
                        "added-peer-peer-urls": list(member.peer_urls),
                    },
                )
        self.backend.put(schema.META, schema.CONF_STATE, schema.encode_conf_state(conf_state))

    def _quota_is_near(self) -> bool:
        limit = self.quota.limit_bytes
        return limit != 0 and self.backend.size() + _QUOTA_MARGIN_BYTES > limit

    def _on_soft_state(self, state: SoftState) -> None:
        if state.role is LEADER and self.role is not LEADER:
            self.logger.info(f"{self.id:x} became leader at term {self.node.term}")  # noqa: G004 - etcd puts the ids into the line
        if state.lead != self.lead:
            if state.lead:
                self.leader_changes += 1
                text = f"elected leader {state.lead:x}"
            else:
                text = f"lost leader {self.lead:x}"
            self.logger.info(f"raft.node: {self.id:x} {text} at term {self.node.term}")  # noqa: G004 - as above
        self.lead, self.role = state.lead, state.role
        if state.lead and self._when_led:
            callbacks, self._when_led = self._when_led, []
            for callback in callbacks:
                self.clock.call_soon(callback)
        if state.role is not LEADER and self.lessor.primary:
            self.lessor.demote()

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
        if self.applied > self._consistent_index:
            put = self.backend.put
            put(schema.META, schema.CONSISTENT_INDEX, schema.encode_u64(self.applied))
            put(schema.META, schema.TERM, schema.encode_u64(self._applied_term))

    def _flush_on_timer(self) -> None:
        self._timers[1] = self.clock.call_later(
            self.config.backend_batch_interval_seconds, self._flush_on_timer
        )
        self.flush_backend()

    # -- snapshots -------------------------------------------------------------------------------------

    def _snapshot(self) -> None:
        """Make the log forgettable: commit the backend, write the .snap file, mark it in the WAL."""
        if self._snapshotting or self.stopping:
            return
        self._snapshotting = True
        take_snapshot(self, self._on_snapshot)

    def _on_snapshot(self, index: int) -> None:
        self._snapshotting = False
        self.snapshot_index = index
        keep_from = index - self.config.snapshot_catchup_entries
        if keep_from > self.node.first_index:
            self.node.compact(keep_from)

    # -- time ------------------------------------------------------------------------------------------

    def _tick(self) -> None:
        self._timers[0] = self.clock.call_later(self._tick_seconds, self._tick)
        self._tick_count += 1
        try:
            self.node.tick()
            self.proposals.expire(self._tick_count)
            if self._round:
                self._retry_round()
        except Exception as bug:  # noqa: BLE001 - as in turn
            self.fail(bug)
            return
        self.turn()

    def _retry_round(self) -> None:
        """A round without an answer is asked again, and given up with the requests' own timeout."""
        waited = self._tick_count - self._round_tick
        if waited > self.config.request_timeout_ticks:
            reads, self._round = self._round, []
            self._round_context = b""
            self.failed_read_indexes += 1
            for _, waiter, _ in reads:
                waiter.fail(errors.RequestTimeout.code, errors.RequestTimeout.text)
        elif waited % 5 == 0 and waited:
            self.slow_read_indexes += 1
            self.node.read_index(self._round_context)

    # -- compaction ------------------------------------------------------------------------------------

    def _resume_compaction(self) -> None:
        if self.store.compaction_due and not self._compacting:
            self._compacting = True
            self.compactor.begin()
            self.clock.call_soon(self._compact_slice)

    def _compact_slice(self) -> None:
        if self.stopped:
            return
        try:
            finished = self.compactor.step()
        except Exception as bug:  # noqa: BLE001 - as in turn
            self.fail(bug)
            return
        if not finished:
            self.clock.call_later(self.config.compaction_sleep_seconds, self._compact_slice)
            return
        self._compacting = False
        self._answer_compaction_waiters()
        self._resume_compaction()
        self.flush_edges()

    def _answer_compaction_waiters(self) -> None:
        waiters, self._compaction_waiters = self._compaction_waiters, []
        for rev, then in waiters:
            self.when_compacted(rev, then)

    # -- watches ---------------------------------------------------------------------------------------

    def _wake_hub(self) -> None:
        if not self._hub_due:
            self._hub_due = True
            self.clock.call_soon(self._hub_slice)

    def _hub_slice(self) -> None:
        """Catch watchers up, a slice a callback; events go out with each slice."""
        self._hub_due = False
        if self.stopped:
            return
        try:
            finished = self.hub.step()
        except Exception as bug:  # noqa: BLE001 - as in turn
            self.fail(bug)
            return
        self.flush_edges()
        if not finished:
            self._wake_hub()

    # -- long jobs, in slices --------------------------------------------------------------------------

    def hash_kv(self, rev: int, done: Callable[[KVHash], object]) -> None:
        """The hash of all keys at ``rev`` (0: now). Raises: Compacted, FutureRev."""
        known = cached_hash(self.store, rev) if rev > 0 else None
        if known is not None:
            done(known)
            return
        self._hash_slice(start_hash_kv(self.store, rev), done, self.clock.monotonic())

    def _hash_slice(self, run: HashRun, done: Callable[[KVHash], object], began: float) -> None:
        if self.stopped:
            run.close()
        elif run.step():
            self.hash_kv_seconds.observe(self.clock.monotonic() - began)
            done(run.result())
        else:
            self.clock.call_soon(self._hash_slice, run, done, began)

    def hash(self, done: Callable[[int], object]) -> None:
        """The hash of everything in the backend, after what is pending has been committed."""
        began = self.clock.monotonic()

        def committed() -> None:
            view = self.backend.open_view()
            run = hash_all(view)

            def slice_(value: int = 0) -> None:
                if not self.stopped:
                    for value in run:
                        self.clock.call_soon(slice_, value)
                        return
                view.close()
                if not self.stopped:
                    self.hash_seconds.observe(self.clock.monotonic() - began)
                    done(value)

            slice_()

        self.commit_backend(committed)

    def defragment(self, done: Callable[[], object], failed: Callable[[BaseException], object]) -> None:
        """Rewrite the backend's file without its free pages."""
        before = self.backend.size()
        started = self.clock.monotonic()
        self.logger.info("defragmenting", **{"current-db-size-bytes": before})

        def ended(error: BaseException) -> None:
            self.defragmenting = False
            failed(error)

        def finished() -> None:
            self.defragmenting = False
            self.defrag_seconds.observe(self.clock.monotonic() - started)
            self.logger.info(
                "finished defragmenting directory",
                **{
                    "current-db-size-bytes-diff": self.backend.size() - before,
                    "current-db-size-bytes": self.backend.size(),
                    "took": f"{self.clock.monotonic() - started:.6f}s",
                },
            )
            done()

        self.defragmenting = True
        self.commit_backend(lambda: self.backend.defragment(finished, ended))

    @property
    def storage_version(self) -> str:
        version = self.backend.get(schema.META, schema.STORAGE_VERSION)
        return version.decode("ascii", "replace") if version else ""
