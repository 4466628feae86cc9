"""Changes of the membership at the member that was asked: the health rules in front of the log.

Adding, removing and updating may be asked of any member; a promotion only the leader can judge, because it
alone knows how far the learner's log has got, so other members pass it on. What is proposed here is checked
once more when it is applied, by all members alike (``Membership.check``).

Source: contract peer section 9.2 (the form of release 3.7), wire-v3 section 3.3.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from petcd import errors
from petcd.errors import EtcdError
from petcd.raft import ConfChange
from petcd.server import membership as changes
from petcd.server.ids import hex_id, member_id
from petcd.server.membership import ClusterMember
from petcd.server.peering import PeerAnswer
from petcd.server.url import UrlError, parse_url

if TYPE_CHECKING:
    from petcd.server.member import Member

HEALTH_SECONDS: Final = 5.0
"""A member counts as connected when it has been reachable for so long."""
READY_PERCENT: Final = 90
_APPLY_WAIT_SECONDS: Final = 1.0
_PROMOTE_PATH: Final = "/members/promote/"
_RETRY_SECONDS: Final = 0.05

_FEW_TO_ADD: Final = "rejecting member add; started member will be less than quorum"
_FEW_TO_REMOVE: Final = "rejecting member remove; started member will be less than quorum"
_FEW_TO_PROMOTE: Final = "rejecting member promote; started member will be less than quorum"

Done = Callable[[EtcdError | None], object]
"""Told the refusal, or None when the change has been applied here."""


class _Waiter:
    """A conf change on its way through the log."""

    __slots__ = ("_done",)

    def __init__(self, done: Done) -> None:
        self._done = done

    def reply(self, _message: bytes, /) -> None:
        self._done(None)

    def fail(self, code: int, text: str, /) -> None:
        self._done(errors.from_wire(code, text))


def canonical_urls(texts: list[str]) -> tuple[str, ...]:
    """Peer URLs as a member keeps them: parsed and sorted. Raises: MemberBadURLs."""
    if not texts:
        raise errors.MemberBadURLs
    try:
        return tuple(sorted(str(parse_url(text)) for text in texts))
    except UrlError:
        raise errors.MemberBadURLs from None


class Reconfiguration:
    """What one member does when it is asked to change the membership."""

    def __init__(self, member: Member) -> None:
        self._member = member

    # -- the four changes ------------------------------------------------------------------------------

    def new_member(self, peer_urls: list[str], *, is_learner: bool) -> ClusterMember:
        """A member with an id of this second. Raises: MemberBadURLs."""
        urls = canonical_urls(peer_urls)
        seconds = self._member.clock.wall_ns() // 1_000_000_000
        return ClusterMember(member_id(urls, "", seconds), urls, is_learner=is_learner)

    def add(self, member: ClusterMember, done: Done) -> None:
        try:
            self._check_add(member)
        except EtcdError as error:
            done(error)
            return
        self._propose(changes.add_change(member), done)

    def remove(self, removed_id: int, done: Done) -> None:
        try:
            self._check_remove(removed_id)
        except EtcdError as error:
            done(error)
            return
        self._propose(changes.remove_change(removed_id), done)

    def update(self, updated_id: int, peer_urls: list[str], done: Done) -> None:
        """The URLs are kept in the order in which they were given, as Go does."""
        try:
            canonical_urls(peer_urls)
        except EtcdError as error:
            done(error)
            return
        is_learner = self._member.membership.is_learner(updated_id)
        self._propose(changes.update_change(updated_id, peer_urls, is_learner=is_learner), done)

    def promote(self, promoted_id: int, token: str, done: Done) -> None:
        """Promote a learner, here or at the leader. ``token`` is the caller's, handed on to the leader."""
        if self._member.is_leader:
            self.promote_here(promoted_id, done)
        else:
            _Forwarding(self._member, promoted_id, token, done).start()

    def promote_here(self, promoted_id: int, done: Done) -> None:
        """The leader's part; elsewhere the answer is NotLeader."""

        def finish(error: EtcdError | None) -> None:
            membership = self._member.membership
            if error is None:
                membership.promotions += 1
            else:
                failed = membership.failed_promotions
                failed[error.text] = failed.get(error.text, 0) + 1
            done(error)

        def applied() -> None:
            try:
                self._check_promote(promoted_id)
            except EtcdError as error:
                finish(error)
                return
            self._propose(changes.promote_change(promoted_id), finish)

        wait_applied(self._member, applied, lambda: finish(errors.TimeoutWaitAppliedIndex()))

    # -- the rules -------------------------------------------------------------------------------------

    def _check_add(self, new: ClusterMember) -> None:
        """Raises: MemberNotEnoughStarted, Unhealthy."""
        member = self._member
        if not member.config.strict_reconfig_check:
            return
        voters = member.membership.voters()
        started = sum(bool(voter.name) for voter in voters)
        quorum = (len(voters) + 1) // 2 + 1
        about = {
            "local-member-id": hex_id(member.id),
            "requested-member-add": _describe(new),
        }
        if not new.is_learner and not (started == 1 and len(voters) == 1) and started < quorum:
            self._warn_not_started(_FEW_TO_ADD, started, quorum)
            member.logger.warn(
                "rejecting member add request; not enough healthy members",
                **about,
                error=errors.MemberNotEnoughStarted.text,
            )
            raise errors.MemberNotEnoughStarted
        if len(voters) > 1 and self.connected_count(voters) < quorum:
            member.logger.warn(
                "rejecting member add request; local member has not been connected to majority peers, "
                "reconfigure breaks active quorum",
                **about,
                error=errors.Unhealthy.text,
            )
            raise errors.Unhealthy

    def _check_remove(self, removed_id: int) -> None:
        """Raises: MemberNotEnoughStarted, Unhealthy."""
        member = self._member
        if not member.config.strict_reconfig_check or member.membership.is_learner(removed_id):
            return
        voters = member.membership.voters()
        rest = [voter for voter in voters if voter.id != removed_id]
        started = sum(bool(voter.name) for voter in rest)
        quorum = len(rest) // 2 + 1
        if started < quorum:
            self._warn_not_started(_FEW_TO_REMOVE, started, quorum)
            member.logger.warn(
                "rejecting member remove request; not enough healthy members",
                **{
                    "local-member-id": hex_id(member.id),
                    "requested-member-remove-id": hex_id(removed_id),
                },
                error=errors.MemberNotEnoughStarted.text,
            )
            raise errors.MemberNotEnoughStarted
        if removed_id != member.id and member.peers.active_since(removed_id) is None:
            return  # it is down, so no quorum that works counts on it
        active = self.connected_count(voters)
        if active - 1 < 1 + (len(voters) - 1) // 2:
            member.logger.warn(
                "rejecting member remove request; local member has not been connected to all peers, "
                "reconfigure breaks active quorum",
                **{
                    "local-member-id": hex_id(member.id),
                    "requested-member-remove": hex_id(removed_id),
                    "active-peers": active,
                },
                error=errors.Unhealthy.text,
            )
            raise errors.Unhealthy

    def _check_promote(self, promoted_id: int) -> None:
        """Raises: NotLeader, MemberNotFound, LearnerNotReady, MemberNotEnoughStarted."""
        member = self._member
        progress = member.node.status().progress
        if not progress:
            raise errors.NotLeader
        if promoted_id not in progress:
            raise errors.MemberNotFound
        match, leaders_match = progress[promoted_id].match, progress[member.id].match
        if match * 100 < leaders_match * READY_PERCENT:
            member.logger.error(
                "rejecting promote learner: learner is not ready",
                **{
                    "learner-ready-percent": match / leaders_match,
                    "ready-percent-threshold": READY_PERCENT / 100,
                },
            )
            raise errors.LearnerNotReady
        if not member.config.strict_reconfig_check:
            return
        voters = member.membership.voters()
        started = sum(bool(voter.name) for voter in voters) + 1
        quorum = (len(voters) + 1) // 2 + 1
        if started < quorum:
            self._warn_not_started(_FEW_TO_PROMOTE, started, quorum)
            member.logger.warn(
                "rejecting member promote request; not enough healthy members",
                **{
                    "local-member-id": hex_id(member.id),
                    "requested-member-remove-id": hex_id(promoted_id),
                },
                error=errors.MemberNotEnoughStarted.text,
            )
            raise errors.MemberNotEnoughStarted

    def connected_count(self, voters: list[ClusterMember]) -> int:
        """How many of these have been connected long enough, this member among them."""
        member = self._member
        since = member.clock.monotonic() - HEALTH_SECONDS
        count = 0
        for voter in voters:
            active = None if voter.id == member.id else member.peers.active_since(voter.id)
            count += voter.id == member.id or (active is not None and active < since)
        return count

    def _warn_not_started(self, message: str, started: int, quorum: int) -> None:
        member = self._member
        member.logger.warn(
            message,
            **{
                "number-of-started-member": started,
                "quorum": quorum,
                "cluster-id": hex_id(member.cluster_id),
                "local-member-id": hex_id(member.id),
            },
        )

    # -- into the log ----------------------------------------------------------------------------------

    def _propose(self, change: ConfChange, done: Done) -> None:
        member = self._member

        def applied(error: EtcdError | None) -> None:
            if error is None:
                member.logger.info(
                    "applied a configuration change through raft",
                    **{
                        "local-member-id": hex_id(member.id),
                        "raft-conf-change": _KINDS[change.type],
                        "raft-conf-change-node-id": hex_id(change.node_id),
                    },
                )
            done(error)

        member.propose_conf_change(change, _Waiter(applied))


def wait_applied(member: Member, then: Callable[[], object], late: Callable[[], object]) -> None:
    """``then`` once what is committed now has been applied; ``late`` when that takes more than a second."""
    index = member.node.commit_index
    until = member.clock.monotonic() + _APPLY_WAIT_SECONDS

    def look() -> None:
        if member.applied >= index:
            then()
        elif member.clock.monotonic() >= until or member.stopped:
            late()
        else:
            member.clock.call_later(_RETRY_SECONDS / 5, look)

    look()


_KINDS: Final = {
    0: "ConfChangeAddNode",
    1: "ConfChangeRemoveNode",
    2: "ConfChangeUpdateNode",
    3: "ConfChangeAddLearnerNode",
}


class _Forwarding:
    """A promotion asked of the leader over HTTP, again and again until it answers with a verdict."""

    __slots__ = ("_done", "_headers", "_id", "_member", "_until")

    def __init__(
        self,
        member: Member,
        promoted_id: int,
        token: str,
        done: Done,
    ) -> None:
        self._member = member
        self._id = promoted_id
        self._headers = [("Authorization", token)] if token else []
        self._done = done
        self._until = member.clock.monotonic() + member.config.request_timeout_seconds

    def start(self) -> None:
        member = self._member
        left = self._until - member.clock.monotonic()
        if member.stopped or member.stopping:
            self._done(errors.Stopped())
            return
        leader = member.membership.members.get(member.lead) if member.lead else None
        if left <= 0:
            self._done(errors.RequestTimeout() if leader is not None else errors.NoLeader())
            return
        if leader is None or leader.id == member.id:
            member.clock.call_later(_RETRY_SECONDS, self.start)
            return
        member.peers.request(
            leader.peer_urls,
            "POST",
            f"{_PROMOTE_PATH}{self._id}",
            self._answered,
            headers=self._headers,
            timeout_seconds=left,
        )

    def _answered(self, answer: PeerAnswer) -> None:
        if answer.status == 200:
            self._done(None)
            return
        error = _verdict(answer)
        if error is not None:
            self._done(error)
        else:
            self._member.clock.call_later(_RETRY_SECONDS, self.start)


def _verdict(answer: PeerAnswer) -> EtcdError | None:
    """What the leader refused for good; None when it is worth asking again."""
    text = answer.body.decode("utf-8", "replace")
    if answer.status == 404:
        return errors.MemberNotFound()
    if answer.status == 412 and errors.LearnerNotReady.text in text:
        return errors.LearnerNotReady()
    if answer.status == 412 and "membership: can only promote a learner member" in text:
        return errors.MemberNotLearner()
    return None


def _describe(member: ClusterMember) -> str:
    """As Go prints the struct."""
    return (
        f"{{ID:{hex_id(member.id)} RaftAttributes:{{PeerURLs:[{' '.join(member.peer_urls)}] "
        f"IsLearner:{str(member.is_learner).lower()}}} "
        f"Attributes:{{Name:{member.name} ClientURLs:[{' '.join(member.client_urls)}]}}}}"
    )
