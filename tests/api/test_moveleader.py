"""MoveLeader: who may be asked, and when the answer comes (contract wire-v3 section 10.5)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from tests.server.lab import Lab, simulated

from petcd import errors
from petcd.errors import EtcdError
from petcd.pb import etcdserverpb as pb
from petcd.server.membership import ClusterMember

Done = Callable[[EtcdError | None], object]


def row(error: type[EtcdError]) -> tuple[int, str]:
    return int(error.code), error.text


def add_others(lab: Lab) -> None:
    members = lab.member.membership.members
    members[7] = ClusterMember(7, ("http://b:1",), "b")
    members[8] = ClusterMember(8, ("http://c:1",), "c", is_learner=True)


@simulated()
async def test_who_can_be_asked_for_what(lab: Lab) -> None:
    add_others(lab)
    for unfit in (0, 5, 8):
        assert await lab.refused(pb.MoveLeaderRequest(targetID=unfit)) == row(errors.BadLeaderTransferee)
    answer = await lab.call(pb.MoveLeaderRequest(targetID=lab.member.id))
    assert answer == pb.MoveLeaderResponse()  # it leads already; there is no header
    lab.member.lead = 7
    for target in (5, 7, lab.member.id):
        assert await lab.refused(pb.MoveLeaderRequest(targetID=target)) == row(errors.NotLeader)


@simulated()
async def test_the_answer_comes_with_the_new_leader(lab: Lab) -> None:
    add_others(lab)
    asked: list[tuple[int, Done]] = []
    lab.member.transfer_leader = lambda to, done: asked.append((to, done))  # type: ignore[method-assign]
    for error in (None, errors.TimeoutLeaderTransfer()):
        call = asyncio.ensure_future(lab.call(pb.MoveLeaderRequest(targetID=7)))
        await asyncio.sleep(3)
        assert not call.done()
        (to, done) = asked.pop()
        assert to == 7
        done(error)
        await asyncio.wait((call,), timeout=1)
        if error is None:
            assert call.result() == pb.MoveLeaderResponse()
        else:
            assert isinstance(call.exception(), errors.TimeoutLeaderTransfer)
