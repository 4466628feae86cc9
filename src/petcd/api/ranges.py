"""Large ranges, a slice of a millisecond or two at a time.

A range of 40 MB held the loop for 100 ms, and everybody else with it. Here it becomes a run of chunks at one
pinned revision, one chunk a callback and one range after another. Their bodies together are the answer: a
repeated field of a protobuf message may come in any number of pieces.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from petcd import errors
from petcd.errors import EtcdError
from petcd.mvcc import RangeStream
from petcd.net.grpc import Call
from petcd.pb.etcdserverpb import RangeRequest
from petcd.server.member import Member

LARGE_KEYS: Final = 2000
"""From this many keys on a range is answered in slices."""
_CHUNK_BYTES: Final = 256 * 1024


def is_large(member: Member, request: RangeRequest) -> bool:
    """Whether the range is plain enough to be sliced, and long enough to need it. Cost: O(log n)."""
    if 0 < request.limit < LARGE_KEYS or not request.range_end or request.count_only:
        return False
    if request.sort_order or request.sort_target or request.keys_only or request.revision > 0:
        return False
    if (
        request.min_mod_revision
        or request.max_mod_revision
        or request.min_create_revision
        or request.max_create_revision
    ):
        return False
    first, last = member.store.index.span(request.key, request.range_end)
    return last - first >= LARGE_KEYS


class LargeRanges:
    """The large ranges of a member that are under way, first come first served."""

    __slots__ = ("_member", "_waiting")

    def __init__(self, member: Member) -> None:
        self._member = member
        self._waiting: deque[_LargeRange] = deque()

    def add(self, call: Call, request: RangeRequest) -> None:
        """Answer ``call`` in slices, with the newest revision at its turn."""
        self._waiting.append(_LargeRange(self._member, call, request))
        if len(self._waiting) == 1:
            self._step()

    def _step(self) -> None:
        waiting = self._waiting
        if self._member.stopped:
            for range_ in waiting:
                range_.fail(errors.Stopped.code, errors.Stopped.text)
            waiting.clear()
            return
        if waiting[0].step():
            waiting.popleft()
            self._member.flush_edges()
        if waiting:
            self._member.clock.call_soon(self._step)


class _LargeRange:
    """One of them. Its revision is that of its first slice, no older than the one it was asked at."""

    __slots__ = ("_call", "_member", "_parts", "_request", "_stream")

    def __init__(self, member: Member, call: Call, request: RangeRequest) -> None:
        self._member = member
        self._call = call
        self._request = request
        self._parts: list[bytes] = []
        self._stream: RangeStream | None = None

    def fail(self, code: int, text: str) -> None:
        self._call.fail(code, text)

    def step(self) -> bool:
        """Collect one chunk; whether the range has been answered or nobody waits for it any more."""
        if self._call.cancelled:
            return True
        try:
            return self._step()
        except Exception as bug:  # noqa: BLE001 - it is this reader's alone, and others wait behind it
            self._member.logger.error("read failed", error=f"{type(bug).__name__}: {bug}")
            self.fail(errors.Code.INTERNAL, "internal error")
            return True

    def _step(self) -> bool:
        stream = self._stream
        if stream is None:
            stream = self._stream = RangeStream(self._member.store, self._request, _CHUNK_BYTES)
        try:
            self._parts.append(stream.next())
        except errors.Compacted:
            # A compaction overtook the revision we began at. Who asked for the newest one must not see that.
            self._answer_at_once()
            return True
        if stream.done:
            self._call.reply_parts([self._member.header_at(stream.rev), *self._parts])
        return stream.done

    def _answer_at_once(self) -> None:
        try:
            body = self._member.store.range(self._request)
        except EtcdError as error:
            self._call.fail(error.code, error.text)
        else:
            self._call.reply(self._member.header() + body)
