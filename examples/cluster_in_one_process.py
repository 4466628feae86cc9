"""Three members of one cluster inside this program: one is lost, the others go on, it comes back.

    python examples/cluster_in_one_process.py

They listen on free ports of the loopback interface and keep their data in a temporary directory: a way
to test how a program of yours bears the loss of a member.
"""

from __future__ import annotations

import asyncio
import socket
import tempfile

from petcd.client import Client
from petcd.embed import Etcd
from petcd.seams.real import real_world
from petcd.server.config import Config
from petcd.server.url import Url, parse_urls


def free_urls(count: int) -> list[tuple[Url, ...]]:
    """Members must know each other's addresses before they start, so port 0 will not do."""
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    urls = [parse_urls(f"http://127.0.0.1:{probe.getsockname()[1]}") for probe in probes]
    for probe in probes:
        probe.close()
    return urls


class Cluster:
    """Members by name, and where they listen."""

    def __init__(self, directory: str, *names: str) -> None:
        self.directory = directory
        urls = free_urls(2 * len(names))
        self.peers = dict(zip(names, urls, strict=False))
        self.clients = dict(zip(names, urls[len(names) :], strict=True))
        self.members: dict[str, Etcd] = {}

    async def start(self, name: str) -> None:
        config = Config(
            name=name,
            data_dir=f"{self.directory}/{name}",
            listen_peer_urls=self.peers[name],
            advertise_peer_urls=self.peers[name],
            listen_client_urls=self.clients[name],
            advertise_client_urls=self.clients[name],
            initial_cluster=self.peers,
        )
        self.members[name] = await Etcd.start(config, real_world(asyncio.get_running_loop()))

    async def start_all(self) -> None:
        """All at once: the first of them waits for a majority."""
        await asyncio.gather(*(self.start(name) for name in self.peers))

    async def stop(self, name: str) -> None:
        await self.members.pop(name).stop()

    async def stop_all(self) -> None:
        await asyncio.gather(*(self.stop(name) for name in list(self.members)))

    def leader(self) -> str:
        return next(name for name, etcd in self.members.items() if etcd.member.is_leader)

    def client(self, *names: str) -> Client:
        return Client([self.clients[name][0].netloc for name in names])


async def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        cluster = Cluster(directory, "m1", "m2", "m3")
        await cluster.start_all()
        try:
            async with cluster.client("m1") as one, cluster.client("m3") as another:
                await one.put("colour", "green")
                print("written through m1, read through m3:", (await another.get("colour")).value)

            lost = cluster.leader()
            rest = sorted(cluster.members.keys() - {lost})
            await cluster.stop(lost)
            print("the leader is gone, somebody else leads:", cluster.leader() in rest)

            async with cluster.client(*rest) as client:
                await client.put("colour", "blue")
                print("written without it:", (await client.get("colour")).value)

            await cluster.start(lost)
            async with cluster.client(lost) as client:
                print("back again, it knows:", (await client.get("colour")).value)
        finally:
            await cluster.stop_all()


if __name__ == "__main__":
    asyncio.run(main())
