"""Maintenance: what is asked of one member, or about all of them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from petcd.client.pool import REFUSALS_MAX, Pool
from petcd.client.snapshots import SavedSnapshot, SnapshotProgress, save
from petcd.errors import EtcdError
from petcd.pb.etcdserverpb import maintenance as pb

_SERVICE: Final = b"/etcdserverpb.Maintenance/"

AlarmType = pb.AlarmType


@dataclass(frozen=True, slots=True)
class Status:
    """How a member is."""

    cluster_id: int
    member_id: int
    version: str
    """Of the server, as ``3.4.23``."""
    leader: int
    """The leader's member id as this member knows it; 0 for none."""
    learner: bool
    revision: int
    raft_term: int
    raft_index: int
    """Committed."""
    raft_applied_index: int
    db_size: int
    """Bytes of the backend's file."""
    db_size_in_use: int
    """Bytes of it that are not free pages."""
    db_size_quota: int
    """Bytes; 0 where the server does not say (before 3.6)."""
    storage_version: str
    """Of the backend's schema; empty before 3.6."""
    errors: tuple[str, ...]
    """What the member complains of: alarms, no leader."""
    downgrade_target: str
    """The version a downgrade that is under way goes to; empty when there is none."""

    @property
    def leading(self) -> bool:
        """It is the leader."""
        return self.leader == self.member_id


@dataclass(frozen=True, slots=True)
class HashKV:
    """The hash of a member's keys and values at one revision, for comparison between members."""

    hash: int
    revision: int
    """The store's revision; the hash is of what was asked for."""
    compact_revision: int
    """Hashes are comparable only where this is equal."""


@dataclass(frozen=True, slots=True)
class Alarm:
    """An alarm that a member has raised."""

    member: int
    kind: AlarmType


class Maintenance:
    """Calls that concern a member's storage. ``endpoint`` names the member; None: the one in use."""

    def __init__(self, pool: Pool, timeout: float | None) -> None:
        self._pool = pool
        self._timeout = timeout

    async def status(self, endpoint: str | None = None) -> Status:
        answer = await self._pool.call_at(
            endpoint,
            _SERVICE + b"Status",
            pb.StatusRequest(),
            pb.StatusResponse,
            repeatable=True,
            timeout=self._timeout,
        )
        header = answer.header
        downgrade = answer.downgradeInfo
        return Status(
            cluster_id=header.cluster_id if header is not None else 0,
            member_id=header.member_id if header is not None else 0,
            version=answer.version,
            leader=answer.leader,
            learner=answer.isLearner,
            revision=header.revision if header is not None else 0,
            raft_term=answer.raftTerm,
            raft_index=answer.raftIndex,
            raft_applied_index=answer.raftAppliedIndex,
            db_size=answer.dbSize,
            db_size_in_use=answer.dbSizeInUse,
            db_size_quota=answer.dbSizeQuota,
            storage_version=answer.storageVersion,
            errors=tuple(answer.errors),
            downgrade_target=downgrade.targetVersion if downgrade is not None and downgrade.enabled else "",
        )

    # --- alarms ---------------------------------------------------------------------------------------

    async def alarms(self) -> list[Alarm]:
        """The alarms that are raised."""
        return await self._alarm(pb.AlarmRequest(action=pb.AlarmAction.GET), repeatable=True)

    async def disarm(self, member: int = 0, alarm: AlarmType | int = AlarmType.NONE) -> list[Alarm]:
        """Clear an alarm of a member; what was cleared. Without arguments: clear every alarm."""
        if not member:
            found = [each for each in await self.alarms() if alarm in (AlarmType.NONE, each.kind)]
            return [one for each in found for one in await self.disarm(each.member, each.kind)]
        request = pb.AlarmRequest(action=pb.AlarmAction.DEACTIVATE, memberID=member, alarm=alarm)
        return await self._alarm(request, repeatable=False)

    async def arm(self, member: int, alarm: AlarmType | int) -> list[Alarm]:
        """Raise an alarm. NOSPACE then refuses writes, CORRUPT everything, until it is cleared."""
        request = pb.AlarmRequest(action=pb.AlarmAction.ACTIVATE, memberID=member, alarm=alarm)
        return await self._alarm(request, repeatable=False)

    async def _alarm(self, request: pb.AlarmRequest, *, repeatable: bool) -> list[Alarm]:
        answer = await self._pool.call(
            _SERVICE + b"Alarm", request, pb.AlarmResponse, repeatable=repeatable, timeout=self._timeout
        )
        return [Alarm(alarm.memberID, AlarmType(alarm.alarm)) for alarm in answer.alarms]

    # --- the backend ----------------------------------------------------------------------------------

    async def defragment(self, endpoint: str | None = None) -> None:
        """Give free pages back. A Go member answers nothing else meanwhile, so there is no timeout."""
        await self._pool.call_at(
            endpoint,
            _SERVICE + b"Defragment",
            pb.DefragmentRequest(),
            pb.DefragmentResponse,
            repeatable=False,
            timeout=None,
        )

    async def hash(self, endpoint: str | None = None) -> int:
        """The hash of the member's whole backend; it differs between members that are equal in keys."""
        answer = await self._pool.call_at(
            endpoint,
            _SERVICE + b"Hash",
            pb.HashRequest(),
            pb.HashResponse,
            repeatable=True,
            timeout=self._timeout,
        )
        return answer.hash

    async def hash_kv(self, revision: int = 0, endpoint: str | None = None) -> HashKV:
        """The hash of all keys up to ``revision`` (0: the newest)."""
        answer = await self._pool.call_at(
            endpoint,
            _SERVICE + b"HashKV",
            pb.HashKVRequest(revision=revision),
            pb.HashKVResponse,
            repeatable=True,
            timeout=self._timeout,
        )
        present = answer.header.revision if answer.header is not None else 0
        return HashKV(answer.hash, present, answer.compact_revision)

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

    # --- snapshots ------------------------------------------------------------------------------------

    async def snapshot(self, endpoint: str | None = None) -> AsyncGenerator[bytes, None]:
        """The member's backend as a file in pieces; the last 32 bytes are the SHA-256 of the rest."""
        async for piece in self._snapshot(endpoint):
            yield piece.blob

    async def save_snapshot(
        self,
        path: str | Path,
        *,
        progress: Callable[[SnapshotProgress], object] | None = None,
        endpoint: str | None = None,
    ) -> SavedSnapshot:
        """Stream the member's backend into a file that ``etcdutl snapshot restore`` takes.

        It is written beside its name with ``.part`` added, checked against its SHA-256, synced, and only then
        named; on failure nothing is left. ``progress`` is called after each piece. Raises SnapshotDamaged.
        """
        return await save(self._snapshot(endpoint), Path(path), progress)

    async def _snapshot(self, endpoint: str | None) -> AsyncGenerator[pb.SnapshotResponse, None]:
        for refusals in range(REFUSALS_MAX + 1):
            opened = await self._pool.open(_SERVICE + b"Snapshot", endpoint=endpoint, timeout=self._timeout)
            try:
                opened.stream.send(pb.SnapshotRequest().encode())
                opened.stream.half_close()
                async for message in opened.stream:
                    yield pb.SnapshotResponse.decode(message)
                return
            except EtcdError as error:
                # Who we are is judged before the first piece.
                if not self._pool.refused(error) or refusals == REFUSALS_MAX:
                    raise
                self._pool.log_in_again(opened)
            finally:
                opened.stream.cancel()
                if endpoint is not None:
                    opened.connection.close()

    # --- downgrade ------------------------------------------------------------------------------------

    async def downgrade_validate(self, version: str) -> str:
        """Whether the cluster could go back to ``version`` (as ``3.6``); the version it has now.

        Etcd has downgrades since 3.5; an older server answers with code UNIMPLEMENTED.
        """
        return await self._downgrade(pb.DowngradeAction.VALIDATE, version, repeatable=True)

    async def downgrade_enable(self, version: str) -> str:
        """Make the cluster behave as ``version``, so that its members can be replaced by older ones."""
        return await self._downgrade(pb.DowngradeAction.ENABLE, version, repeatable=False)

    async def downgrade_cancel(self) -> str:
        """Stop a downgrade that is under way."""
        return await self._downgrade(pb.DowngradeAction.CANCEL, "", repeatable=False)

    async def _downgrade(self, action: pb.DowngradeAction, version: str, *, repeatable: bool) -> str:
        answer = await self._pool.call(
            _SERVICE + b"Downgrade",
            pb.DowngradeRequest(action=action, version=version),
            pb.DowngradeResponse,
            repeatable=repeatable,
            timeout=self._timeout,
        )
        return answer.version
