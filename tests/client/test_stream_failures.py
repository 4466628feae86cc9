"""Watches and leases when something fails that is no answer of a server."""

from __future__ import annotations

import asyncio
from typing import NoReturn

import pytest
from tests.client.stub import Answer, Stub
from tests.servers import free_port

from petcd.client import (
    Client,
    CompactedWatch,
    Disconnected,
    LeaseLost,
    Notice,
    Progress,
    Resumed,
    StoreRewound,
    Tls,
    TransportFailure,
)
from petcd.errors import Code, Compacted, NotSupportedForLearner
from petcd.net.grpc.calls import Stream
from petcd.pb import mvccpb
from petcd.pb.etcdserverpb import lease as lease_pb
from petcd.pb.etcdserverpb import watch as watch_pb
from petcd.pb.etcdserverpb.header import ResponseHeader
from petcd.pb.etcdserverpb.kv import RangeResponse

GRANTED = lease_pb.LeaseGrantResponse(ID=7, TTL=60)


@pytest.mark.parametrize(
    ("host", "tls", "reason"),
    [
        ("https://127.0.0.1", Tls(ca="/nowhere.pem"), "cannot load"),
        ("https://127.0.0.1", Tls(cert="/nowhere.pem"), "must both be present"),
        ("http://" + "x" * 70 + ".test", None, "label"),
    ],
)
def test_what_prevents_dialling_is_a_transport_failure(host: str, tls: Tls | None, reason: str) -> None:
    async def main() -> None:
        async with Client(f"{host}:{free_port()}", tls=tls, timeout=0.2) as client:
            with pytest.raises(TransportFailure, match=reason):
                await client.get("k")

    asyncio.run(main())


def test_an_error_that_nobody_foresaw_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(*_: object, **__: object) -> NoReturn:
        raise RuntimeError("no such thing")

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: None)
        async with Stub({"LeaseGrant": [GRANTED]}).serving() as stub, Client(stub.endpoint) as client:
            monkeypatch.setattr(client._pool, "open", broken)
            async with asyncio.timeout(5):
                with pytest.raises(TransportFailure, match="no such thing") as caught:
                    await client.watch("k").__aenter__()
                assert isinstance(caught.value.__cause__, RuntimeError)
                async with client.lease(60, revoke=False) as lease:
                    await lease.lost.wait()
                    with pytest.raises(LeaseLost):
                        lease.check()

    asyncio.run(main())


def test_streams_move_on_from_a_learner() -> None:
    def refuse(stream: Stream, _: bytes) -> None:
        stream.close(NotSupportedForLearner.code, NotSupportedForLearner.text)

    def renew(stream: Stream, message: bytes) -> None:
        lease = lease_pb.LeaseKeepAliveRequest.decode(message).ID
        stream.send(lease_pb.LeaseKeepAliveResponse(ID=lease, TTL=60).encode())

    def create(stream: Stream, _: bytes) -> None:
        header = ResponseHeader(revision=5)
        stream.send(watch_pb.WatchResponse(header=header, created=True).encode())

    async def main() -> None:
        learner = Stub({"LeaseGrant": [GRANTED]}, {"Watch": refuse, "LeaseKeepAlive": refuse})
        voter = Stub({"LeaseGrant": [GRANTED]}, {"Watch": create, "LeaseKeepAlive": renew})
        async with learner.serving(), voter.serving(), asyncio.timeout(20):
            async with Client([learner.endpoint, voter.endpoint]) as client, client.watch("k") as watch:
                assert watch.revision == 5
            async with Client([learner.endpoint, voter.endpoint]) as client:
                assert await client.leases.keep_alive_once(7) == 60
            async with Client(learner.endpoint) as client:
                with pytest.raises(NotSupportedForLearner):
                    await client.watch("k").__aenter__()
        assert learner.count("Watch") == 2

    asyncio.run(main())


def test_a_closed_client_holds_no_lease() -> None:
    async def main() -> None:
        async with Stub({"LeaseGrant": [GRANTED]}).serving() as stub:
            client = Client(stub.endpoint)
            async with client.lease(60) as lease:
                lease.check()
                await client.close()
                with pytest.raises(LeaseLost):
                    lease.check()

    asyncio.run(main())


def test_a_lease_that_was_lost_can_be_entered_anew() -> None:
    def renew(stream: Stream, message: bytes) -> None:
        lease = lease_pb.LeaseKeepAliveRequest.decode(message).ID
        stream.send(lease_pb.LeaseKeepAliveResponse(ID=lease, TTL=0).encode())

    async def main() -> None:
        answers: list[Answer] = [
            lease_pb.LeaseGrantResponse(ID=7, TTL=1),
            lease_pb.LeaseGrantResponse(ID=8, TTL=60),
        ]
        stub = Stub({"LeaseGrant": answers}, {"LeaseKeepAlive": renew})
        async with stub.serving(), asyncio.timeout(20), Client(stub.endpoint) as client:
            lease = client.lease(1, revoke=False)
            async with lease:
                await lease.lost.wait()
            async with lease:
                lease.check()
                assert (lease.id, lease.ttl) == (8, 60)
            # The server chose the first id; the second grant leaves it the choice again.
            assert lease_pb.LeaseGrantRequest.decode(stub.last("LeaseGrant").message).ID == 0

    asyncio.run(main())


def test_a_request_for_progress_waits_for_the_stream() -> None:
    created = 0

    def serve(stream: Stream, message: bytes) -> None:
        nonlocal created
        request = watch_pb.WatchRequest.decode(message)
        header = ResponseHeader(revision=5)
        if request.create_request is not None:
            created += 1
            stream.send(watch_pb.WatchResponse(header=header, created=True).encode())
        elif request.progress_request is not None and created == 1:
            stream.close(Code.UNAVAILABLE, "going down")  # with the request unanswered
        elif request.progress_request is not None:
            stream.send(watch_pb.WatchResponse(header=header, watch_id=-1).encode())

    async def main() -> None:
        async with Stub(streams={"Watch": serve}).serving() as stub, Client(stub.endpoint) as client:
            watch = client.watch("k")
            watch.request_progress()
            kinds: list[type[Notice]] = []
            async with asyncio.timeout(20), watch:
                async for notice in watch.all():
                    kinds.append(type(notice))
                    if isinstance(notice, Progress):
                        break
            assert kinds == [Disconnected, Resumed, Progress]

    asyncio.run(main())


def test_entering_a_watch_has_a_deadline_and_tells_the_obstacle() -> None:
    async def main() -> None:
        async with Client(f"127.0.0.1:{free_port()}", timeout=0.3) as client, asyncio.timeout(20):
            with pytest.raises(TransportFailure, match=r"latest error: .*Error while dialing") as caught:
                await client.watch("k").__aenter__()
            assert caught.value.code == Code.DEADLINE_EXCEEDED
            # Nobody wants a server now, so nobody looks for one.
            while any(task.get_name() == "etcd watches" for task in asyncio.all_tasks()):  # noqa: ASYNC110
                await asyncio.sleep(0.01)

    asyncio.run(main())


def test_a_watch_that_nobody_holds_ends() -> None:
    cancelled: list[int] = []

    def serve(stream: Stream, message: bytes) -> None:
        request = watch_pb.WatchRequest.decode(message)
        header = ResponseHeader(revision=5)
        if request.create_request is not None:
            stream.send(watch_pb.WatchResponse(header=header, created=True, watch_id=9).encode())
            event = mvccpb.Event(kv=mvccpb.KeyValue(key=b"k", mod_revision=6))
            stream.send(watch_pb.WatchResponse(header=header, watch_id=9, events=[event]).encode())
        elif request.cancel_request is not None:
            cancelled.append(request.cancel_request.watch_id)

    async def main() -> None:
        stub = Stub(streams={"Watch": serve})
        async with (
            asyncio.timeout(20),
            stub.serving(),
            Client(stub.endpoint) as client,
            client.watch("other"),
        ):
            async for _ in client.watch("k"):
                break
            while not cancelled:  # noqa: ASYNC110  it lies behind a socket
                await asyncio.sleep(0.01)
            assert len(client._core.watches._watches) == 1

    asyncio.run(main())


@pytest.mark.parametrize(
    ("store", "told"),
    [(3, StoreRewound), (9, None), (None, CompactedWatch)],
    ids=["restored", "lags", "compacted"],
)
def test_a_resume_tells_what_was_lost(store: int | None, told: type[Exception] | None) -> None:
    """The second creation meets a member at revision 3 (or 9, compacted), the first was at 5."""
    created = 0

    def serve(stream: Stream, message: bytes) -> None:
        nonlocal created
        created += 1
        if created == 1:
            stream.send(watch_pb.WatchResponse(header=ResponseHeader(revision=5), created=True).encode())
            stream.close(Code.UNAVAILABLE, "going down")
        elif store is None:
            header = ResponseHeader(revision=9)
            stream.send(watch_pb.WatchResponse(header=header, created=True).encode())
            stream.send(watch_pb.WatchResponse(header=header, canceled=True, compact_revision=8).encode())
        else:
            stream.send(watch_pb.WatchResponse(header=ResponseHeader(revision=3), created=True).encode())

    async def main() -> None:
        answer = RangeResponse(header=ResponseHeader(revision=store)) if store is not None else Compacted()
        stub = Stub({"Range": [answer]}, {"Watch": serve})
        kinds: list[type[object]] = []
        async with (
            asyncio.timeout(20),
            stub.serving(),
            Client(stub.endpoint) as client,
            client.watch("k") as watch,
        ):
            try:
                async for notice in watch.all():
                    kinds.append(type(notice))
                    if isinstance(notice, Resumed):
                        break
            except (StoreRewound, CompactedWatch) as error:
                kinds.append(type(error))
        assert kinds == [Disconnected, told or Resumed]

    asyncio.run(main())
