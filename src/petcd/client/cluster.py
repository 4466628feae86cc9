"""The members of the cluster: who they are, and changes of who they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar

from petcd.client.pool import Pool
from petcd.pb.etcdserverpb import cluster as pb

if TYPE_CHECKING:
    from petcd.pb.message import Message

_Changed = TypeVar("_Changed", pb.MemberPromoteResponse, pb.MemberUpdateResponse, pb.MemberRemoveResponse)

_SERVICE: Final = b"/etcdserverpb.Cluster/"


@dataclass(frozen=True, slots=True)
class Member:
    """One member."""

    id: int
    name: str
    """Empty until it has started."""
    peer_urls: tuple[str, ...]
    client_urls: tuple[str, ...]
    """Empty until it has started."""
    learner: bool
    """It follows without a vote."""

    @property
    def started(self) -> bool:
        """It has joined under a name."""
        return bool(self.name)

    @property
    def ID(self) -> int:  # noqa: N802  the wire's spelling
        return self.id


def _member(member: pb.Member) -> Member:
    return Member(member.ID, member.name, tuple(member.peerURLs), tuple(member.clientURLs), member.isLearner)


class Cluster:
    """The calls of the Cluster service. A change is refused while it would cost the quorum."""

    def __init__(self, pool: Pool, timeout: float | None) -> None:
        self._pool = pool
        self._timeout = timeout

    async def members(self, *, linearizable: bool = True) -> list[Member]:
        """All members; without ``linearizable`` as the member asked knows them, even without a quorum."""
        response = await self._pool.call(
            _SERVICE + b"MemberList",
            pb.MemberListRequest(linearizable=linearizable),
            pb.MemberListResponse,
            repeatable=True,
            timeout=self._timeout,
        )
        return [_member(member) for member in response.members]

    async def add(self, peer_urls: str | Sequence[str], *, learner: bool = False) -> Member:
        """Announce a member, which is to be started afterwards. A learner has no vote until promoted."""
        request = pb.MemberAddRequest(peerURLs=_urls(peer_urls), isLearner=learner)
        response = await self._pool.call(
            _SERVICE + b"MemberAdd", request, pb.MemberAddResponse, repeatable=False, timeout=self._timeout
        )
        assert response.member is not None
        return _member(response.member)

    async def promote(self, member: int) -> list[Member]:
        """Give a learner its vote; the members afterwards. Raises LearnerNotReady while it lags."""
        return await self._change(
            b"MemberPromote", pb.MemberPromoteRequest(ID=member), pb.MemberPromoteResponse
        )

    async def update(self, member: int, peer_urls: str | Sequence[str]) -> list[Member]:
        """Tell where a member is reached by the others; the members afterwards."""
        request = pb.MemberUpdateRequest(ID=member, peerURLs=_urls(peer_urls))
        return await self._change(b"MemberUpdate", request, pb.MemberUpdateResponse)

    async def remove(self, member: int) -> list[Member]:
        """Take a member out, for ever; the members afterwards."""
        return await self._change(b"MemberRemove", pb.MemberRemoveRequest(ID=member), pb.MemberRemoveResponse)

    async def _change(self, method: bytes, request: Message, response: type[_Changed]) -> list[Member]:
        answer = await self._pool.call(
            _SERVICE + method, request, response, repeatable=False, timeout=self._timeout
        )
        return [_member(each) for each in answer.members]


def _urls(urls: str | Sequence[str]) -> list[str]:
    return [urls] if isinstance(urls, str) else list(urls)
