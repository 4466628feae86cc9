"""The Cluster service of one member (contract wire-v3 section 8.3: no revision in its headers)."""

from __future__ import annotations

import asyncio

import pytest
from tests.server.fakepeers import use_peers
from tests.server.lab import SERVER, Lab, simulated

from petcd import errors
from petcd.errors import EtcdError
from petcd.pb import etcdserverpb as pb
from petcd.server.membership import ClusterMember


def row(error: type[EtcdError]) -> tuple[int, str]:
    return int(error.code), error.text


def bare_header(lab: Lab) -> pb.ResponseHeader:
    return pb.ResponseHeader(
        cluster_id=lab.member.cluster_id, member_id=lab.member.id, raft_term=lab.member.node.term
    )


@simulated()
async def test_member_list(lab: Lab) -> None:
    await lab.put(b"a")
    for linearizable in (False, True):
        answer = await lab.call(pb.MemberListRequest(linearizable=linearizable))
        assert answer.header == bare_header(lab)
        assert answer.members == [
            pb.Member(
                ID=lab.member.id,
                name="m",
                peerURLs=[f"http://{SERVER}:2380"],
                clientURLs=[f"http://{SERVER}:2379"],
            )
        ]


@simulated()
async def test_a_restart_publishes_what_is_new(lab: Lab) -> None:
    await lab.restart(name="renamed")
    member = (await lab.call(pb.MemberListRequest())).members[0]
    assert (member.ID, member.name) == (lab.member.id, "renamed")


@simulated()
async def test_a_learner_comes_and_goes(lab: Lab) -> None:
    await lab.put(b"a")
    own = (await lab.call(pb.MemberListRequest())).members[0]
    answer = await lab.call(pb.MemberAddRequest(peerURLs=["http://l:2", " http://l:1"], isLearner=True))
    learner = pb.Member(ID=answer.member.ID, peerURLs=["http://l:1", "http://l:2"], isLearner=True)
    assert answer.header == bare_header(lab)
    assert answer.member == learner
    assert answer.members == sorted([own, learner], key=lambda member: member.ID)
    answer = await lab.call(pb.MemberUpdateRequest(ID=learner.ID, peerURLs=["http://l:4", "http://l:3"]))
    learner.peerURLs = ["http://l:4", "http://l:3"]
    assert answer.header == bare_header(lab)
    assert answer.members == sorted([own, learner], key=lambda member: member.ID)
    assert await lab.refused(pb.MemberPromoteRequest(ID=learner.ID)) == row(errors.LearnerNotReady)
    second = pb.MemberAddRequest(peerURLs=["http://m:1"], isLearner=True)
    assert await lab.refused(second) == row(errors.TooManyLearners)
    answer = await lab.call(pb.MemberRemoveRequest(ID=learner.ID))
    assert (answer.header, answer.members) == (bare_header(lab), [own])
    assert await lab.refused(pb.MemberRemoveRequest(ID=learner.ID)) == row(errors.MemberNotFound)
    await lab.restart()
    assert (await lab.call(pb.MemberListRequest())).members == [own]
    assert lab.member.membership.removed == {learner.ID}
    assert await lab.refused(pb.MemberUpdateRequest(ID=learner.ID, peerURLs=["http://x:1"])) == row(
        errors.MemberNotFound
    )


@simulated()
async def test_changes_that_are_refused(lab: Lab) -> None:
    own = lab.member.id
    peer_url = f"http://{SERVER}:2380"
    for urls in ([], ["nonsense"], ["http://a"], ["http://a:1/x"]):
        assert await lab.refused(pb.MemberAddRequest(peerURLs=urls)) == row(errors.MemberBadURLs)
        update = pb.MemberUpdateRequest(ID=own, peerURLs=urls)
        assert await lab.refused(update) == row(errors.MemberBadURLs)
    assert await lab.refused(pb.MemberAddRequest(peerURLs=[peer_url])) == row(errors.PeerURLExist)
    assert await lab.refused(pb.MemberRemoveRequest(ID=own)) == row(errors.MemberNotEnoughStarted)
    for unknown in (0, 5, (1 << 64) - 1):
        assert await lab.refused(pb.MemberRemoveRequest(ID=unknown)) == row(errors.MemberNotFound)
        assert await lab.refused(pb.MemberPromoteRequest(ID=unknown)) == row(errors.MemberNotFound)
        update = pb.MemberUpdateRequest(ID=unknown, peerURLs=["http://x:1"])
        assert await lab.refused(update) == row(errors.MemberNotFound)
    assert await lab.refused(pb.MemberPromoteRequest(ID=own)) == row(errors.MemberNotLearner)
    assert len((await lab.call(pb.MemberListRequest())).members) == 1
    for name in ("Add", "Remove", "Update", "List", "Promote"):
        with pytest.raises(EtcdError, match=r"^grpc: error unmarshalling request: ") as caught:
            await lab.connection.unary(f"/etcdserverpb.Cluster/Member{name}".encode(), b"\xff")
        assert caught.value.code == 13


@simulated()
async def test_a_second_voter_that_never_comes(lab: Lab) -> None:
    """One may always become two; with the second away there is no quorum."""
    answer = await lab.call(pb.MemberAddRequest(peerURLs=["http://n:1"]))
    assert [member.peerURLs for member in answer.members if not member.name] == [["http://n:1"]]
    use_peers(lab)
    third = pb.MemberAddRequest(peerURLs=["http://o:1"])
    assert await lab.refused(third) == row(errors.MemberNotEnoughStarted)
    asking = asyncio.ensure_future(lab.refused(pb.MemberUpdateRequest(ID=5, peerURLs=["http://o:1"])))
    code, text = await asking
    assert code == errors.RequestTimeout.code
    assert text.startswith(errors.RequestTimeout.text)


@simulated()
async def test_the_gateway_has_them_too(lab: Lab) -> None:
    status, shape = await lab.json("/v3/cluster/member/add", {"peerURLs": ["http://l:1"], "isLearner": True})
    assert status == 200
    assert shape["member"] == {"ID": shape["member"]["ID"], "peerURLs": ["http://l:1"], "isLearner": True}
    assert "revision" not in shape["header"]
    status, shape = await lab.json("/v3/cluster/member/promote", {"ID": shape["member"]["ID"]})
    assert (status, shape["message"]) == (400, errors.LearnerNotReady.text)
    status, shape = await lab.json("/v3/cluster/member/remove", {"ID": "5"})
    assert (status, shape["message"]) == (404, errors.MemberNotFound.text)
    status, shape = await lab.json("/v3/cluster/member/update", {"ID": "5", "peerURLs": ["x"]})
    assert (status, shape["message"]) == (400, errors.MemberBadURLs.text)


@simulated()
async def test_what_a_learner_answers(lab: Lab) -> None:
    """Contract wire-v3 section 3.2: status and serializable reads."""
    await lab.put(b"a", b"1")
    membership = lab.member.membership
    own = membership.members[lab.member.id]
    membership.members[own.id] = ClusterMember(own.id, own.peer_urls, own.name, own.client_urls, True)
    membership.learner_count = 1
    assert (await lab.call(pb.StatusRequest())).isLearner
    assert (await lab.call(pb.RangeRequest(key=b"a", serializable=True))).kvs[0].value == b"1"
    requests = (
        pb.RangeRequest(key=b"a"),
        pb.PutRequest(key=b"a"),
        pb.DeleteRangeRequest(key=b"a"),
        pb.TxnRequest(),
        pb.CompactionRequest(revision=2),
        pb.LeaseGrantRequest(TTL=5),
        pb.LeaseTimeToLiveRequest(ID=5),
        pb.MemberListRequest(),
        pb.MemberAddRequest(peerURLs=["http://x:1"]),
        pb.MoveLeaderRequest(targetID=own.id),
        pb.HashKVRequest(),
        pb.AlarmRequest(),
        pb.AuthStatusRequest(),
    )
    for request in requests:
        assert await lab.refused(request) == row(errors.NotSupportedForLearner), request
    for talk in (lab.watch(), lab.keep_alive()):
        with pytest.raises(errors.NotSupportedForLearner):
            await talk.receive(5)
