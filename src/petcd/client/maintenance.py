"""Maintenance and membership: what is asked of one member, or about all of them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final

from petcd.client.pool import Pool
from petcd.pb.etcdserverpb import cluster
from petcd.pb.etcdserverpb import maintenance as pb

_SERVICE: Final = b"/etcdserverpb.Maintenance/"
_CLUSTER: Final = b"/etcdserverpb.Cluster/"


class Maintenance:
    """Calls that concern a member's storage. ``endpoint`` names the member; None: the one in use."""

    def __init__(self, pool: Pool, timeout: float | None) -> None:
        self._pool = pool
        self._timeout = timeout

    async def status(self, endpoint: str | None = None) -> pb.StatusResponse:
        return await self._pool.call_at(
            endpoint,
            _SERVICE + b"Status",
            pb.StatusRequest(),
            pb.StatusResponse,
            repeatable=True,
            timeout=self._timeout,
        )

    async def alarms(self) -> list[pb.AlarmMember]:
        """The alarms that are raised."""
        return (await self._alarm(pb.AlarmRequest(action=0), repeatable=True)).alarms

    async def disarm(self, member: int, alarm: int) -> list[pb.AlarmMember]:
        """Clear one alarm of one member; what was cleared."""
        request = pb.AlarmRequest(action=2, memberID=member, alarm=alarm)
        return (await self._alarm(request, repeatable=False)).alarms

    async def _alarm(self, request: pb.AlarmRequest, *, repeatable: bool) -> pb.AlarmResponse:
        return await self._pool.call(
            _SERVICE + b"Alarm", request, pb.AlarmResponse, repeatable=repeatable, timeout=self._timeout
        )

    async def defragment(self, endpoint: str | None = None) -> None:
        """Give free pages back. The member answers nothing else meanwhile, so there is no timeout."""
        await self._pool.call_at(
            endpoint,
            _SERVICE + b"Defragment",
            pb.DefragmentRequest(),
            pb.DefragmentResponse,
            repeatable=False,
            timeout=None,
        )

    async def hash_kv(self, revision: int = 0, endpoint: str | None = None) -> pb.HashKVResponse:
        """The hash of all keys up to ``revision`` (0: the newest)."""
        return await self._pool.call_at(
            endpoint,
            _SERVICE + b"HashKV",
            pb.HashKVRequest(revision=revision),
            pb.HashKVResponse,
            repeatable=True,
            timeout=self._timeout,
        )

    async def move_leader(self, target: int, endpoint: str | None = None) -> None:
        """Ask the leader (it must be the member asked) to hand over to ``target``."""
        await self._pool.call_at(
            endpoint,
            _SERVICE + b"MoveLeader",
            pb.MoveLeaderRequest(targetID=target),
            pb.MoveLeaderResponse,
            repeatable=False,
            timeout=self._timeout,
        )

    async def snapshot(self) -> AsyncIterator[bytes]:
        """The member's backend as a file in pieces; the last 32 bytes are the SHA-256 of the rest."""
        _, stream = await self._pool.stream(_SERVICE + b"Snapshot")
        try:
            stream.send(pb.SnapshotRequest().encode())
            stream.half_close()
            async for message in stream:
                yield pb.SnapshotResponse.decode(message).blob
        finally:
            stream.cancel()


class Cluster:
    """The members."""

    def __init__(self, pool: Pool, timeout: float | None) -> None:
        self._pool = pool
        self._timeout = timeout

    async def members(self, *, linearizable: bool = True) -> list[cluster.Member]:
        response = await self._pool.call(
            _CLUSTER + b"MemberList",
            cluster.MemberListRequest(linearizable=linearizable),
            cluster.MemberListResponse,
            repeatable=True,
            timeout=self._timeout,
        )
        return response.members
