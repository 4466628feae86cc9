"""Who leads: what a member knows of it, hands on when asked, and tells those whose requests came too late.

Source: contract peer sections 6.2, 6.6, 8.2, 9.4.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from petcd import errors
from petcd.errors import EtcdError
from petcd.raft import LEADER, Role, SoftState
from petcd.server.describe import go_duration
from petcd.server.ids import hex_id

if TYPE_CHECKING:
    from petcd.server.member import Member


_FIRST_ELECTION_TICKS: Final = 50
"""So long after a start a quorum without a leader makes an election due."""
_FIRST_TERM: Final = 1
"""The term in which the first members of a cluster are written into their logs."""
_CANDIDACY_TICKS: Final = 2
"""What an election takes at most where members answer quickly."""
_CONNECTING_TICKS: Final = 2
"""Before that a leader may be there that has not been heard yet."""


class LeaderView:
    """The leader as this member sees it."""

    def __init__(self, member: Member) -> None:
        self._member = member
        self.role = Role.FOLLOWER
        self.changes = 0
        self._elected_tick = 0
        """When the present leader became known, or the last one where there is none."""
        self.late_heartbeats = 0
        """How often this member led and let the others wait for more than two intervals."""
        self._ticked_at = 0.0
        self._may_hasten = member.config.initial_election_tick_advance
        self._candidacy_tick = 0
        """When it is this member's turn to stand for the first election; 0: no quorum was reachable yet."""
        self._when_led: list[Callable[[], object]] = []
        self._transfers: list[tuple[int, int, Callable[[EtcdError | None], object]]] = []
        """(to, tick of giving up, who waits)."""

    def on_soft_state(self, state: SoftState) -> None:
        """Follow a change of role or leader."""
        member = self._member
        term = member.node.term
        if state.role is LEADER and self.role is not LEADER:
            member.logger.info(f"{member.id:x} became leader at term {term}")  # noqa: G004 - etcd puts the ids into the line
        former = member.lead
        if state.lead != former:
            if state.lead:
                self.changes += 1
                self._elected_tick = member.tick_count
                text = f"elected leader {state.lead:x}"
            else:
                text = f"lost leader {former:x}"
            member.logger.info(f"raft.node: {member.id:x} {text} at term {term}")  # noqa: G004 - as above
        member.lead, self.role = state.lead, state.role
        if state.role is not LEADER and member.lessor.primary:
            member.lessor.demote()
        if state.lead and state.lead != former:
            member.reads.on_leader()
            callbacks, self._when_led = self._when_led, []
            for callback in callbacks:
                member.clock.call_soon(callback)
            self._end_transfers()

    def when_led(self, then: Callable[[], object]) -> None:
        """Call ``then`` as soon as a leader is known."""
        if self._member.lead:
            then()
        else:
            self._when_led.append(then)

    # -- handing over ----------------------------------------------------------------------------------

    def transfer(self, to: int, done: Callable[[EtcdError | None], object]) -> None:
        """Hand the leadership to ``to``; ``done`` when it leads, or with the reason why it does not."""
        self._transfer(to, self._member.config.request_timeout_ticks, done)

    def _transfer(self, to: int, ticks_max: int, done: Callable[[EtcdError | None], object]) -> None:
        member = self._member
        if member.lead == to:
            done(None)
            return
        member.logger.info(
            "leadership transfer starting",
            **{
                "local-member-id": hex_id(member.id),
                "current-leader-member-id": hex_id(member.lead),
                "transferee-member-id": hex_id(to),
            },
        )
        self._transfers.append((to, member.tick_count + ticks_max, done))
        member.node.transfer_leader(to)
        member.ask_turn()

    def hand_over(self, done: Callable[[EtcdError | None], object]) -> None:
        """Before a stop: give the leadership to the voter that has been reachable for longest."""
        member = self._member
        ids = {"local-member-id": hex_id(member.id)}
        if not member.is_leader:
            member.logger.info(
                "skipped leadership transfer; local server is not leader",
                **ids,
                **{"current-leader-member-id": hex_id(member.lead)},
            )
            done(None)
            return
        others = [one.id for one in member.membership.voters() if one.id != member.id]
        if not others:
            member.logger.info("skipped leadership transfer for single voting member cluster", **ids)
            done(None)
            return
        reachable = [(since, one) for one in others if (since := member.peers.active_since(one)) is not None]
        if not reachable:
            done(errors.Unhealthy())
            return
        to = min(reachable)[1]

        def ended(problem: EtcdError | None) -> None:
            if problem is None or not member.is_leader or member.peers.active_since(to) is not None:
                done(problem)
            else:
                self.hand_over(done)  # it went away, perhaps stopping as well; somebody else may be there

        # Raft forgets a transfer after an election timeout, so there is no use in waiting longer.
        self._transfer(to, member.config.election_ticks, ended)

    def _end_transfers(self) -> None:
        member = self._member
        waiting, self._transfers = self._transfers, []
        for transfer in waiting:
            if transfer[0] == member.lead:
                member.logger.info(
                    "leadership transfer finished",
                    **{"local-member-id": hex_id(member.id), "new-leader-member-id": hex_id(member.lead)},
                )
                transfer[2](None)
            else:
                self._transfers.append(transfer)

    def on_tick(self, tick: int) -> None:
        """Give up transfers that take too long; see whether the tick itself was late."""
        now = self._member.clock.monotonic()
        exceeded = now - self._ticked_at - 2 * self._member.tick_seconds
        if exceeded > 0 and self._ticked_at and self.role is LEADER:
            self._say_late(exceeded)
        self._ticked_at = now
        if self._may_hasten:
            self._hasten_first_election(tick)
        if self._transfers:
            active_since = self._member.peers.active_since
            waiting, self._transfers = self._transfers, []
            for transfer in waiting:
                if tick > transfer[1] or active_since(transfer[0]) is None:
                    transfer[2](errors.TimeoutLeaderTransfer())
                else:
                    self._transfers.append(transfer)

    def _say_late(self, exceeded: float) -> None:
        member = self._member
        if len(member.membership.members) == 1:
            return
        self.late_heartbeats += 1
        member.logger.warn(
            "leader failed to send out heartbeat on time; took too long, leader is overloaded likely from "
            "slow disk",
            **{
                "heartbeat-interval": go_duration(member.tick_seconds),
                "expected-duration": go_duration(2 * member.tick_seconds),
                "exceeded-duration": go_duration(exceeded),
            },
        )

    # -- elections that need not wait --------------------------------------------------------------------

    def on_refused(self, member_id: int) -> None:
        """Nobody listens where a member did: an election is due if that was the leader."""
        member = self._member
        if member_id == member.lead and member.config.initial_election_tick_advance:
            member.node.hasten()

    def _hasten_first_election(self, tick: int) -> None:
        """After a start: with a quorum reachable and no leader among it, there is nobody to wait for."""
        member = self._member
        if member.lead or tick > _FIRST_ELECTION_TICKS:
            self._may_hasten = False
            return
        others = [one.id for one in member.membership.voters() if one.id != member.id]
        reachable = [one for one in others if member.peers.active_since(one) is not None]
        if not others or len(reachable) < (len(others) + 1) // 2:
            return
        if not self._candidacy_tick:
            # One after the other, by id: two at once would delay each other, and the first may lack entries.
            rank = sum(one < member.id for one in reachable)
            connecting = _CONNECTING_TICKS if member.node.term > _FIRST_TERM else 0
            self._candidacy_tick = max(tick, connecting) + rank * _CANDIDACY_TICKS
        if tick >= self._candidacy_tick:
            self._may_hasten = False
            member.node.campaign()

    def fail_all(self, error: EtcdError) -> None:
        transfers, self._transfers = self._transfers, []
        for transfer in transfers:
            transfer[2](error)

    # -- what to tell the late ---------------------------------------------------------------------------

    def why_late(self, begun_tick: int) -> EtcdError:
        """What a request that began then and was not answered in time is told (contract peer 8.2)."""
        member = self._member
        election_ticks = member.config.election_ticks
        if self._elected_tick - 2 * election_ticks < begun_tick < self._elected_tick:
            return errors.TimeoutDueToLeaderFail()
        begun = member.clock.monotonic() - (member.tick_count - begun_tick) * member.tick_seconds
        if member.lead == member.id:
            voters = [one.id for one in member.membership.voters() if one.id != member.id]
            connected = 1 + sum(self._connected(one, begun) for one in voters)
            if connected < (len(voters) + 1) // 2 + 1:
                return errors.TimeoutDueToConnectionLost()
        elif member.lead and not self._connected(member.lead, begun):
            return errors.TimeoutDueToConnectionLost()
        return errors.RequestTimeout()

    def _connected(self, member_id: int, since: float) -> bool:
        active = self._member.peers.active_since(member_id)
        return active is not None and active < since
