"""What the peer URLs answer beside raft, byte for byte (contract peer sections 1, 8.4, 8.5)."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from tests.server.fakepeers import use_peers
from tests.server.lab import SERVER, Lab, simulated

from petcd.api.peer_pages import PeerPages, hash_kv_json
from petcd.mvcc import KVHash
from petcd.net.edge import Edge
from petcd.net.grpc import Router
from petcd.net.http import HttpRouter
from petcd.pb import etcdserverpb as pb
from petcd.pb.leasepb import LeaseInternalRequest, LeaseInternalResponse
from petcd.seams import Address
from petcd.server.membership import ClusterMember
from petcd.server.peering import PeerAnswer

PORT = 2390
PLAIN = "text/plain; charset=utf-8"


class Pages:
    """The peer pages of a lab's member, on a port of their own."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab

    @classmethod
    async def open(cls, lab: Lab) -> Pages:
        router = HttpRouter()
        process = lab.host.process
        assert process is not None

        async def listen() -> None:
            PeerPages(lab.member).add_to(router)
            edge = Edge(lab.member.world, Router(), http=router)
            await edge.listen(Address(SERVER, PORT), grpc=False)

        await process.spawn(listen())
        return cls(lab)

    async def ask(
        self, method: str, path: str, body: bytes = b"", **headers: str
    ) -> tuple[int, dict[str, str], bytes]:
        fields = [(name.replace("_", "-"), value) for name, value in headers.items()]
        return await self.lab.http(method, path, body, fields, port=PORT)

    async def refused(self, method: str, path: str, body: bytes = b"", **headers: str) -> tuple[int, str]:
        """Status and text; the headers must be those of an error of Go's."""
        status, found, content = await self.ask(method, path, body, **headers)
        assert (found["content-type"], found["x-content-type-options"]) == (PLAIN, "nosniff")
        text = content.decode()
        assert text.endswith("\n")
        return status, text[:-1]


@simulated()
async def test_members(lab: Lab) -> None:
    pages = await Pages.open(lab)
    member = lab.member
    member.membership.members[3] = ClusterMember(3, ("http://c:1",), is_learner=True)
    status, headers, body = await pages.ask("GET", "/members")
    assert status == 200
    assert headers["content-type"] == "application/json"
    assert headers["x-etcd-cluster-id"] == f"{member.cluster_id:x}"
    assert body.decode() == (
        '[{"id":3,"peerURLs":["http://c:1"],"isLearner":true},'
        f'{{"id":{member.id},"peerURLs":["http://{SERVER}:2380"],"name":"m",'
        f'"clientURLs":["http://{SERVER}:2379"]}}]\n'
    )
    assert await pages.refused("POST", "/members") == (405, "Method Not Allowed")
    for path in ("/members/", "/health", "/metrics", "/", "/v3/kv/range", "/leases/", "/version/"):
        assert await pages.refused("GET", path) == (404, "404 page not found")


@simulated()
async def test_versions(lab: Lab) -> None:
    pages = await Pages.open(lab)
    status, headers, body = await pages.ask("GET", "/version")
    assert (status, headers["content-type"]) == (200, "application/json")
    assert body == b'{"etcdserver":"3.7.1","etcdcluster":"3.7.0","storage":"3.7.0"}'
    status, headers, body = await pages.ask("GET", "/downgrade/enabled")
    assert (status, headers["content-type"], body) == (200, "text/plain", b"false")
    assert headers["x-etcd-cluster-id"] == f"{lab.member.cluster_id:x}"
    lab.member.membership.set_downgrade(enabled=True, target="3.6.0")
    assert (await pages.ask("GET", "/downgrade/enabled"))[2] == b"true"
    assert await pages.refused("POST", "/downgrade/enabled") == (405, "Method Not Allowed")
    lab.member.read = lambda _answer, waiter, _request: waiter.fail(14, "it is late")  # type: ignore[method-assign]
    assert await pages.refused("GET", "/downgrade/enabled") == (500, "failed linearized read: it is late")


@simulated()
async def test_hashes(lab: Lab) -> None:
    pages = await Pages.open(lab)
    for value in (b"1", b"2", b"3"):
        await lab.put(b"a", value)
    expected = await lab.call(pb.HashKVRequest(revision=3))
    status, headers, body = await pages.ask("GET", "/members/hashkv", b'{"revision":3}')
    assert (status, headers["content-type"]) == (200, "application/json")
    assert headers["x-etcd-cluster-id"] == f"{lab.member.cluster_id:x}"
    assert body.decode() == (
        f'{{"header":{{"revision":4}},"hash":{expected.hash},"compact_revision":-1,"hash_revision":3}}'
    )
    own = f"{lab.member.cluster_id:x}"
    for text in (b'{"Revision":0}', b'{"revision":-3}', b"{}", b"null"):
        shape = json.loads((await pages.ask("GET", "/members/hashkv", text, X_Etcd_Cluster_Id=own))[2])
        assert shape["hash_revision"] == 4
    refusals: list[tuple[bytes, tuple[int, str]]] = [
        (b"", (400, "error unmarshalling request")),
        (b"[]", (400, "error unmarshalling request")),
        (b'{"revision":"3"}', (400, "error unmarshalling request")),
        (b'{"revision":1.5}', (400, "error unmarshalling request")),
        (b'{"revision":5}', (400, "mvcc: required revision is a future revision")),
    ]
    for text, answer in refusals:
        assert await pages.refused("GET", "/members/hashkv", text) == answer
    await lab.call(pb.CompactionRequest(revision=3))
    answer = await pages.refused("GET", "/members/hashkv", b'{"revision":2}')
    assert answer == (400, "mvcc: required revision has been compacted")
    assert await pages.refused("GET", "/members/hashkv", b"{}", X_Etcd_Cluster_Id="5") == (
        412,
        "cluster ID mismatch",
    )
    assert await pages.refused("POST", "/members/hashkv", b"{}") == (405, "Method Not Allowed")


def test_zeros_are_left_out() -> None:
    assert hash_kv_json(1, KVHash(0, 1, 0)) == b'{"header":{"revision":1},"hash_revision":1}'


@simulated()
async def test_renewing_a_lease(lab: Lab) -> None:
    pages = await Pages.open(lab)
    lease = (await lab.call(pb.LeaseGrantRequest(TTL=10))).ID
    await asyncio.sleep(8)
    status, headers, body = await pages.ask("POST", "/leases", pb.LeaseKeepAliveRequest(ID=lease).encode())
    assert (status, headers["content-type"]) == (200, "application/protobuf")
    assert body == pb.LeaseKeepAliveResponse(ID=lease, TTL=10).encode()
    await asyncio.sleep(8)
    assert (await lab.call(pb.LeaseTimeToLiveRequest(ID=lease))).TTL == 1
    unknown = pb.LeaseKeepAliveRequest(ID=5).encode()
    assert await pages.refused("POST", "/leases", unknown) == (404, "lease not found")
    assert await pages.refused("POST", "/leases", b"\xff") == (400, "error unmarshalling request")
    assert await pages.refused("POST", "/leases", bytes(65537)) == (413, "request body too large")
    assert await pages.refused("GET", "/leases") == (405, "Method Not Allowed")
    assert (await pages.ask("POST", "/leases", bytes(3 << 20)))[0] == 413
    lab.member.lessor.demote()
    again = pb.LeaseKeepAliveRequest(ID=lease).encode()
    assert await pages.refused("POST", "/leases", again) == (400, "not a primary lessor")


@simulated()
async def test_a_lease_that_is_over_is_answered_when_it_is_gone(lab: Lab) -> None:
    pages = await Pages.open(lab)
    lease = (await lab.call(pb.LeaseGrantRequest(TTL=2))).ID
    await asyncio.sleep(2.01)
    assert lab.member.lessor.is_expired(lease, lab.member.clock.monotonic())
    body = pb.LeaseKeepAliveRequest(ID=lease).encode()
    assert await pages.refused("POST", "/leases", body) == (404, "lease not found")
    assert not lab.member.lessor.exists(lease)


@simulated()
async def test_describing_a_lease(lab: Lab) -> None:
    pages = await Pages.open(lab)
    lease = (await lab.call(pb.LeaseGrantRequest(TTL=300))).ID
    for key in (b"lk", b"b"):
        await lab.put(key, lease=lease)
    await asyncio.sleep(1)
    for keys in (False, True):
        question = pb.LeaseTimeToLiveRequest(ID=lease, keys=keys)
        status, headers, body = await pages.ask(
            "POST", "/leases/internal", LeaseInternalRequest(LeaseTimeToLiveRequest=question).encode()
        )
        assert (status, headers["content-type"]) == (200, "application/protobuf")
        assert (
            body
            == LeaseInternalResponse(
                LeaseTimeToLiveResponse=pb.LeaseTimeToLiveResponse(
                    header=pb.ResponseHeader(),
                    ID=lease,
                    TTL=298,
                    grantedTTL=300,
                    keys=[b"b", b"lk"] if keys else [],
                )
            ).encode()
        )
        assert body[2:4] == b"\x0a\x00"  # the header is empty, and there
    unknown = LeaseInternalRequest(LeaseTimeToLiveRequest=pb.LeaseTimeToLiveRequest(ID=5)).encode()
    path = "/leases/internal"
    assert await pages.refused("POST", path, unknown) == (404, "lease not found")
    for bad in (b"\xff", b""):
        assert await pages.refused("POST", path, bad) == (400, "error unmarshalling request")
    assert await pages.refused("GET", path) == (405, "Method Not Allowed")
    lab.member.lessor.demote()
    assert await pages.refused("POST", path, unknown) == (500, "not a primary lessor")


@simulated()
async def test_leases_wait_for_what_is_committed(lab: Lab) -> None:
    pages = await Pages.open(lab)
    lease = (await lab.call(pb.LeaseGrantRequest(TTL=10))).ID
    body = pb.LeaseKeepAliveRequest(ID=lease).encode()
    lab.member.applied -= 1
    before = lab.sim.now
    assert await pages.refused("POST", "/leases", body) == (
        408,
        "waiting for node to catch up its applied index has timed out",
    )
    assert 1.0 <= lab.sim.now - before < 1.1
    asking = asyncio.ensure_future(pages.ask("POST", "/leases", body))
    await asyncio.sleep(0.3)
    assert not asking.done()
    lab.member.applied += 1
    assert (await asking)[0] == 200


@simulated()
async def test_promotions(lab: Lab) -> None:
    pages = await Pages.open(lab)
    member = lab.member
    for text in ("abc", "", "1x", "-1", "+1", "18446744073709551616", "1/2", "9" * 200):
        assert await pages.refused("POST", f"/members/promote/{text}") == (
            404,
            f"member {text} not found in cluster",
        )
    assert await pages.refused("POST", "/members/promote/5") == (404, "membership: ID not found")
    headers = (await pages.ask("POST", "/members/promote/5"))[1]
    assert headers["x-etcd-cluster-id"] == f"{member.cluster_id:x}"
    assert await pages.refused("POST", f"/members/promote/{member.id}") == (
        412,
        "membership: can only promote a learner member",
    )
    assert await pages.refused("GET", "/members/promote/5") == (405, "Method Not Allowed")
    learner = ClusterMember(5, ("http://l:1",), is_learner=True)
    added = await lab.call(pb.MemberAddRequest(peerURLs=list(learner.peer_urls), isLearner=True))
    assert await pages.refused("POST", f"/members/promote/{added.member.ID}") == (
        412,
        "etcdserver: can only promote a learner member which is in sync with leader",
    )


@simulated()
async def test_a_follower_hands_promotions_on_with_the_token(lab: Lab) -> None:
    pages = await Pages.open(lab)
    member = lab.member
    member.membership.members[7] = ClusterMember(7, ("http://leader:1",), "leader")
    answers: list[Any] = [PeerAnswer(200, {}, b"[]\n"), PeerAnswer(500, {}, b"{}")]
    peers = use_peers(lab, lambda _: answers.pop(0) if len(answers) > 1 else answers[0])
    member.lead = 7
    status, headers, body = await pages.ask("POST", "/members/promote/5", authorization="secret")
    assert (status, headers["content-type"]) == (200, "application/json")
    assert [shape["id"] for shape in json.loads(body)] == sorted([7, member.id])
    assert peers.asked[0].headers == {"Authorization": "secret"}
    status, headers, body = await pages.ask("POST", "/members/promote/5")
    assert (status, headers["content-type"], body) == (
        500,
        "application/json",
        b'{"message":"Internal Server Error"}',
    )
