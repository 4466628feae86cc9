"""Watch streams of one server under comparison: what arrived, and whether it keeps the watch guarantees."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from tests.differential.compare import plain
from tests.rpc import Rpc, Status, Stream

from petcd.pb import etcdserverpb as pb
from petcd.pb import mvccpb


@dataclass
class Watcher:
    """One watcher of a stream and all it was sent."""

    create: pb.WatchCreateRequest
    watch_id: int
    start: int
    """First revision it may see."""
    events: list[mvccpb.Event] = field(default_factory=list)
    control: list[Any] = field(default_factory=list)
    ended: bool = False
    partial: bool = False
    compacted: bool = False
    """It starts before the compacted revision, so all it is due is its end."""
    due: int = 0
    """Events promised among the first ``looked`` of the widest watcher."""
    looked: int = 0
    compared: int = 0
    faults: list[str] = field(default_factory=list)

    def take(self, response: pb.WatchResponse) -> None:
        """Check one response against the guarantees and keep its events."""
        assert response.header is not None
        if self.ended:
            self.faults.append(f"a response after the end: {response}")
        if response.canceled or not response.events:
            control = plain(response)
            control.pop("watch_id", None)
            if not response.canceled:
                control.pop("header", None)
            self.control.append(control)
            self.ended |= response.canceled
            return
        last = self.events[-1].kv.mod_revision if self.events and self.events[-1].kv else 0
        first = response.events[0].kv
        assert first is not None
        if first.mod_revision < last or (first.mod_revision == last and not self.partial):
            self.faults.append(f"revision {first.mod_revision} after {last}: split or back in time")
        newest = response.events[-1].kv
        assert newest is not None
        if response.header.revision < newest.mod_revision:
            self.faults.append(f"header {response.header.revision} before event {newest.mod_revision}")
        self.partial = response.fragment
        self.events += response.events

    def wants(self, event: mvccpb.Event) -> bool:
        """Whether the guarantees promise this event to this watcher."""
        kv = event.kv
        assert kv is not None
        if kv.mod_revision < self.start or event.type in self.create.filters:
            return False
        key, end = self.create.key or b"\x00", self.create.range_end
        if not end:
            return kv.key == key
        return kv.key >= key and (end == b"\x00" or kv.key < end)


class Watching:
    """All watchers on one server; a thread per stream reads, the test thread looks when all has settled."""

    def __init__(self, name: str, rpc: Rpc, streams: int) -> None:
        self._name = name
        self._streams: list[Stream[pb.WatchResponse]] = [rpc.watch() for _ in range(streams)]
        self.watchers: list[dict[int, Watcher]] = [{} for _ in range(streams)]
        self._past_until = 0.0
        self.compacted = 0
        """The compacted revision, told by whoever compacts."""
        self.all = self._create_wide()

    def _create_wide(self) -> Watcher:
        """The watcher that sees everything, from which the others' due is computed."""
        request = pb.WatchCreateRequest(key=b"\x00", range_end=b"\x00", start_revision=1, prev_kv=True)
        created = self.create(0, request)
        return self.watchers[0][created["watch_id"]]

    def create(self, stream: int, request: pb.WatchCreateRequest) -> dict[str, Any]:
        """Create a watcher and wait for the answer."""
        self._streams[stream].send(pb.WatchRequest(create_request=request))
        while True:
            response = self._streams[stream].receive()
            if response.created:
                break
            self._take(stream, response)
        assert response.header is not None
        answer = plain(response)
        answer["watch_id"] = response.watch_id
        if response.watch_id != -1 and not response.canceled:
            start = request.start_revision or response.header.revision + 1
            if start <= response.header.revision:
                self._past_until = time.monotonic() + 0.3
            self.watchers[stream][response.watch_id] = Watcher(
                request, response.watch_id, start, compacted=start < self.compacted
            )
        return answer

    def wait_caught_up(self) -> None:
        """Let watchers of the past that no event reveals get ahead of the next compaction."""
        time.sleep(max(0.0, self._past_until - time.monotonic()))

    def cancel(self, stream: int, watch_id: int) -> None:
        """Cancel a settled watcher and wait until its end is confirmed."""
        watcher = self.watchers[stream][watch_id]
        self._streams[stream].send(pb.WatchRequest(cancel_request=pb.WatchCancelRequest(watch_id=watch_id)))
        while not watcher.ended:
            self._take(stream, self._streams[stream].receive())

    def ask_progress(self, stream: int) -> int:
        """The revision of a progress answer."""
        self._streams[stream].send(pb.WatchRequest(progress_request=pb.WatchProgressRequest()))
        while True:
            response = self._streams[stream].receive()
            if response.watch_id == -1 and not response.created:
                assert response.header is not None
                return response.header.revision
            self._take(stream, response)

    def live(self, stream: int) -> list[int]:
        return [watch_id for watch_id, watcher in self.watchers[stream].items() if not watcher.ended]

    def _take(self, stream: int, response: pb.WatchResponse) -> None:
        watcher = self.watchers[stream].get(response.watch_id)
        if watcher is None:
            raise AssertionError(f"a response for nobody: {response}")
        watcher.take(response)

    def drain(self) -> None:
        """Take what has arrived."""
        for number, stream in enumerate(self._streams):
            while not stream.answers.empty():
                answer = stream.answers.get()
                if isinstance(answer, Status):
                    raise AssertionError(f"watch stream {number} of the {self._name} ended: {answer}")
                self._take(number, answer)

    def settle(self, revision: int, seconds_max: float = 20.0) -> list[str]:
        """Wait until every watcher has all it is due up to ``revision``; what is missing, in words."""
        end = time.monotonic() + seconds_max
        while True:
            self.drain()
            missing = self._missing(revision)
            if not missing or time.monotonic() > end:
                return missing
            time.sleep(0.002)

    def _missing(self, revision: int) -> list[str]:
        wide = self.all
        newest = wide.events[-1].kv.mod_revision if wide.events and wide.events[-1].kv else 1
        if newest < revision or wide.partial:
            return [f"the widest watcher has seen {newest} of {revision}"]
        missing = []
        for number, watchers in enumerate(self.watchers):
            for watcher in watchers.values():
                if watcher is wide or watcher.ended:
                    continue
                if watcher.compacted:
                    missing.append(
                        f"stream {number} watcher {watcher.watch_id} hears nothing of its compaction"
                    )
                    continue
                while watcher.looked < len(wide.events):
                    watcher.due += watcher.wants(wide.events[watcher.looked])
                    watcher.looked += 1
                if len(watcher.events) < watcher.due:
                    found = f"{len(watcher.events)} of {watcher.due} events"
                    missing.append(
                        f"stream {number} watcher {watcher.watch_id} has {found}: {watcher.create}"
                    )
        return missing

    def close(self) -> None:
        for stream in self._streams:
            stream.cancel()
