"""The checkers of whole clusters can fail: a right history passes, and each wrong change to it is named."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from tests.linearizability.histories import READ, RESPONSES, SERIALIZABLE, WRITE, Call, Wrong, check_calls
from tests.linearizability.leases import Renewal, check_leases
from tests.linearizability.statemachine import StateMachine
from tests.linearizability.watches import Watch, check_watch

from petcd import errors
from petcd.pb import etcdserverpb as pb
from petcd.pb import mvccpb
from petcd.pb.message import Message

FIELDS: dict[type[Message], str] = {
    pb.PutRequest: "put",
    pb.DeleteRangeRequest: "delete_range",
    pb.TxnRequest: "txn",
    pb.CompactionRequest: "compaction",
    pb.LeaseGrantRequest: "lease_grant",
    pb.LeaseRevokeRequest: "lease_revoke",
}


@dataclass
class History:
    """A right history of one client after the other, to be spoiled."""

    machine: StateMachine = field(default_factory=StateMachine)
    calls: list[Call] = field(default_factory=list)
    times: dict[int, float] = field(default_factory=dict)
    now: float = 1.0

    def write(self, request: Message, *, request_id: int = 0) -> Call:
        index = len(self.times) + 1
        request_id = request_id or 1000 + index
        call = Call(len(self.calls), 1, WRITE, request, "m0", 1, self.now, request_id=request_id)
        envelope = pb.InternalRaftRequest(header=pb.RequestHeader(ID=request_id))
        setattr(envelope, FIELDS[type(request)], request)
        self.times[index] = self.now + 0.1
        self.machine.apply(index, envelope.encode())
        answer = self.machine.answers[request_id]
        if answer.error is not None:
            call.error = (answer.error.code, answer.error.text)
        else:
            response = answer.response
            assert response is not None
            response.header = pb.ResponseHeader(cluster_id=1, revision=answer.revision)  # type: ignore[attr-defined]
            call.answer = response.encode()
            response.header = None  # type: ignore[attr-defined]
        call.complete = self.now + 0.2
        self.calls.append(call)
        self.now += 1
        return call

    def read(self, request: pb.RangeRequest, kind: str = READ, member: str = "m0") -> Call:
        call = Call(len(self.calls), 2, kind, request, member, 1, self.now)
        response = self.machine.range(request)
        response.header = pb.ResponseHeader(cluster_id=1, revision=self.machine.rev)
        call.answer = response.encode()
        call.complete = self.now + 0.1
        self.calls.append(call)
        self.now += 1
        return call

    def check(self) -> None:
        for call in self.calls:
            call.response = None
        check_calls(self.calls, self.machine, self.times)


def spoil(call: Call, change: Callable[[pb.RangeResponse], object]) -> None:
    assert call.answer is not None
    response = RESPONSES[type(call.request)].decode(call.answer)
    change(response)  # type: ignore[arg-type]
    call.answer = response.encode()


def a_history() -> History:
    history = History()
    history.write(pb.LeaseGrantRequest(ID=7, TTL=5))  # 0
    history.write(pb.PutRequest(key=b"a", value=b"1", lease=7))  # 1
    history.read(pb.RangeRequest(key=b"a"))  # 2
    history.write(pb.PutRequest(key=b"b", value=b"2", prev_kv=True))  # 3
    compare = pb.Compare(key=b"a", target=pb.CompareTarget.MOD, result=pb.CompareResult.EQUAL, mod_revision=2)
    put = pb.RequestOp(request_put=pb.PutRequest(key=b"a", value=b"3"))
    history.write(pb.TxnRequest(compare=[compare], success=[put]))  # 4
    history.read(pb.RangeRequest(key=b"a", range_end=b"c"))  # 5
    history.read(pb.RangeRequest(key=b"a", revision=2))  # 6
    history.write(pb.DeleteRangeRequest(key=b"b"))  # 7
    history.write(pb.CompactionRequest(revision=3))  # 8
    history.write(pb.LeaseRevokeRequest(ID=9))  # 9: refused
    history.read(pb.RangeRequest(key=b"a", range_end=b"c"), SERIALIZABLE)  # 10
    history.read(pb.RangeRequest(key=b"b"))  # 11
    return history


def test_a_right_history_passes() -> None:
    history = a_history()
    history.check()
    assert history.machine.rev == 5
    assert history.calls[9].error == (errors.LeaseNotFound.code, errors.LeaseNotFound.text)


def _old(response: pb.RangeResponse) -> None:
    assert response.header is not None
    response.header.revision -= 1


SPOILED: dict[str, Callable[[History], object]] = {
    "another value": lambda h: spoil(h.calls[2], lambda r: setattr(r.kvs[0], "value", b"x")),
    "another version": lambda h: spoil(h.calls[5], lambda r: setattr(r.kvs[0], "version", 9)),
    "a key is missing": lambda h: spoil(h.calls[5], lambda r: r.kvs.pop()),
    "another count": lambda h: spoil(h.calls[5], lambda r: setattr(r, "count", 5)),
    "the past at a revision": lambda h: spoil(h.calls[6], lambda r: setattr(r.kvs[0], "value", b"3")),
    "a stale read": lambda h: h.calls.__setitem__(11, _stale(h)),
    "a revision that was never made": lambda h: spoil(
        h.calls[2], lambda r: setattr(r.header, "revision", 50)
    ),
    "a write at another revision": lambda h: spoil(h.calls[1], _old),
    "a transaction that took the other branch": lambda h: spoil(
        h.calls[4],
        lambda r: setattr(r, "succeeded", False),
    ),
    "answered, but not in the log": lambda h: setattr(h.calls[1], "request_id", 1),
    "in the log before it was asked": lambda h: setattr(h.calls[1], "invoke", 2.15),
    "refused, and done": lambda h: _refuse(h.calls[1], errors.RequestTooManyRequests),
    "refused for another reason": lambda h: _refuse(h.calls[9], errors.LeaseExist),
    "refused without a reason": lambda h: _refuse(h.calls[1], errors.LeaseNotFound),
    "done, though it had to be refused": lambda h: _answer(h.calls[9]),
    "writes against time": lambda h: _swap_times(h),
    "the future shown": lambda h: setattr(h.calls[10], "complete", 0.5),
    "applied twice": lambda h: h.write(pb.PutRequest(key=b"a"), request_id=1002),
    "compacted by nobody": lambda h: _refuse_read(h),
    "a header without a cluster": lambda h: spoil(h.calls[2], lambda r: setattr(r.header, "cluster_id", 0)),
    "a member goes back": lambda h: h.calls.append(_serializable_of_the_past(h)),
}


def _stale(history: History) -> Call:
    call = history.calls[11]
    response = pb.RangeResponse(
        header=pb.ResponseHeader(cluster_id=1, revision=4),
        kvs=[mvccpb.KeyValue(key=b"b", value=b"2", create_revision=3, mod_revision=3, version=1)],
        count=1,
    )
    call.answer = response.encode()
    return call


def _refuse(call: Call, error: type[errors.EtcdError]) -> None:
    call.answer, call.error = None, (error.code, error.text)


def _answer(call: Call) -> None:
    call.error = None
    call.answer = pb.LeaseRevokeResponse(header=pb.ResponseHeader(cluster_id=1, revision=5)).encode()


def _swap_times(history: History) -> None:
    """The first put is asked after the second was answered, and yet is before it in the log."""
    first, second = history.calls[1], history.calls[3]
    first.invoke, first.complete = 30.0, 31.0
    second.invoke, second.complete = 28.0, 29.0
    history.times.update(dict.fromkeys(range(2, 20), 30.5))
    history.times = dict(list(history.times.items())[: len(history.machine.answers)])


def _refuse_read(history: History) -> None:
    history.machine.compactions.clear()
    call = history.calls[6]
    call.answer, call.error = None, (errors.Compacted.code, errors.Compacted.text)


def _serializable_of_the_past(history: History) -> Call:
    call = Call(99, 2, SERIALIZABLE, pb.RangeRequest(key=b"b"), "m0", 1, history.now, history.now + 1)
    call.answer = pb.RangeResponse(
        header=pb.ResponseHeader(cluster_id=1, revision=3),
        kvs=[mvccpb.KeyValue(key=b"b", value=b"2", create_revision=3, mod_revision=3, version=1)],
        count=1,
    ).encode()
    return call


@pytest.mark.parametrize("name", SPOILED)
def test_wrong_histories_are_named(name: str) -> None:
    history = a_history()
    SPOILED[name](history)
    with pytest.raises(Wrong):
        history.check()


def test_answers_of_one_moment_count_in_their_order() -> None:
    """A member that was paused answers an old question and a new one at the same time."""
    history = History()
    history.write(pb.PutRequest(key=b"a", value=b"1"))
    old = history.read(pb.RangeRequest(key=b"a"), SERIALIZABLE)
    history.write(pb.PutRequest(key=b"b", value=b"1"))
    new = history.read(pb.RangeRequest(key=b"a"))
    old.complete = new.complete
    old.number = new.number + 1
    old.order, new.order = 1, 2
    history.check()
    old.order = 3
    with pytest.raises(Wrong, match="goes back"):
        history.check()


def test_what_was_given_up_may_happen_later() -> None:
    history = a_history()
    for error in (errors.RequestTimeout, errors.Stopped):
        history.calls[3].answer, history.calls[3].error = None, (error.code, error.text)
        history.calls[3].complete = 2.5
        history.check()
    history.calls[3].request_id = 1
    history.check()


# -- watches -------------------------------------------------------------------------------------------------


def a_watch() -> tuple[StateMachine, Watch]:
    """Of a and b from revision 2 on: a put, a put, a transaction on both, a deletion."""
    history = History()
    history.write(pb.PutRequest(key=b"a", value=b"1"))
    history.write(pb.PutRequest(key=b"b", value=b"2"))
    both = [pb.RequestOp(request_put=pb.PutRequest(key=key, value=b"3")) for key in (b"a", b"b")]
    history.write(pb.TxnRequest(success=both))
    history.write(pb.DeleteRangeRequest(key=b"a"))
    machine = history.machine
    request = pb.WatchCreateRequest(key=b"a", range_end=b"c", start_revision=2, prev_kv=True)
    watch = Watch("m0", 1, request, 0.0, complete_to=machine.rev)
    head = pb.ResponseHeader(cluster_id=1, revision=5)
    watch.messages.append((1.0, pb.WatchResponse(header=head, created=True).encode()))
    for rev in range(2, 6):
        events = [
            mvccpb.Event(
                type=mvccpb.EventType.PUT if event.kv is not None else mvccpb.EventType.DELETE,
                kv=event.kv or mvccpb.KeyValue(key=event.key, mod_revision=rev),
                prev_kv=event.prev,
            )
            for event in machine.events
            if event.rev == rev
        ]
        header = pb.ResponseHeader(cluster_id=1, revision=rev)
        watch.messages.append((1.0 + rev, pb.WatchResponse(header=header, events=events).encode()))
    return machine, watch


def test_a_right_watch_passes() -> None:
    machine, watch = a_watch()
    assert check_watch(watch, machine) == 6


def _change(number: int, change: Callable[[pb.WatchResponse], object]) -> Callable[[Watch], object]:
    def apply(watch: Watch) -> None:
        time, message = watch.messages[number]
        response = pb.WatchResponse.decode(message)
        change(response)
        watch.messages[number] = (time, response.encode())

    return apply


def _insert(number: int, revision: int) -> Callable[[Watch], object]:
    progress = pb.WatchResponse(header=pb.ResponseHeader(revision=revision)).encode()
    return lambda watch: watch.messages.insert(number, (1.5, progress))


WRONG_WATCHES: dict[str, Callable[[Watch], object]] = {
    "a gap": lambda watch: watch.messages.pop(2),
    "the last is missing": lambda watch: watch.messages.pop(),
    "twice": lambda watch: watch.messages.insert(2, watch.messages[1]),
    "out of order": lambda watch: watch.messages.insert(1, watch.messages.pop(3)),
    "half a revision": _change(3, lambda response: response.events.pop()),
    "another value": _change(2, lambda response: setattr(response.events[0].kv, "value", b"x")),
    "another previous value": _change(3, lambda response: setattr(response.events[0].prev_kv, "value", b"x")),
    "no previous value": _change(3, lambda response: setattr(response.events[0], "prev_kv", None)),
    "created, though it was changed": _change(
        3, lambda response: setattr(response.events[0].kv, "create_revision", 4)
    ),
    "a put, though it was a deletion": _change(
        4, lambda response: setattr(response.events[0], "type", mvccpb.EventType.PUT)
    ),
    "of the future": _change(2, lambda response: setattr(response.header, "revision", 2)),
    "of a revision that was never made": _change(4, lambda response: setattr(response.header, "revision", 9)),
    "progress ahead of events": _insert(2, 4),
    "before it was made": lambda watch: watch.messages.pop(0),
    "ended for no compaction": _change(
        2, lambda r: (setattr(r, "canceled", True), setattr(r, "compact_revision", 4))
    ),
    "filtered": lambda watch: watch.request.filters.append(1),
    "never answered": lambda watch: watch.messages.clear(),
}


@pytest.mark.parametrize("name", WRONG_WATCHES)
def test_wrong_watches_are_named(name: str) -> None:
    machine, watch = a_watch()
    WRONG_WATCHES[name](watch)
    with pytest.raises(Wrong):
        check_watch(watch, machine)


def test_progress_behind_events_passes() -> None:
    machine, watch = a_watch()
    _insert(4, 4)(watch)
    check_watch(watch, machine)


# -- leases --------------------------------------------------------------------------------------------------


def a_lease(ended: float, *renewals: Renewal, revoked_by_client: bool = False) -> None:
    history = History()
    history.write(pb.LeaseGrantRequest(ID=7, TTL=5))
    granted = list(history.calls)
    history.write(pb.LeaseRevokeRequest(ID=7))
    history.times[2] = ended
    calls = history.calls if revoked_by_client else granted
    check_leases(history.machine, calls, renewals, history.times, rate_max=1.0)


def test_a_lease_that_lives_its_time_passes() -> None:
    a_lease(6.1)
    a_lease(6.1, Renewal(7, "m0", 0.5, 0.6, 5))
    a_lease(1.1, revoked_by_client=True)
    a_lease(6.1, Renewal(7, "m0", 6.0, None), Renewal(7, "m0", 6.0, 6.05, 0), Renewal(8, "m0", 6.0, 6.05, 5))
    a_lease(6.1, Renewal(7, "m0", 6.0, 6.3, 5))  # answered after its end: the client learns that, too


@pytest.mark.parametrize(
    ("ended", "renewals"),
    [
        (5.5, ()),
        (8.0, (Renewal(7, "m0", 4.0, 4.1, 5),)),
        (8.0, (Renewal(7, "m0", 2.0, 2.1, 5), Renewal(7, "m1", 4.0, 4.1, 5), Renewal(7, "m0", 1.5, 1.6, 5))),
    ],
)
def test_a_lease_that_ends_early_is_named(ended: float, renewals: tuple[Renewal, ...]) -> None:
    with pytest.raises(Wrong):
        a_lease(ended, *renewals)
