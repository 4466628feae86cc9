"""The watch guarantees, for one watcher at a time, against the events of the log.

Source: contract/history.md part 1: filter, ordered, unique, atomic (a revision is never split over
responses), reliable (no gap), resumable (a later start gets all that came after), bookmarkable (progress says
that everything up to it was sent), prev_kv, is_create; and nothing of the future.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.linearizability.histories import Wrong
from tests.linearizability.statemachine import Event, StateMachine, covers

from petcd.pb import etcdserverpb as pb
from petcd.pb import mvccpb


@dataclass(slots=True)
class Watch:
    """One watcher and what it was sent."""

    member: str
    life: int
    request: pb.WatchCreateRequest
    opened: float
    messages: list[tuple[float, bytes]] = field(default_factory=list)
    complete_to: int | None = None
    """At the end of the run everything up to this revision must have been sent; None: the watcher ended."""

    def __str__(self) -> str:
        return f"watcher at {self.member}/{self.life} since {self.opened:.6f}: {self.request!r}"


def check_watch(watch: Watch, machine: StateMachine) -> int:
    """The next revision it would get. Raises: Wrong."""
    request = watch.request
    expected: list[Event] = []
    place = 0
    next_rev = request.start_revision
    last_rev = 0
    created = canceled = False
    for time, message in watch.messages:
        response = pb.WatchResponse.decode(message)
        if canceled:
            raise Wrong(f"{watch}\n  hears after its end: {response!r}")
        assert response.header is not None
        header_rev = response.header.revision
        if header_rev > machine.rev:
            raise Wrong(f"{watch}\n  hears of revision {header_rev}, which was never made")
        if response.created:
            created = True
            next_rev = next_rev or header_rev + 1
            expected = _expected(machine, request, next_rev)
            if response.canceled:
                canceled = True
            continue
        if not created:
            raise Wrong(f"{watch}\n  hears before it was made: {response!r}")
        if response.canceled:
            canceled = True
            compact = response.compact_revision
            if compact and not any(rev == compact for _, rev in machine.compactions):
                raise Wrong(f"{watch}\n  ended for compact revision {compact}, which nobody asked for")
            if compact and next_rev >= compact:
                raise Wrong(f"{watch}\n  ended at {next_rev} for the compaction of {compact}")
            continue
        if not response.events:
            if header_rev >= next_rev:
                if place < len(expected) and expected[place].rev <= header_rev:
                    raise Wrong(
                        f"{watch}\n  progress to {header_rev} ahead of {expected[place]} at {time:.6f}"
                    )
                next_rev = max(next_rev, header_rev + 1)
            elif header_rev + 1 < next_rev and last_rev > header_rev:
                raise Wrong(f"{watch}\n  progress back to {header_rev} after revision {last_rev}")
            continue
        for event in response.events:
            if place >= len(expected):
                raise Wrong(f"{watch}\n  hears of what did not happen: {event!r} at {time:.6f}")
            wanted = expected[place]
            _check_event(watch, machine, event, wanted, time)
            place += 1
            last_rev = wanted.rev
        if last_rev > header_rev:
            raise Wrong(f"{watch}\n  hears of revision {last_rev} in a response of revision {header_rev}")
        if not response.fragment:
            if place < len(expected) and expected[place].rev == last_rev:
                raise Wrong(f"{watch}\n  revision {last_rev} is split: {expected[place]} is missing")
            next_rev = last_rev + 1
    if watch.complete_to is not None and not canceled:
        if not created:
            raise Wrong(f"{watch}\n  was never answered")
        if place < len(expected) and expected[place].rev <= watch.complete_to:
            raise Wrong(f"{watch}\n  never heard of {expected[place]}")
    return next_rev


def _expected(machine: StateMachine, request: pb.WatchCreateRequest, start: int) -> list[Event]:
    found = []
    for event in machine.events:
        if event.rev < start or not covers(request.key, request.range_end, event.key):
            continue
        if (0 if event.kv is not None else 1) in request.filters:
            continue
        found.append(event)
    return found


def _check_event(watch: Watch, machine: StateMachine, event: Any, wanted: Event, time: float) -> None:
    kv = event.kv
    if wanted.kv is not None:
        good = event.type == mvccpb.EventType.PUT and kv == wanted.kv
    else:
        good = (
            event.type == mvccpb.EventType.DELETE
            and kv is not None
            and (kv.key, kv.mod_revision) == (wanted.key, wanted.rev)
        )
    if not good:
        raise Wrong(f"{watch}\n  should hear of {wanted} but hears {event!r} at {time:.6f}")
    prev = event.prev_kv
    if not watch.request.prev_kv:
        if prev is not None:
            raise Wrong(f"{watch}\n  did not ask for the previous value: {event!r}")
    elif prev != wanted.prev and not (
        prev is None and any(rev >= wanted.rev for _, rev in machine.compactions)
    ):
        raise Wrong(f"{watch}\n  previous value of {wanted} is not that of {event!r}")


def check_watches(watches: Sequence[Watch], machine: StateMachine) -> None:
    """Raises: Wrong."""
    for watch in watches:
        check_watch(watch, machine)
