"""The Cluster service of one member (contract wire-v3 section 8.3: no revision in its headers)."""

from __future__ import annotations

from tests.server.lab import SERVER, Lab, simulated

from petcd.pb import etcdserverpb as pb


@simulated()
async def test_member_list(lab: Lab) -> None:
    await lab.put(b"a")
    for linearizable in (False, True):
        answer = await lab.call(pb.MemberListRequest(linearizable=linearizable))
        assert answer.header == pb.ResponseHeader(
            cluster_id=lab.member.cluster_id, member_id=lab.member.id, raft_term=lab.member.node.term
        )
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
