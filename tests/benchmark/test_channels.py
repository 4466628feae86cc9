"""Channels: links to every endpoint, made again when lost, given up in time; and who we are on them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from tests.benchmark.tool import Run
from tests.net.test_tls import Authority
from tests.servers import Server, free_port, needs_go_etcd, needs_go_etcdctl, serving

from petcd.cli.benchmark import channels, paths
from petcd.cli.benchmark.bench import Bench, Line
from petcd.cli.benchmark.channels import Channel, Dialer, Identity
from petcd.cli.benchmark.commands import GLOBAL_FLAGS
from petcd.cli.benchmark.failures import Failure
from petcd.cli.benchmark.setup import narrow_to_leader, synchronize
from petcd.cli.etcdctl.grammar import FlagSet
from petcd.client.endpoints import Endpoint, parse
from petcd.net.grpc.client import ClientConnection
from petcd.pb.etcdserverpb import kv as pb

GET = pb.RangeRequest(key=b"k").encode()


@asynccontextmanager
async def opened(*endpoints: Endpoint) -> AsyncIterator[Channel]:
    channel = Channel(endpoints, Dialer(None, 2.0), Identity())
    try:
        await channel.open()
        yield channel
    finally:
        await channel.close()


async def member(channel: Channel) -> int:
    response = pb.RangeResponse.decode(await channel.unary(paths.RANGE, GET))
    assert response.header is not None
    return response.header.member_id


def test_endpoints_take_turns_and_one_is_enough(petcd: Server) -> None:
    with serving("petcd", None, "--initial-cluster-token=another") as other:

        async def main() -> None:
            async with opened(parse(petcd.endpoint), parse(other.endpoint)) as channel:
                members = [await member(channel) for _ in range(6)]
                assert len(set(members)) == 2
                assert members == members[:2] * 3
                other.kill()
                left = set()
                for _ in range(6):
                    try:
                        left.add(await member(channel))
                    except channels.EtcdError:
                        continue  # was sent before the loss showed
                assert len(left) == 1

        asyncio.run(main())


def test_a_lost_link_is_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving("petcd") as server:

        async def main() -> None:
            async with opened(parse(server.endpoint)) as channel:
                first = await member(channel)
                server.kill()
                await asyncio.to_thread(server.start)
                again = None
                while again is None:
                    try:
                        again = await member(channel)
                    except channels.EtcdError:
                        continue  # the loss had not shown yet
                assert again == first
                server.kill()
                monkeypatch.setattr(channels, "PATIENCE_SECONDS", 0.2)
                with pytest.raises(channels.EtcdError):
                    await member(channel)  # was sent before the loss showed
                with pytest.raises(Failure, match=r"^no server for 0\.2 seconds: connection error: "):
                    await member(channel)

        asyncio.run(main())


class Unlucky(Dialer):
    """Its first two connections end before anybody is there to be told of it."""

    left = 2

    async def dial(self, endpoint: Endpoint) -> ClientConnection:
        connection = await super().dial(endpoint)
        if self.left:
            self.left -= 1
            connection.close()
        return connection


def test_a_link_that_ends_as_soon_as_it_stands_is_tried_again(petcd: Server) -> None:
    async def main() -> None:
        channel = Channel([parse(petcd.endpoint)], Unlucky(None, 2.0), Identity())
        try:
            with pytest.raises(Failure, match="the server closed the connection"):
                await channel.open()
            async with asyncio.timeout(5):
                assert await member(channel)
        finally:
            await channel.close()

    asyncio.run(main())


def bench(*endpoints: str) -> Bench:
    return Bench(Line(FlagSet(GLOBAL_FLAGS), [], [*map(parse, endpoints)], Dialer(None, 2.0), Identity()))


def test_the_leader_is_found(petcd: Server) -> None:
    async def main() -> None:
        nowhere = f"127.0.0.1:{free_port()}"
        run = bench(nowhere, petcd.endpoint)
        await narrow_to_leader(run)
        assert [endpoint.text for endpoint in run.endpoints] == [petcd.endpoint]
        with pytest.raises(Failure, match="failed to find a leader endpoint: connection error: "):
            await narrow_to_leader(bench(nowhere))

    asyncio.run(main())


def test_members_are_followed() -> None:
    with serving("petcd") as server:
        # The same server by another name: the members tell the one it advertises.
        async def main() -> None:
            run = bench(f"localhost:{server.client_port}")
            run.flags.values["auto-sync-interval"] = 20_000_000
            (channel,) = await run.connect(1)
            try:
                async with synchronize(run):
                    while run.endpoints[0].text != server.url:
                        await member(channel)
                    assert await member(channel)
            finally:
                await run.close()

        asyncio.run(main())


@pytest.mark.go
@needs_go_etcd
def test_tls(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    cert, key, _ = authority.issue("server", "server")
    own_cert, own_key, _ = authority.issue("client", "client")
    port = free_port()
    plain = free_port()
    with serving(
        "go",
        None,
        f"--listen-client-urls=http://127.0.0.1:{plain},https://127.0.0.1:{port}",
        f"--cert-file={cert}",
        f"--key-file={key}",
        f"--trusted-ca-file={authority.ca_file}",
        "--client-cert-auth",
        client_port=plain,
    ):
        client = [f"--cert={own_cert}", f"--key={own_key}"]
        for flags in ([f"--cacert={authority.ca_file}", *client], ["--insecure-skip-tls-verify", *client]):
            done = Run("put", "--total=20", *flags, endpoint=f"https://127.0.0.1:{port}")
            assert (done.status, done.err, done.counted()) == (0, "", [20])
        # Without a scheme the files decide.
        done = Run(
            "put", "--total=20", f"--cacert={authority.ca_file}", *client, endpoint=f"127.0.0.1:{port}"
        )
        assert done.counted() == [20]
        done = Run("put", *client, endpoint=f"https://127.0.0.1:{port}")
        assert done.status == 1
        assert "certificate verify failed" in done.err


def test_a_user_of_a_server_without_authentication(petcd: Server) -> None:
    done = Run("put", "--user=root:secret", "--total=20", endpoint=petcd.endpoint)
    assert (done.status, done.err, done.counted()) == (0, "", [20])


@pytest.mark.go
@needs_go_etcd
@needs_go_etcdctl
def test_a_user_whose_token_goes_stale() -> None:
    with serving("go") as server:
        for line in ("user add root:secret", "user grant-role root root", "auth enable"):
            server.etcdctl(*line.split())

        async def main() -> None:
            identity = Identity("root", "secret")
            channel = Channel([parse(server.endpoint)], Dialer(None, 2.0), identity)
            try:
                await channel.open()
                assert await member(channel)
                first = identity.metadata
                # A new password, though it is the old one, ends the tokens given before.
                line = "--user=root:secret user passwd root --interactive=false"
                await asyncio.to_thread(server.etcdctl, *line.split(), stdin="secret\n")
                await asyncio.gather(*[member(channel) for _ in range(20)])
                assert identity.metadata != first
            finally:
                await channel.close()

        asyncio.run(main())
        done = Run(
            "put", "--user=root:secret", "--total=50", "--conns=5", "--clients=9", endpoint=server.endpoint
        )
        assert (done.status, done.counted()) == (0, [50])
        done = Run("put", "--user=root:wrong", "--total=50", endpoint=server.endpoint)
        assert (done.status, done.out) == (1, "")
        assert done.err == "Error: etcdserver: authentication failed, invalid user ID or password\n"
        done = Run("put", "--total=50", endpoint=server.endpoint)
        assert done.status == 1
        assert "[50]\tetcdserver: user name is empty\n" in done.out
