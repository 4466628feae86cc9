"""The stream that watches share: it carries them, and brings them back when it breaks."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections import deque
from typing import TYPE_CHECKING, Final

from petcd import errors
from petcd.client.errors import CompactedWatch, StoreRewound, WatchCanceled
from petcd.client.pool import REFUSALS_MAX, Opened, Pool
from petcd.client.retry import Backoff
from petcd.errors import Code, EtcdError
from petcd.net.grpc.client import TransportFailure
from petcd.pb.etcdserverpb import watch as pb
from petcd.pb.etcdserverpb.kv import RangeRequest, RangeResponse

if TYPE_CHECKING:
    from petcd.client.credentials import Metadata
    from petcd.client.feed import Feed

PATH: Final = b"/etcdserverpb.Watch/Watch"
_RANGE: Final = b"/etcdserverpb.KV/Range"
_LOOK_SECONDS: Final = 5.0


class Hub:
    """The stream that a client's watches share, and the task that reads it."""

    def __init__(self, pool: Pool, extra: Metadata = ()) -> None:
        self._pool = pool
        self._extra = extra
        self._watches: dict[Feed, None] = {}
        self._creating: deque[Feed] = deque()
        self._by_id: dict[int, Feed] = {}
        self._opened: Opened | None = None
        self._task: asyncio.Task[None] | None = None
        self._doubts: deque[tuple[Feed, int, bool]] = deque()
        self._looking: asyncio.Task[None] | None = None
        self._trouble: EtcdError | None = None
        """How the stream ended last, until a server takes a watch."""
        self._backoff = Backoff()
        pool.owner.on_change.append(self._start_anew)

    @property
    def obstacle(self) -> EtcdError | None:
        """Why no server has a watch, as far as that is known."""
        return self._pool.obstacle or self._trouble

    async def close(self) -> None:
        task = self._task
        if self._looking is not None:
            self._looking.cancel()
        for feed in list(self._watches):
            feed.closed = True
            feed.changed.set()
            self.remove(feed)
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        self._task = None

    def _start_anew(self) -> None:
        """The loop or process of the watches is gone; who still asks is told so."""
        self._opened = self._task = self._looking = None
        self._doubts.clear()
        text = "the watch belongs to a process or an event loop that is gone"
        for feed in self._watches:
            feed.abandon(TransportFailure(Code.CANCELLED, text, sent=True))
        self._watches.clear()

    def add(self, feed: Feed) -> None:
        self._pool.owner.claim()
        self._watches[feed] = None
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._run(), name="etcd watches")
        else:
            self._create(feed)

    def remove(self, feed: Feed) -> None:
        self._watches.pop(feed, None)
        self._withdraw(feed)
        if self._watches:
            return
        if self._opened is not None:
            # ``_carry`` sees by this that the end of the stream is ours, should a watch come before it wakes.
            opened, self._opened = self._opened, None
            opened.stream.cancel()
        elif self._task is not None:
            self._task.cancel()  # it looks for a server that nobody needs
            self._task = None

    def forget(self, feed: Feed) -> None:
        """``remove`` for a watch that nobody can read any more; from whichever thread collects it."""
        owner = self._pool.owner
        feed.closed = True
        if owner.loop is not None and owner.process == os.getpid():
            with contextlib.suppress(RuntimeError):  # the loop is closed
                owner.loop.call_soon_threadsafe(self.remove, feed)

    def _withdraw(self, feed: Feed) -> None:
        """Take it off the stream. One that is only being created is cancelled when its answer comes."""
        if feed.watch_id is not None:
            self._by_id.pop(feed.watch_id, None)
            self._send(pb.WatchRequest(cancel_request=pb.WatchCancelRequest(watch_id=feed.watch_id)))
            feed.watch_id = None

    def release(self, feed: Feed) -> None:
        """A watch that was held back is empty again."""
        feed.held_back = False
        if not feed.over:
            self._create(feed)

    def request_progress(self, feed: Feed) -> None:
        """Ask now, or when a server has the watch (again)."""
        feed.wants_progress = True
        if feed.watch_id is not None:
            self._send(pb.WatchRequest(progress_request=pb.WatchProgressRequest()))

    def _create(self, feed: Feed) -> None:
        if self._opened is not None and not self._opened.stream.ended:
            self._creating.append(feed)
            self._send(feed.create_request())

    def _send(self, request: pb.WatchRequest) -> None:
        if self._opened is not None and not self._opened.stream.ended:
            self._opened.stream.send(request.encode())

    async def _run(self) -> None:
        try:
            await self._carry()
        except Exception as failure:  # noqa: BLE001  no reader may wait for ever
            # Not foreseen, so nobody tries again.
            error = TransportFailure(Code.INTERNAL, f"the client failed: {failure!r}", sent=True)
            error.__cause__ = failure
            self._fail(error)

    async def _carry(self) -> None:
        while self._watches:
            error: EtcdError | None = None
            opened: Opened | None = None
            try:
                opened = self._opened = await self._pool.open(PATH, self._extra)
                self._by_id.clear()
                self._creating.clear()
                for feed in self._watches:
                    if not feed.held_back:
                        self._create(feed)
                async for message in opened.stream:
                    self._take(pb.WatchResponse.decode(message))
            except EtcdError as failure:
                if opened is not None and self._opened is not opened:
                    continue
                error = self._trouble = failure
                if not self._watches:
                    return
                if not self._pool.recover(failure, opened):
                    self._fail(failure)
                    return
            finally:
                if opened is not None:
                    opened.stream.cancel()
                self._opened = None
            for feed in self._watches:
                feed.broken(error)
            if self._watches:
                await self._backoff.pause()

    def _fail(self, error: EtcdError) -> None:
        watches, self._watches = self._watches, {}
        for feed in watches:
            feed.fail(error)

    def _take(self, response: pb.WatchResponse) -> None:
        revision = response.header.revision if response.header is not None else 0
        if response.created and self._creating:
            feed = self._creating.popleft()
            if response.canceled or response.watch_id == -1:
                self._refuse(feed, _reason(response))
            elif feed.over or feed.held_back:
                request = pb.WatchCancelRequest(watch_id=response.watch_id)
                self._send(pb.WatchRequest(cancel_request=request))
            else:
                self._backoff, self._trouble = Backoff(), None
                self._by_id[response.watch_id] = feed
                was = feed.reached
                feed.created(response.watch_id, revision)
                if feed.doubtful:
                    self._doubts.append((feed, response.watch_id, revision < was))
                    if self._looking is None or self._looking.done():
                        self._looking = asyncio.get_running_loop().create_task(
                            self._look(), name="etcd watches resumed"
                        )
                if feed.wants_progress:
                    self.request_progress(feed)
            return
        if response.watch_id == -1:
            for feed in self._by_id.values():
                feed.take(response)
            return
        known = self._by_id.get(response.watch_id)
        if known is None:
            return
        if response.canceled:
            del self._by_id[response.watch_id]
            self._end(known, _reason(response))
            return
        known.take(response)
        if known.full:
            known.held_back = True
            self._withdraw(known)

    async def _look(self) -> None:
        """Find out of watches that were resumed whether the store still has what they want next.

        A member that only lags behind shows a lower revision too, so the quorum is asked.
        """
        while self._doubts:
            feed, watch_id, behind = self._doubts.popleft()
            wanted = RangeRequest(key=feed.key, revision=0 if behind else feed.next_revision, keys_only=True)
            revision = feed.reached
            try:
                answer = await self._pool.call(
                    _RANGE, wanted, RangeResponse, repeatable=True, timeout=_LOOK_SECONDS, extra=self._extra
                )
                revision = answer.header.revision if answer.header is not None else 0
            except errors.Compacted:
                continue  # the server is about to say so to the watch
            except EtcdError:
                pass  # what is not known is not held against the watch
            if feed.over or feed.watch_id != watch_id or not feed.doubtful:
                continue
            if behind and revision < feed.reached:
                self._by_id.pop(watch_id, None)
                self._end(feed, StoreRewound(revision, feed.reached))
            else:
                feed.resumed()

    def _refuse(self, feed: Feed, reason: EtcdError) -> None:
        """A watch was not taken. Where a new login may help, the whole stream is opened again after one: who
        we are stands in its head."""
        feed.refusals += 1
        # Etcd before 3.5 says of a token that has expired that the permission is missing.
        doubtful = isinstance(reason, errors.PermissionDenied) and self._pool.has_user
        if self._pool.refused(reason):
            if feed.refusals <= REFUSALS_MAX:
                raise reason
        elif doubtful and feed.refusals == 1 and self._opened is not None:
            self._pool.log_in_again(self._opened)
            raise errors.InvalidAuthToken
        self._end(feed, reason)

    def _end(self, feed: Feed, error: EtcdError) -> None:
        self._watches.pop(feed, None)
        feed.fail(error)


def _reason(response: pb.WatchResponse) -> EtcdError:
    """Why the server cancelled a watch."""
    if response.compact_revision:
        return CompactedWatch(response.compact_revision)
    text = response.cancel_reason
    known = EtcdError.by_text.get(text.rpartition(" desc = ")[2])
    if known is errors.Compacted:
        return CompactedWatch(0)
    return known() if known is not None else WatchCanceled(text or errors.WatchCanceled.text)
