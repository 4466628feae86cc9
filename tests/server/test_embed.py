"""A real member in this process: real sockets, real files, grpcio on the other side."""

from __future__ import annotations

import asyncio
import gc
import json
import socket
import urllib.request
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from tests.rpc import Rpc
from tests.servers import free_port

from petcd.embed import Etcd
from petcd.logs import Logger
from petcd.pb import etcdserverpb as pb
from petcd.seams.real import real_world
from petcd.server.config import Config
from petcd.server.url import parse_urls
from petcd.storage.errors import LockedError


def configuration(directory: Path, name: str = "m", **settings: Any) -> Config:
    clients = parse_urls(f"http://127.0.0.1:{free_port()}")
    peers = parse_urls(f"http://127.0.0.1:{free_port()}")
    values: dict[str, Any] = {
        "name": name,
        "data_dir": str(directory / name),
        "listen_client_urls": clients,
        "advertise_client_urls": clients,
        "listen_peer_urls": peers,
        "advertise_peer_urls": peers,
    }
    return Config(**{**values, **settings})


async def start(config: Config, logger: Logger | None = None) -> Etcd:
    world = real_world(asyncio.get_running_loop())
    return await Etcd.start(config, world, logger) if logger else await Etcd.start(config, world)


def endpoint(config: Config) -> str:
    return config.listen_client_urls[0].netloc


def run(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(scenario(), 30))
    gc.collect()  # exceptions that nobody took would show here


def test_grpcio_and_http(tmp_path: Path) -> None:
    config = configuration(tmp_path)

    def tour() -> None:
        with Rpc(endpoint(config)) as rpc:
            assert rpc.put(b"a", b"1") == 2
            assert rpc.value(b"a") == b"1"
            watch = rpc.watch()
            created = watch.ask(pb.WatchRequest(create_request=pb.WatchCreateRequest(key=b"a")))
            assert created.created
            rpc.put(b"a", b"2")
            assert watch.receive().events[0].kv.value == b"2"
            lease = rpc.call(pb.LeaseGrantRequest(TTL=5)).ID
            alive = rpc.keep_alive()
            assert alive.ask(pb.LeaseKeepAliveRequest(ID=lease)).TTL == 5
            watch.cancel()
            alive.cancel()
        with urllib.request.urlopen(f"http://{endpoint(config)}/health", timeout=5) as answer:
            assert json.load(answer) == {"health": "true", "reason": ""}

    async def scenario() -> None:
        etcd = await start(config)
        await asyncio.to_thread(tour)
        await etcd.stop()
        again = await start(config)
        assert again.member.store.rev == 3
        await again.stop()

    run(scenario)


def test_a_port_that_is_taken(tmp_path: Path) -> None:
    """The start fails and gives everything back: the same configuration starts when the port is free."""
    config = configuration(tmp_path)

    async def scenario() -> None:
        with socket.socket() as holder:
            holder.bind(("127.0.0.1", config.listen_client_urls[0].port))
            holder.listen()
            for _ in range(2):
                with pytest.raises(OSError, match="in use"):
                    await start(config)
        etcd = await start(config)
        with pytest.raises(LockedError):
            await start(config)
        assert await asyncio.to_thread(lambda: Rpc(endpoint(config)).put(b"a")) == 2
        await etcd.stop()

    run(scenario)


def test_two_members_in_one_process(tmp_path: Path) -> None:
    one, two = configuration(tmp_path, "one"), configuration(tmp_path, "two")

    async def scenario() -> None:
        first, second = await asyncio.gather(start(one), start(two))
        assert first.member.id != second.member.id
        assert first.member.cluster_id != second.member.cluster_id

        def tour() -> None:
            with Rpc(endpoint(one)) as a, Rpc(endpoint(two)) as b:
                for number in range(20):
                    assert a.put(b"k", b"%d" % number) == number + 2
                assert b.value(b"k") is None
                assert b.put(b"k", b"other") == 2
                b.call(pb.AlarmRequest(action=pb.AlarmAction.ACTIVATE, alarm=pb.AlarmType.NOSPACE))
                assert a.put(b"k", b"last") == 22
                assert a.call(pb.AlarmRequest()).alarms == []
                assert a.call(pb.StatusRequest()).header.member_id == first.member.id
                assert b.call(pb.StatusRequest()).header.member_id == second.member.id

        await asyncio.to_thread(tour)
        await first.stop()
        assert await asyncio.to_thread(lambda: Rpc(endpoint(two)).value(b"k")) == b"other"
        await second.stop()

    run(scenario)


def test_a_unix_socket(tmp_path: Path) -> None:
    path = tmp_path / "s"
    config = configuration(tmp_path, listen_client_urls=parse_urls(f"unix://{path}"))

    async def scenario() -> None:
        etcd = await start(config)

        def tour() -> None:
            with Rpc(f"unix:{path}") as rpc:
                assert rpc.put(b"a") == 2

        await asyncio.to_thread(tour)
        await etcd.stop()

    run(scenario)


def test_a_member_that_failed(tmp_path: Path) -> None:
    """``failed`` tells the reason; stopping it then is quick and frees the directory."""
    config = configuration(tmp_path)
    lines: list[str] = []

    async def scenario() -> None:
        etcd = await start(config, Logger(lambda _level, message, _fields: lines.append(message)))
        etcd.member.fail(OSError(5, "Input/output error"))
        with pytest.raises(OSError, match="Input/output"):
            await etcd.failed
        await asyncio.gather(etcd.stop(), etcd.stop())
        await etcd.stop()
        assert lines.count("closed etcd server") == 1
        unheard = await start(config)
        unheard.member.fail(OSError(5, "Input/output error"))
        await unheard.stop()
        again = await start(config)
        await again.stop()
        assert again.failed.cancelled()

    run(scenario)


def test_a_failure_while_it_starts(tmp_path: Path) -> None:
    config = configuration(tmp_path)

    async def scenario() -> None:
        world = real_world(asyncio.get_running_loop())

        def fail() -> None:
            raise OSError(28, "No space left on device")

        world.failpoints.arm("raftBeforeSave", fail)
        with pytest.raises(OSError, match="No space left"):
            await Etcd.start(config, world)
        etcd = await start(config)
        await etcd.stop()

    run(scenario)


def test_a_stop_with_everything_open(tmp_path: Path) -> None:
    """Watches, keep-alives and idle connections do not hold up the end."""
    config = configuration(tmp_path)

    async def scenario() -> None:
        etcd = await start(config)
        rpc = Rpc(endpoint(config))

        def fill() -> Any:
            watch, alive = rpc.watch(), rpc.keep_alive()
            watch.ask(pb.WatchRequest(create_request=pb.WatchCreateRequest(key=b"a")))
            alive.ask(pb.LeaseKeepAliveRequest(ID=1))
            return watch, alive

        watch, _alive = await asyncio.to_thread(fill)
        reader, writer = await asyncio.open_connection("127.0.0.1", config.listen_client_urls[0].port)
        began = asyncio.get_running_loop().time()
        await etcd.stop()
        assert asyncio.get_running_loop().time() - began < 3
        assert await reader.read() == b""
        writer.close()
        with pytest.raises(Exception, match="server stopped"):
            await asyncio.to_thread(watch.receive)
        rpc.close()

    run(scenario)
