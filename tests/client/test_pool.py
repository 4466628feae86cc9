"""Failover and the retry rule, against servers that misbehave on purpose."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from tests.servers import Server, free_port

from petcd.client import Client, TransportFailure
from petcd.errors import Code
from petcd.net.http2 import frames
from petcd.net.http2.frames import FRAME, PREFACE


class Rude:
    """Accepts connections, takes HTTP/2 requests, and hangs up instead of answering."""

    def __init__(self, *, goaway: bool = False) -> None:
        self.requests = 0
        self.goaway = goaway
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(frames.settings())
        try:
            assert await reader.readexactly(len(PREFACE)) == PREFACE
            while True:
                word, _, _ = FRAME.unpack(await reader.readexactly(9))
                await reader.readexactly(word >> 8)
                if word & 255 == frames.HEADERS:
                    self.requests += 1
                    if self.goaway:
                        # No stream was looked at: the last id is 0.
                        writer.write(frames.goaway(0, frames.NO_ERROR))
                        await writer.drain()
                    break
        except asyncio.IncompleteReadError:
            pass
        finally:
            writer.close()

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[str]:
        server = await asyncio.start_server(self.serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield f"127.0.0.1:{self.port}"
        finally:
            server.close()


def test_a_write_whose_bytes_left_is_not_sent_again() -> None:
    async def main() -> None:
        rude = Rude()
        async with rude.listening() as endpoint, Client([endpoint], timeout=2.0) as client:
            with pytest.raises(TransportFailure) as caught:
                await client.put("a", "b")
            assert caught.value.sent
            assert caught.value.code == Code.UNAVAILABLE
            assert rude.requests == 1

    asyncio.run(main())


def test_a_read_is_sent_again() -> None:
    async def main() -> None:
        rude = Rude()
        async with rude.listening() as endpoint, Client([endpoint], timeout=0.5) as client:
            with pytest.raises(TransportFailure) as caught:
                await client.get("a")
            assert caught.value.code == Code.DEADLINE_EXCEEDED
            assert rude.requests > 1

    asyncio.run(main())


def test_a_write_the_server_did_not_look_at_goes_to_the_next(server: Server) -> None:
    async def main() -> None:
        rude = Rude(goaway=True)
        async with rude.listening() as endpoint, Client([endpoint, server.endpoint]) as client:
            await client.put("pool/moved", "1")
            assert rude.requests == 1
            assert (await client.get("pool/moved")).value == b"1"

    asyncio.run(main())


def test_an_endpoint_that_is_not_there_is_passed_over(server: Server) -> None:
    async def main() -> None:
        async with Client([f"127.0.0.1:{free_port()}", f"http://{server.endpoint}"]) as client:
            await client.put("pool/a", "1")
            assert (await client.get("pool/a")).value == b"1"

    asyncio.run(main())


def test_nobody_there_is_a_deadline() -> None:
    async def main() -> None:
        async with Client(f"127.0.0.1:{free_port()}", timeout=0.3) as client:
            with pytest.raises(TransportFailure) as caught:
                await client.put("a", "b")
            assert caught.value.code == Code.DEADLINE_EXCEEDED
            assert not caught.value.sent

    asyncio.run(main())


@pytest.mark.parametrize("endpoint", ["nohost", "ftp://a:1", "http://a:b", "a:99999"])
def test_what_is_no_endpoint_is_refused(endpoint: str) -> None:
    with pytest.raises(ValueError):
        Client(endpoint)


def test_a_closed_client_stays_closed(server: Server) -> None:
    async def main() -> None:
        client = Client(server.endpoint)
        async with client:
            await client.get("a")
        for refused in (client.get("a"), client.put("a", "b"), client.watch("a").__aenter__()):
            with pytest.raises(TransportFailure) as caught:
                await refused
            assert caught.value.code == Code.CANCELLED

    asyncio.run(main())


def test_no_endpoints_are_refused() -> None:
    with pytest.raises(ValueError):
        Client([])


def test_making_a_client_does_no_input_or_output() -> None:
    Client("127.0.0.1:1", user="root", password="x")


def test_one_watch_after_the_other_is_no_failure_of_the_server(server: Server) -> None:
    """The end of the last watch ends the stream; a watch that comes before that is seen must not take it for
    the server's doing."""

    async def main() -> None:
        async with Client([server.endpoint, f"127.0.0.1:{free_port()}"]) as client:
            for name in ("pool/a", "pool/b", "pool/c"):
                async with client.watch(name):
                    pass
                first = client._pool._current
                assert first is not None and first.usable
            assert [health.failures for health in client._pool.balance.order(0.0)] == [0, 0]

    asyncio.run(main())


def test_a_client_closed_while_it_connects_keeps_no_connection() -> None:
    async def main() -> None:
        accepted: list[asyncio.StreamWriter] = []
        ended = asyncio.Event()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            accepted.append(writer)
            await reader.readexactly(len(PREFACE))
            closing.set()
            await asyncio.sleep(0.05)
            writer.write(frames.settings())
            await reader.read()
            ended.set()
            writer.close()

        closing = asyncio.Event()
        listener = await asyncio.start_server(serve, "127.0.0.1", 0)
        client = Client(f"127.0.0.1:{listener.sockets[0].getsockname()[1]}")
        call = asyncio.ensure_future(client.get("a"))
        await closing.wait()
        await client.close()
        with pytest.raises(TransportFailure) as caught:
            await call
        assert caught.value.code == Code.CANCELLED
        await asyncio.wait_for(ended.wait(), 5)
        listener.close()

    asyncio.run(main())
