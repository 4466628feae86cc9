"""The members as the present configuration names them, their progress, and the votes of an election."""

from __future__ import annotations

from petcd.raft.confchange import Configuration
from petcd.raft.progress import Progress
from petcd.raft.quorum import VOTE_WON, VoteResult, joint_match, joint_number, joint_vote


class Tracker:
    """Progress of every member of ``configuration``, ourselves included when we are one.

    Invariant: ``progress`` has exactly the configuration's members; a member is marked learner exactly when
    it is one in the configuration. Members are visited in the order of their ids, so that runs repeat.
    """

    __slots__ = (
        "_id",
        "_inflight_max",
        "configuration",
        "incoming",
        "is_alone",
        "outgoing",
        "peers",
        "progress",
        "votes",
    )

    def __init__(self, own_id: int, inflight_max: int) -> None:
        self._id = own_id
        self._inflight_max = inflight_max
        self.configuration = Configuration()
        self.incoming: tuple[int, ...] = ()
        self.outgoing: tuple[int, ...] = ()
        self.is_alone = False
        """We are the only voter: what we have, a quorum has."""
        self.peers: tuple[int, ...] = ()
        """Everybody but us."""
        self.progress: dict[int, Progress] = {}
        self.votes: dict[int, bool] = {}

    def switch(self, configuration: Configuration, last_index: int, stable_index: int) -> None:
        """Follow a change of the configuration; who stays keeps its progress.

        A newcomer counts as heard of, else the check of the quorum could depose the leader before it had a
        chance to answer; and it is probed at once.
        """
        progress: dict[int, Progress] = {}
        for member in sorted(configuration.members):
            is_learner = member in configuration.learners
            known = self.progress.get(member)
            if known is None:
                match = stable_index if member == self._id else 0
                known = Progress(last_index + 1, self._inflight_max, is_learner, match)
                known.recent_active = True
                known.due = True
            known.is_learner = is_learner
            progress[member] = known
        self.configuration = configuration
        self.incoming = tuple(sorted(configuration.voters))
        self.outgoing = tuple(sorted(configuration.outgoing))
        self.is_alone = self.incoming == (self._id,) and not self.outgoing
        self.peers = tuple(member for member in progress if member != self._id)
        self.progress = progress

    def reset(self, last_index: int, stable_index: int) -> None:
        """A new term: forget the votes and how far everybody is, except ourselves."""
        self.votes.clear()
        for member, progress in self.progress.items():
            progress.reset(last_index + 1, stable_index if member == self._id else 0)

    @property
    def is_voter(self) -> bool:
        """Whether we vote in either half."""
        return self._id in self.incoming or self._id in self.outgoing

    def votes_in(self, member: int) -> bool:
        """Whether ``member`` votes in either half."""
        return member in self.incoming or member in self.outgoing

    def committed(self) -> int:
        """The highest index that a quorum has on its disks."""
        if self.is_alone:
            return self.progress[self._id].match
        return joint_match(self.incoming, self.outgoing, self.progress)

    def agreed(self, numbers: dict[int, int]) -> int:
        """The highest number that a quorum has reached."""
        return joint_number(self.incoming, self.outgoing, numbers)

    def record_vote(self, member: int, granted: bool) -> None:
        """The first answer counts."""
        self.votes.setdefault(member, granted)

    def tally(self) -> VoteResult:
        return joint_vote(self.incoming, self.outgoing, self.votes)

    def quorum_active(self) -> bool:
        """Whether a quorum was heard of since this was last asked; starts the next period."""
        active: dict[int, bool] = {}
        for member, progress in self.progress.items():
            active[member] = member == self._id or progress.recent_active
            progress.recent_active = False
        return joint_vote(self.incoming, self.outgoing, active) is VOTE_WON

    def check(self) -> None:
        """Assert what this class promises."""
        self.configuration.check()
        assert self.progress.keys() == self.configuration.members
        assert self.is_alone == (self.configuration.voters == {self._id} and not self.configuration.outgoing)
        for member, progress in self.progress.items():
            progress.check()
            assert progress.is_learner == (member in self.configuration.learners)
