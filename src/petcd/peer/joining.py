"""What a new member asks of the others before it has a log of its own: may it found, what does it join.

Source: contract page "peer", 7.3 and 9.1.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Final

from petcd.logs import Logger
from petcd.net.http1_client import HttpClientConnection, ResponseHandler, dial
from petcd.seams import World
from petcd.server.bootstrap import Joined, founding_members
from petcd.server.config import Config, ConfigError
from petcd.server.ids import hex_id
from petcd.server.joining import (
    MEMBERS_TIMEOUT_SECONDS,
    RunningCluster,
    Versions,
    foreign_release,
    is_compatible,
    match_members,
    own_member,
    parse_members,
    parse_versions,
)
from petcd.server.membership import ClusterMember
from petcd.server.peering import PeerAnswer
from petcd.server.url import Url, parse_urls

_FOUNDED_TIMEOUT_SECONDS: Final = 1.0


class _Asked(ResponseHandler):
    """Collects one answer."""

    def __init__(self) -> None:
        self.answer: asyncio.Future[PeerAnswer] = asyncio.get_running_loop().create_future()
        self._status = 0
        self._headers: dict[str, str] = {}
        self._chunks: list[bytes] = []

    def on_head(self, status: int, headers: dict[str, str]) -> None:
        self._status, self._headers = status, headers

    def on_body(self, data: bytes) -> None:
        self._chunks.append(data)

    def on_end(self) -> None:
        self._set(PeerAnswer(self._status, self._headers, b"".join(self._chunks)))

    def on_failure(self, reason: str) -> None:
        self._set(PeerAnswer(0, {}, reason.encode()))

    def _set(self, answer: PeerAnswer) -> None:
        if not self.answer.done():
            self.answer.set_result(answer)


async def ask(world: World, url: Url, target: str, seconds_max: float) -> PeerAnswer:
    """One GET. Status 0: nobody answered, and the body says why."""
    asked = _Asked()
    connections: list[HttpClientConnection] = []

    def opened(connection: HttpClientConnection) -> None:
        connections.append(connection)
        connection.request("GET", target, [], asked, seconds_max=seconds_max)

    dial(world, url.address(), opened, asked.on_failure, seconds_max=seconds_max)
    answer = await asked.answer
    for connection in connections:
        connection.close()
    return answer


async def refuse_founded(world: World, config: Config, logger: Logger) -> None:
    """Before a new cluster: whether this member has taken part in it already, and lost its data.

    Raises: ConfigError.
    """
    members = founding_members(config)
    mine = next((one for one in members if one.name == config.name), None)
    if mine is None or len(members) == 1:
        return
    running = await _running(world, members, mine.name, logger, _FOUNDED_TIMEOUT_SECONDS)
    if running is None:
        return
    for one in running.members:
        if one.id == mine.id and one.client_urls:
            raise ConfigError(f"member {hex_id(mine.id)} has already been bootstrapped")


async def join(world: World, config: Config, logger: Logger) -> tuple[Joined, list[ClusterMember]]:
    """The ids of this member and its cluster, and the others, from those that run.

    Raises: JoinError, ConfigError.
    """
    initial = {name: sorted(map(str, urls)) for name, urls in config.initial_cluster.items()}
    others = [
        ClusterMember(0, tuple(map(str, urls)), name)
        for name, urls in config.initial_cluster.items()
        if name != config.name
    ]
    running = await _running(world, others, config.name, logger, MEMBERS_TIMEOUT_SECONDS)
    if running is None:
        raise ConfigError(
            "cannot fetch cluster info from peer urls: could not retrieve cluster information from the "
            "given URLs"
        )
    members = match_members(initial, running)
    mine = own_member(config.name, members)
    versions: dict[int, Versions | None] = {}
    for one in members:
        if one.id != mine.id:
            versions[one.id] = await _versions(world, one, config.request_timeout_seconds)
    if not is_compatible(versions, logger):
        raise ConfigError("incompatible with current running cluster")
    _refuse_foreign(versions)
    return Joined(mine.id, running.cluster_id), [one for one in members if one.id != mine.id]


async def refuse_foreign(world: World, others: Sequence[ClusterMember]) -> None:
    """Before this member says anything through the log: whether somebody runs a release that cannot read it.

    Raises: ConfigError. Members that do not answer are taken for what they should be.
    """
    asked = [
        (one.id, asyncio.ensure_future(_versions(world, one, _FOUNDED_TIMEOUT_SECONDS))) for one in others
    ]
    _refuse_foreign({member_id: await versions for member_id, versions in asked})


def _refuse_foreign(versions: Mapping[int, Versions | None]) -> None:
    foreign = foreign_release(versions)
    if foreign is not None:
        raise ConfigError(
            f"incompatible with current running cluster: a member runs etcd {foreign}, "
            "and clusters of mixed releases are not supported by this release of petcd"
        )


async def _running(
    world: World, members: Sequence[ClusterMember], own_name: str, logger: Logger, seconds_max: float
) -> RunningCluster | None:
    """The first good answer to ``/members``; everybody is asked at once."""
    urls = [text for one in members if one.name != own_name for text in one.peer_urls]
    asked = [asyncio.ensure_future(ask(world, parse_urls(text)[0], "/members", seconds_max)) for text in urls]
    found: RunningCluster | None = None
    for text, answer in zip(urls, asked, strict=True):
        status, headers, body = await answer
        if found is not None:
            continue
        problem = body.decode("utf-8", "replace").strip()
        if status == 200:
            try:
                found = parse_members(headers, body)
                continue
            except ValueError as error:
                problem = str(error)
        logger.warn("failed to get cluster response", address=f"{text}/members", error=problem)
    return found


async def _versions(world: World, member: ClusterMember, seconds_max: float) -> Versions | None:
    for text in member.peer_urls:
        answer = await ask(world, parse_urls(text)[0], "/version", seconds_max)
        if answer.status == 200:
            try:
                return parse_versions(answer.body)
            except ValueError:
                continue
    return None
