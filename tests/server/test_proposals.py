"""Who waits for what, and for how long."""

from __future__ import annotations

from petcd import errors
from petcd.server.proposals import NOBODY, Proposal, Proposals


class Waiter:
    def __init__(self) -> None:
        self.heard: list[tuple[int, str]] = []

    def reply(self, message: bytes, /) -> None:
        raise AssertionError(message)

    def fail(self, code: int, text: str, /) -> None:
        self.heard.append((code, text))


def test_late_ones_are_told_in_order() -> None:
    proposals = Proposals(timeout_ticks=70)
    waiters = [Waiter() for _ in range(3)]
    for number, waiter in enumerate(waiters):
        proposals.by_id[number] = Proposal(4, None, waiter, number, begun_tick=number * 10)
    proposals.expire(70, lambda _: errors.RequestTimeout())
    assert [waiter.heard for waiter in waiters] == [[], [], []]
    proposals.expire(81, lambda _: errors.RequestTimeout())
    timeout = (errors.RequestTimeout.code, errors.RequestTimeout.text)
    assert [waiter.heard for waiter in waiters] == [[timeout], [timeout], []]
    assert (list(proposals.by_id), proposals.failed) == ([2], 2)


def test_the_end() -> None:
    proposals = Proposals(timeout_ticks=70)
    waiter = Waiter()
    proposals.by_id[1] = Proposal(4, None, waiter, 1, 0)
    proposals.by_id[2] = Proposal(4, None, NOBODY, 2, 0)
    proposals.fail_all(errors.Stopped())
    assert waiter.heard == [(errors.Stopped.code, errors.Stopped.text)]
    assert (proposals.by_id, proposals.failed) == ({}, 2)
    NOBODY.reply(b"")
