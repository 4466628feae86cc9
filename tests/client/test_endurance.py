"""What watches tell of breaks, and how a silent server is noticed."""

from __future__ import annotations

import asyncio

import pytest
from tests.client.endurance import endure
from tests.client.stub import Stub
from tests.servers import Kind, Server, needs_go_etcd

from petcd import errors
from petcd.client import Client, Disconnected, Event, Progress, Resumed, TransportFailure, Watch
from petcd.client.balance import Balance
from petcd.client.endpoints import parse
from petcd.net.grpc.calls import Stream
from petcd.net.http2 import frames
from petcd.net.http2.frames import FRAME, PREFACE
from petcd.pb import mvccpb
from petcd.pb.etcdserverpb import kv, watch
from petcd.pb.etcdserverpb.header import ResponseHeader


async def notices(watched: Watch, count: int) -> list[object]:
    found: list[object] = []
    async with asyncio.timeout(10):
        async for notice in watched.all():
            found.append(notice)
            if len(found) == count:
                break
    return found


def event(revision: int, value: bytes = b"") -> mvccpb.Event:
    pair = mvccpb.KeyValue(key=b"k", value=value, create_revision=1, mod_revision=revision, version=revision)
    return mvccpb.Event(kv=pair)


def response(revision: int, *events: mvccpb.Event, created: bool = False) -> bytes:
    header = ResponseHeader(revision=revision)
    return watch.WatchResponse(header=header, created=created, events=list(events)).encode()


def test_breaks_and_resumes_in_their_order() -> None:
    """The second server begins one revision too early: what was told is not told again."""
    asked: list[int] = []

    def serve(stream: Stream, message: bytes) -> None:
        create = watch.WatchRequest.decode(message).create_request
        if create is None:
            return
        asked.append(create.start_revision)
        if len(asked) == 1:
            stream.send(response(4, created=True))
            stream.send(response(6, event(5), event(6)))
            stream.close(errors.NoLeader.code, errors.NoLeader.text)
        elif len(asked) == 2:
            stream.send(response(6, created=True))
            stream.send(response(7, event(6), event(7)))
            stream.send(response(9))
            stream.close(errors.Stopped.code, errors.Stopped.text)
        else:
            stream.send(response(9, created=True))
            stream.send(response(10, event(10)))

    async def main() -> None:
        stub = Stub(streams={"Watch": serve})
        async with stub.serving(), Client(stub.endpoint) as client:
            found = await notices(client.watch("k"), 9)
        told = [(type(each), each.revision) for each in found]  # type: ignore[attr-defined]
        assert told == [
            (Event, 5),
            (Event, 6),
            (Disconnected, 7),
            (Resumed, 7),
            (Event, 7),
            (Progress, 9),
            (Disconnected, 10),
            (Resumed, 10),
            (Event, 10),
        ]
        breaks = [each.error for each in found if isinstance(each, Disconnected)]
        assert [type(error) for error in breaks] == [errors.NoLeader, errors.Stopped]
        assert asked == [0, 7, 10]

    asyncio.run(main())


def test_who_does_not_ask_hears_only_events(own_server: Server) -> None:
    async def main() -> None:
        async with Client(own_server.endpoint, timeout=30.0) as client:
            plain, asking = client.watch("e/", prefix=True), client.watch("e/", prefix=True)
            async with plain, asking:
                await client.put("e/1", "before")
                await asyncio.to_thread(own_server.kill)
                await asyncio.to_thread(own_server.start)
                await client.put("e/1", "after")
                told = await notices(asking, 4)
                assert [type(each) for each in told] == [Event, Disconnected, Resumed, Event]
                assert isinstance(told[1], Disconnected)
                assert isinstance(told[1].error, TransportFailure)
                values = []
                async with asyncio.timeout(10):
                    async for each in plain:
                        values.append(each.value)
                        if len(values) == 2:
                            break
                assert values == [b"before", b"after"]

    asyncio.run(main())


class Mute:
    """Shakes hands, counts pings, and answers nothing."""

    def __init__(self) -> None:
        self.pings = 0
        self.calls = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(frames.settings())
        try:
            assert await reader.readexactly(len(PREFACE)) == PREFACE
            while True:
                word, _, _ = FRAME.unpack(await reader.readexactly(9))
                await reader.readexactly(word >> 8)
                self.pings += word & 255 == frames.PING
                self.calls += word & 255 == frames.HEADERS
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


def test_a_silent_server_is_pinged_and_given_up() -> None:
    async def main() -> None:
        mute = Mute()
        listener = await asyncio.start_server(mute.serve, "127.0.0.1", 0)
        endpoint = f"127.0.0.1:{listener.sockets[0].getsockname()[1]}"
        stub = Stub({"Range": [kv.RangeResponse()]})
        options = {"keepalive": 0.1, "keepalive_timeout": 0.1, "timeout": None}
        async with stub.serving(), Client([endpoint, stub.endpoint], **options) as client:  # type: ignore[arg-type]
            # Without any deadline, the pings alone find it out; a read then goes on elsewhere.
            async with asyncio.timeout(10):
                assert (await client.get("k")).count == 0
        assert (mute.calls, mute.pings) == (1, 1)
        listener.close()

    asyncio.run(main())


def test_pings_are_on_unless_they_are_turned_off() -> None:
    async def main() -> None:
        stub = Stub({"Range": [kv.RangeResponse()]})
        async with stub.serving():
            for client, seconds in ((Client(stub.endpoint), 10.0), (Client(stub.endpoint, keepalive=0), 0)):
                async with client:
                    await client.get("k")
                    connection = client._pool._current
                    assert connection is not None
                    assert (connection._keepalive, connection._keepalive_timer is None) == (
                        seconds,
                        not seconds,
                    )

    asyncio.run(main())


def test_members_that_fail_rest_for_longer_and_longer() -> None:
    a, b, c = (parse(f"{name}:1") for name in "abc")
    balance = Balance([a, b, c])

    def order(now: float) -> list[str]:
        return [health.endpoint.host for health in balance.order(now)]

    assert order(0.0) == ["a", "b", "c"]
    balance.failed(a, 0.0)
    balance.failed(b, 0.1)
    assert order(0.2) == ["c", "a", "b"]  # those that rest come last, the one that ends first before
    assert order(0.55) == ["a", "c", "b"]
    balance.failed(a, 0.55)
    assert order(1.5) == ["b", "c", "a"]  # a second, the second time
    assert order(1.6) == ["a", "b", "c"]
    for n in range(10):
        balance.failed(a, 2.0 + n)
    assert order(25.9) == ["b", "c", "a"]
    assert order(26.1) == ["a", "b", "c"]  # never more than 15
    balance.failed(a, 100.0)
    assert order(100.6) == ["a", "b", "c"]  # what was long ago is forgiven
    with pytest.raises(ValueError):
        balance.replace([])
    balance.failed(b, 200.0)
    balance.replace([c, b, parse("d:1")])
    assert order(200.1) == ["c", "d", "b"]


def test_shuffled_endpoints_are_all_used_first_by_somebody() -> None:
    endpoints = [parse(f"{name}:1") for name in "abc"]
    firsts = {Balance(endpoints, shuffle=True).order(0.0)[0].endpoint.host for _ in range(200)}
    assert firsts == {"a", "b", "c"}


@pytest.mark.slow
@pytest.mark.parametrize("kind", [pytest.param("go", marks=[pytest.mark.go, needs_go_etcd]), "petcd"])
def test_members_that_come_and_go_cost_no_event_and_no_write(kind: Kind) -> None:
    report = endure(kind, 2)
    assert report.kills == 2
    assert len(report.acknowledged) > 20
    assert report.lost_writes == []
    assert report.wrong_watches == 0
    assert report.leases_lost == 0
    assert report.resumes >= report.breaks
