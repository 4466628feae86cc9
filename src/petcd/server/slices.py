"""Work beside the requests, a slice a callback: compaction, lagging watchers, hashes, defragmentation.

None of it may hold the loop for long, and none of it is part of a turn.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from petcd.counters import Histogram
from petcd.mvcc import Compactor, HashRun, KVHash, cached_hash, hash_all, start_hash_kv

if TYPE_CHECKING:
    from petcd.server.member import Member


class Compaction:
    """Prunes what compactions have made unreachable, and tells those who wait for the end of it."""

    def __init__(self, member: Member) -> None:
        self._member = member
        config = member.config
        self._sleep_seconds = config.compaction_sleep_seconds
        self.compactor = Compactor(
            member.store, batch_limit=config.compaction_batch_limit, failpoints=member.world.failpoints
        )
        self._running = False
        self._waiters: list[tuple[int, Callable[[], object]]] = []

    def resume(self) -> None:
        """Begin with what is due, unless it has begun."""
        if self._member.store.compaction_due and not self._running:
            self._running = True
            self.compactor.begin()
            self._member.clock.call_soon(self._slice)

    def when_compacted(self, rev: int, then: Callable[[], object]) -> None:
        """Call ``then`` when the backend no longer holds what a compaction to ``rev`` removed."""
        store = self._member.store
        if store.finished_compact_rev >= rev or not store.compaction_due:
            then()
        else:
            self._waiters.append((rev, then))

    def _slice(self) -> None:
        member = self._member
        if member.stopped:
            return
        if member.installing:  # the store is being replaced; what is due then is looked at afresh
            self._running = False
            return
        try:
            finished = self.compactor.step()
        except Exception as bug:  # noqa: BLE001 - going on could corrupt
            member.fail(bug)
            return
        if not finished:
            member.clock.call_later(self._sleep_seconds, self._slice)
            return
        self._running = False
        self.answer_waiters()
        self.resume()
        member.flush_edges()

    def answer_waiters(self) -> None:
        waiters, self._waiters = self._waiters, []
        for rev, then in waiters:
            self.when_compacted(rev, then)


class HubSlices:
    """Catches watchers up; events go out with each slice."""

    def __init__(self, member: Member) -> None:
        self._member = member
        self._due = False

    def wake(self) -> None:
        if not self._due:
            self._due = True
            self._member.clock.call_soon(self._slice)

    def _slice(self) -> None:
        self._due = False
        member = self._member
        if member.stopped or member.installing:
            return
        try:
            finished = member.hub.step()
        except Exception as bug:  # noqa: BLE001 - going on could corrupt
            member.fail(bug)
            return
        member.flush_edges()
        if not finished:
            self.wake()


class LongJobs:
    """What maintenance asks for: hashes of the keys and of everything, defragmentation."""

    def __init__(self, member: Member) -> None:
        self._member = member
        self.defragmenting = False
        self.defrag_seconds = Histogram([0.1 * 2**i for i in range(13)])
        self.hash_seconds = Histogram([0.01 * 2**i for i in range(15)])
        self.hash_kv_seconds = Histogram([0.01 * 2**i for i in range(15)])
        self.snapshot_seconds = Histogram([0.01 * 2**i for i in range(17)])
        """How long databases took to be written, for other members and for backups."""

    def hash_kv(self, rev: int, done: Callable[[KVHash], object]) -> None:
        """The hash of all keys at ``rev`` (0: now). Raises: Compacted, FutureRev."""
        member = self._member
        known = cached_hash(member.store, rev) if rev > 0 else None
        if known is not None:
            done(known)
            return
        self._hash_slice(start_hash_kv(member.store, rev), done, member.clock.monotonic())

    def _hash_slice(self, run: HashRun, done: Callable[[KVHash], object], began: float) -> None:
        member = self._member
        if member.stopped:
            run.close()
        elif run.step():
            self.hash_kv_seconds.observe(member.clock.monotonic() - began)
            done(run.result())
        else:
            member.clock.call_soon(self._hash_slice, run, done, began)

    def hash(self, done: Callable[[int], object]) -> None:
        """The hash of everything in the backend, after what is pending has been committed."""
        member = self._member
        began = member.clock.monotonic()

        def committed() -> None:
            view = member.backend.open_view()
            run = hash_all(view)

            def slice_(value: int = 0) -> None:
                if not member.stopped:
                    for value in run:
                        member.clock.call_soon(slice_, value)
                        return
                view.close()
                if not member.stopped:
                    self.hash_seconds.observe(member.clock.monotonic() - began)
                    done(value)

            slice_()

        member.commit_backend(committed)

    def defragment(self, done: Callable[[], object], failed: Callable[[BaseException], object]) -> None:
        """Rewrite the backend's file without its free pages."""
        member = self._member
        before = member.backend.size()
        started = member.clock.monotonic()
        member.logger.info("defragmenting", **{"current-db-size-bytes": before})

        def ended(error: BaseException) -> None:
            self.defragmenting = False
            failed(error)

        def finished() -> None:
            self.defragmenting = False
            self.defrag_seconds.observe(member.clock.monotonic() - started)
            member.logger.info(
                "finished defragmenting directory",
                **{
                    "current-db-size-bytes-diff": member.backend.size() - before,
                    "current-db-size-bytes": member.backend.size(),
                    "took": f"{member.clock.monotonic() - started:.6f}s",
                },
            )
            done()

        self.defragmenting = True
        member.commit_backend(lambda: member.backend.defragment(finished, ended))
