"""The version of the cluster: the lowest minor release of its members, decided by the leader.

The leader asks every member for its version, when it has settled its term and every four seconds from then
on. While the cluster has none, it gets the minimum, or 3.0.0 when somebody did not answer; later it only
rises, and only when everybody answered. A downgrade that is under way takes its place, and ends once all
members run its target. Source: contract peer section 10.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Final

from petcd import ETCD_VERSION
from petcd.logs import Logger
from petcd.pb.membershippb import ClusterVersionSetRequest, DowngradeInfoSetRequest
from petcd.seams import Timer
from petcd.server.applier import CLUSTER_VERSION_SET, DOWNGRADE_INFO_SET
from petcd.server.ids import hex_id
from petcd.server.joining import MIN_CLUSTER_VERSION, Versions, parse_version, parse_versions
from petcd.server.peering import PeerAnswer

if TYPE_CHECKING:
    from petcd.server.member import Member

INTERVAL_SECONDS: Final = 4.0

_ENTRY_SINCE: Final = (3, 5)
"""The first release that knows the entry which sets the cluster's version."""

Version = tuple[int, int]
"""(major, minor)."""


class InvalidDowngrade(Exception):
    """This release is older than the cluster's version."""


class BadDowngradeTarget(Exception):
    """The downgrade that was asked for does not lead from where the cluster is."""


def check_server_version(cluster_version: str, logger: Logger, *, local_version: str = ETCD_VERSION) -> None:
    """What every start does before it serves, and every change of the cluster's version.

    Raises: InvalidDowngrade, when the member must not go on.
    """
    if cluster_version and parse_version(local_version) < parse_version(cluster_version):
        text = "invalid downgrade; server version is lower than determined cluster version"
        logger.fatal(
            text,
            **{
                "current-server-version": local_version,
                "determined-cluster-version": cluster_version.rpartition(".")[0],
            },
        )
        raise InvalidDowngrade(text)


def lowest_version(
    versions: Mapping[int, Versions | None], logger: Logger, *, local_version: str = ETCD_VERSION
) -> Version | None:
    """The lowest minor release among the members; None when one of them is not known."""
    lowest: Version | None = None
    local = parse_version(local_version)
    for member_id, answer in sorted(versions.items()):
        if answer is None:
            return None
        about = {"remote-member-id": hex_id(member_id), "remote-member-version": answer.server}
        try:
            version = parse_version(answer.server)
        except ValueError as error:
            logger.warn("failed to parse server version of remote member", **about, error=str(error))
            return None
        if version > local:
            logger.warn(
                "leader found higher-versioned member", **{"local-member-version": local_version}, **about
            )
        if lowest is None or version < lowest:
            lowest = version
    return lowest


def decide(cluster_version: str, lowest: Version | None, downgrade_target: str) -> Version | None:
    """The version the cluster should have from now on; None leaves it as it is.

    Raises: BadDowngradeTarget.
    """
    if not cluster_version:
        return lowest or MIN_CLUSTER_VERSION
    if lowest is None:
        return None
    now = parse_version(cluster_version)
    if downgrade_target:
        target = parse_version(downgrade_target)
        if target == now:
            return None
        if target != _one_below(now) or target != _one_below(lowest):
            raise BadDowngradeTarget("invalid downgrade target")
        return target
    return lowest if now < lowest and now[0] == lowest[0] else None


def _one_below(version: Version) -> Version:
    return version[0], version[1] - 1


class ClusterVersionMonitor:
    """Runs beside a member, on its thread; idle unless the member leads."""

    def __init__(self, member: Member) -> None:
        self._member = member
        self._timer: Timer | None = None
        self._was_primary = False
        self._next_check = 0.0
        self._next_downgrade_check = 0.0
        self._busy = False
        self._checked_version = ""

    def start(self) -> None:
        """Raises: InvalidDowngrade."""
        self._check_own()
        self._look()
        self._member.when_led(self._hasten)

    def _hasten(self) -> None:
        """At a start clients ask for the version at once, so it should not wait for the next look. A
        leader's reads wait until its term is settled."""
        if self._member.is_leader:
            self._member.read(_settled, self, None)

    # -- as the waiter of that read --------------------------------------------------------------------

    def reply(self, _message: bytes, /) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._look()

    def fail(self, _code: int, _text: str, /) -> None:
        return

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        """Once a heartbeat interval: is a round due? The first is as soon as the leader's term is settled."""
        member = self._member
        if member.stopped or member.stopping:
            return
        primary = member.lessor.primary
        try:
            self._check_own()
        except InvalidDowngrade as reason:
            member.fail(reason)
            return
        self._timer = member.clock.call_later(member.tick_seconds, self._look)
        now = member.clock.monotonic()
        if primary and not self._was_primary:
            self._next_check = now
            self._next_downgrade_check = now + member.config.downgrade_check_seconds
        self._was_primary = primary
        if not primary or self._busy:
            return
        if now >= self._next_check:
            self._next_check = now + INTERVAL_SECONDS
            self._ask(self._update)
        elif self._downgrade_check_due(now):
            self._next_downgrade_check = now + member.config.downgrade_check_seconds
            self._ask(self._end_downgrade)

    def _check_own(self) -> None:
        """Raises: InvalidDowngrade, when the cluster has gone where this release cannot follow."""
        version = self._member.membership.version
        if version != self._checked_version:
            check_server_version(version, self._member.logger)
            self._checked_version = version

    def _downgrade_check_due(self, now: float) -> bool:
        member = self._member
        return (
            bool(member.membership.downgrade_target)
            and member.config.downgrade_check_seconds > 0
            and now >= self._next_downgrade_check
        )

    # -- asking everybody ------------------------------------------------------------------------------

    def _ask(self, then: Callable[[dict[int, Versions | None]], object]) -> None:
        """``then(versions)`` once every member has answered or will not."""
        member = self._member
        self._busy = True
        own = Versions(ETCD_VERSION, member.membership.version or "not_decided")
        versions: dict[int, Versions | None] = {member.id: own}
        missing = {one.id for one in member.membership.members.values()} - {member.id}

        def answered(member_id: int, answer: PeerAnswer) -> None:
            versions[member_id] = self._parse(member_id, answer)
            missing.discard(member_id)
            if not missing:
                finish()

        def finish() -> None:
            self._busy = False
            if member.lessor.primary and not member.stopping and not member.stopped:
                then(versions)

        if not missing:
            finish()
            return
        for one in member.membership.in_order():
            if one.id != member.id:
                member.peers.request(
                    one.peer_urls,
                    "GET",
                    "/version",
                    partial(answered, one.id),
                    timeout_seconds=member.config.request_timeout_seconds,
                )

    def _parse(self, member_id: int, answer: PeerAnswer) -> Versions | None:
        problem = ""
        if answer.status == 200:
            try:
                return parse_versions(answer.body)
            except ValueError as error:
                problem = str(error)
        problem = problem or answer.body.decode("utf-8", "replace").strip()
        self._member.logger.warn(
            "failed to get version", **{"remote-member-id": hex_id(member_id)}, error=problem
        )
        return None

    # -- deciding --------------------------------------------------------------------------------------

    def _update(self, versions: dict[int, Versions | None]) -> None:
        member = self._member
        membership = member.membership
        lowest = lowest_version(versions, member.logger)
        if lowest is not None and lowest < _ENTRY_SINCE:
            return  # it could not read the entry, and would end itself
        try:
            decided = decide(membership.version, lowest, membership.downgrade_target)
        except BadDowngradeTarget as error:
            member.logger.error("Failed to monitor cluster version", error=str(error))
            return
        if decided is None:
            return
        text = f"{decided[0]}.{decided[1]}"
        if membership.version:
            member.logger.info(
                "updating cluster version using v3 API",
                **{"from": membership.version.rpartition(".")[0], "to": text},
            )
        else:
            member.logger.info("setting up initial cluster version using v3 API", **{"cluster-version": text})
        self._busy = True
        request = ClusterVersionSetRequest(ver=f"{text}.0")
        member.propose_as_leader(CLUSTER_VERSION_SET, request, _Waiter(self._updated, text))

    def _updated(self, text: str, problem: str) -> None:
        self._busy = False
        if problem:
            self._member.logger.warn("failed to update cluster version", error=problem)
        else:
            self._member.logger.info("cluster version is updated", **{"cluster-version": text})

    def _end_downgrade(self, versions: dict[int, Versions | None]) -> None:
        """Cancel the downgrade once everybody runs its target."""
        member = self._member
        target = member.membership.downgrade_target
        if not target:
            return
        for member_id, answer in sorted(versions.items()):
            try:
                matches = answer is not None and parse_version(answer.server) == parse_version(target)
            except ValueError:
                matches = False
            if not matches:
                if answer is not None:
                    member.logger.warn(
                        "remotes server has mismatching etcd version",
                        **{
                            "remote-member-id": hex_id(member_id),
                            "current-server-version": answer.server,
                            "target-version": target,
                        },
                    )
                return
        member.logger.info("the cluster has been downgraded", **{"cluster-version": target})
        self._busy = True
        request = DowngradeInfoSetRequest(enabled=False)
        member.propose_as_leader(DOWNGRADE_INFO_SET, request, _Waiter(self._ended_downgrade, target))

    def _ended_downgrade(self, _target: str, problem: str) -> None:
        self._busy = False
        if problem:
            self._member.logger.warn("failed to cancel downgrade", error=problem)


def _settled(monitor: ClusterVersionMonitor, _request: None) -> None:
    monitor.reply(b"")


class _Waiter:
    """Waits for a proposal of the monitor; hands on what went wrong, empty when nothing did."""

    __slots__ = ("_done", "_text")

    def __init__(self, done: Callable[[str, str], object], text: str) -> None:
        self._done = done
        self._text = text

    def reply(self, _message: bytes, /) -> None:
        self._done(self._text, "")

    def fail(self, _code: int, text: str, /) -> None:
        self._done(self._text, text)
