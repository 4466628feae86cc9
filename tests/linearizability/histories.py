"""What clients of a whole cluster saw, held against its committed log: strict serialisability of the store.

The log is a total order of all writes, so nothing has to be searched for: each answer must be the one that
the state machine gives at the request's place, and the places must agree with real time.

- a request is in the log at most once, and only after it was asked;
- an answered write is in the log, and its answer is the state machine's, header and all;
- a write that was surely refused is not in the log;
- a linearizable read shows the state at its revision, which is no older than anything that was known before
  it was asked (``real_time``); a serializable one shows a state of the past, and a member's go only forward.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tests.linearizability.statemachine import StateMachine, limited

from petcd import errors
from petcd.errors import Code
from petcd.pb import etcdserverpb as pb
from petcd.pb.message import Message

READ = "read"
SERIALIZABLE = "serializable"
WRITE = "write"

NOT_DONE = frozenset(
    {
        errors.RequestTooManyRequests.text,
        errors.RequestTooLarge.text,
    }
)
"""Refusals that say that nothing has happened."""

APPLIED_ERRORS = frozenset(
    {
        errors.Compacted.text,
        errors.FutureRev.text,
        errors.LeaseNotFound.text,
        errors.LeaseExist.text,
        errors.LeaseTTLTooLarge.text,
        errors.KeyNotFound.text,
    }
)
"""Refusals by the state machine: they are answers."""


@dataclass(slots=True)
class Call:
    """One request of one client."""

    number: int
    client: int
    kind: str
    request: Message
    member: str
    life: int
    """Which process of the member was asked."""
    invoke: float
    complete: float | None = None
    order: int = 0
    """Its place among the answers: a member that was paused gives several at one moment."""
    answer: bytes | None = None
    error: tuple[int, str] | None = None
    request_id: int = 0
    response: Any = None

    @property
    def unsure(self) -> bool:
        """Given up by the member: it may still happen, however late."""
        return self.error is not None and self.error[1] not in APPLIED_ERRORS

    def __str__(self) -> str:
        told = "no answer"
        if self.response is not None:
            told = repr(self.response)
        elif self.answer is not None:
            told = repr(self.answer)
        elif self.error is not None:
            told = f"refused: {self.error[1]}"
        end = "" if self.complete is None else f"{self.complete:.6f}"
        return (
            f"#{self.number} client {self.client} at {self.member}/{self.life} [{self.invoke:.6f}, {end}] "
            f"{self.kind} {self.request!r} -> {told}"
        )


RESPONSES: dict[type[Message], type[Message]] = {
    pb.PutRequest: pb.PutResponse,
    pb.DeleteRangeRequest: pb.DeleteRangeResponse,
    pb.TxnRequest: pb.TxnResponse,
    pb.RangeRequest: pb.RangeResponse,
    pb.CompactionRequest: pb.CompactionResponse,
    pb.LeaseGrantRequest: pb.LeaseGrantResponse,
    pb.LeaseRevokeRequest: pb.LeaseRevokeResponse,
}


class Wrong(AssertionError):
    """What clients saw is not what the log says."""


def check_calls(calls: Sequence[Call], machine: StateMachine, entry_times: dict[int, float]) -> None:
    """Raises: Wrong. ``entry_times`` says when each entry was first handed to anybody."""
    if machine.repeated:
        raise Wrong(f"requests {machine.repeated} were applied twice")
    times = [*_sorted_times(entry_times)]
    placed: list[tuple[Call, float, float]] = []
    for call in calls:
        if call.kind == WRITE:
            place = _check_write(call, machine, entry_times)
        elif call.error is not None:
            _check_read_error(call, machine)
            continue
        elif call.answer is not None:
            place = _check_read(call, machine)
            _check_present(call, times, machine)
        else:
            continue
        if place is not None and call.kind != SERIALIZABLE:
            placed.append((call, *place))
    real_time(placed)
    _check_forward(calls)


def _check_write(
    call: Call, machine: StateMachine, entry_times: dict[int, float]
) -> tuple[float, float] | None:
    expected = machine.answers.get(call.request_id)
    if expected is not None and entry_times[expected.index] < call.invoke:
        raise Wrong(f"in the log at {entry_times[expected.index]:.6f}, before it was asked: {call}")
    if call.error is not None:
        text = call.error[1]
        if text in NOT_DONE and expected is not None:
            raise Wrong(f"refused, and done at index {expected.index} all the same: {call}")
        if text not in APPLIED_ERRORS:
            return None if expected is None else (expected.index, expected.index)
    elif call.answer is None:
        return None if expected is None else (expected.index, expected.index)
    if expected is None:
        raise Wrong(f"answered, but not in the log: {call}")
    if call.error is not None:
        if expected.error is None or expected.error.text != call.error[1]:
            raise Wrong(f"index {expected.index} must be told {expected}: {call}")
        return expected.index, expected.index
    if expected.error is not None:
        raise Wrong(f"index {expected.index} must be refused with {expected.error.text!r}: {call}")
    response = _decode(call)
    if response.header.revision != expected.revision:
        raise Wrong(f"index {expected.index} makes revision {expected.revision}: {call}")
    header, response.header = response.header, None
    try:
        if response != expected.response:
            raise Wrong(f"index {expected.index} must be told {expected.response!r}: {call}")
    finally:
        response.header = header
    return expected.index, expected.index


def _decode(call: Call) -> Any:
    assert call.answer is not None
    if call.response is None:
        call.response = RESPONSES[type(call.request)].decode(call.answer)
    if call.response.header is None or not call.response.header.cluster_id:
        raise Wrong(f"a header without a cluster: {call}")
    return call.response


def _check_read(call: Call, machine: StateMachine) -> tuple[float, float]:
    request = call.request
    response = _decode(call)
    revision = response.header.revision
    if revision > machine.rev:
        raise Wrong(f"revision {revision} was never made, the last is {machine.rev}: {call}")
    assert isinstance(request, pb.RangeRequest)
    at = request.revision or revision
    if at > revision:
        raise Wrong(f"the future was read: {call}")
    expected = limited(request, machine.at(at, request.key, request.range_end))
    header, response.header = response.header, None
    try:
        if response != expected:
            raise Wrong(f"at revision {at} there is {expected!r}: {call}")
    finally:
        response.header = header
    first = machine.index_of_rev[revision]
    return first, machine.index_of_rev.get(revision + 1, float("inf")) - 0.5


def _check_present(call: Call, times: list[float], machine: StateMachine) -> None:
    """Nothing is shown before it was committed anywhere."""
    index = machine.index_of_rev[call.response.header.revision]
    assert call.complete is not None
    if index and index < len(times) and times[index] > call.complete:
        raise Wrong(f"it shows index {index}, committed at {times[index]:.6f} only: {call}")


def _sorted_times(entry_times: dict[int, float]) -> Sequence[float]:
    return [0.0, *(entry_times[index] for index in range(1, len(entry_times) + 1))]


def _check_read_error(call: Call, machine: StateMachine) -> None:
    assert call.error is not None
    code, text = call.error
    request = call.request
    if text == errors.Compacted.text:
        assert isinstance(request, pb.RangeRequest)
        if not any(rev > request.revision for _, rev in machine.compactions):
            raise Wrong(f"nobody compacted that: {call}")
    elif code == Code.INTERNAL:
        raise Wrong(f"an error of the server: {call}")


def real_time(placed: Sequence[tuple[Call, float, float]]) -> None:
    """Whether places can be chosen, each within its own bounds, such that what completed before another
    began comes first. Sweeping over time, each takes the earliest place that is left. Raises: Wrong."""
    events: list[tuple[float, int, int]] = []
    for number, (call, _, _) in enumerate(placed):
        events.append((call.invoke, 1, number))
        if call.complete is not None and not call.unsure:
            events.append((call.complete, 0, number))
    events.sort()
    chosen: dict[int, float] = {}
    reached = 0.0
    by: Call | None = None
    for _, is_invoke, number in events:
        call, low, high = placed[number]
        if is_invoke:
            if high < reached:
                raise Wrong(f"older than what was answered before it was asked:\n  {by}\n  {call}")
            chosen[number] = max(low, reached)
        else:
            place = chosen.get(number, low)
            if place > reached:
                reached, by = place, call


def _check_forward(calls: Sequence[Call]) -> None:
    """No process of a member goes back."""
    newest: dict[tuple[str, int], tuple[int, Call]] = {}
    answered = [call for call in calls if call.response is not None and call.complete is not None]
    for call in sorted(answered, key=lambda call: (call.complete or 0.0, call.order, call.number)):
        revision = call.response.header.revision
        if call.kind == WRITE:
            continue
        last = newest.get((call.member, call.life))
        if last is not None and revision < last[0]:
            raise Wrong(f"a member goes back:\n  {last[1]}\n  {call}")
        newest[call.member, call.life] = (revision, call)
