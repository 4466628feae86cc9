"""Scenarios as text: blocks of commands, a line of dashes, and the trace that was observed.

Blocks are separated by an empty line and share one cluster. Lines that begin with ``#`` are for the reader.

    cluster 3 [learners=4,5] [pre_vote=off] [inflight_max=2] ...   (first; settings are those of ``Config``)
    log 1 1 1 4 4       member 1 begins with entries of these terms     term 1 6   and in this term
    campaign 1          tick 1 [10] (one member)      time [10] (all, settled after each tick)
    propose 1 a b       read 1 context                transfer 1 3       change 1 +4 -3 ~2 [joint|explicit]
    leave 1             join 5                        crash 1            restart 1
    turn 1              takes what is ready, starts writing              sync 1 [n]   the disk finishes
    deliver [1 2]       messages (from 1 to 2) arrive and are shown      drop 1 2     they are lost
    hold 1 2 / release  messages (from 1 to 2) are kept back, and come out again
    cut 1 / heal [1]    all links of a member         snapshot 1 keep    unreachable 1 2
    settle              everything happens until the cluster rests       trace        the same, shown
    state               one line per member           terms [1]          the terms of the log
    progress 1          what the leader knows         config             one line per member
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.raft.cluster import Cluster

from petcd.raft import (
    LEADER,
    ConfChange,
    ConfChangeSingle,
    ConfChangeTransition,
    ConfChangeV2,
    Message,
    RaftError,
    describe,
    describe_conf_state,
)

LINE = "----"


class Scenario:
    """Runs the blocks of one file."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.cluster: Cluster
        self.held: list[Message] = []
        self._size = 0
        self._learners: list[int] = []
        self._settings: dict[str, object] = {}
        self._logs: dict[int, list[int]] = {}
        self._terms: dict[int, int] = {}
        self._started = False

    def run(self, text: str) -> str:
        """The file with the trace that this code produces."""
        blocks = []
        for block in text.strip("\n").split("\n\n"):
            commands, _, _ = block.partition(f"{LINE}\n")
            if commands.rstrip().endswith(LINE):
                commands = commands.rstrip()[: -len(LINE)]
            self.lines = []
            executed = False
            for line in commands.splitlines():
                if line.strip() and not line.startswith("#"):
                    executed = True
                    self.command(*line.split())
            kept = commands.rstrip("\n")
            blocks.append("\n".join([kept, LINE, *self.lines]) if executed and self.lines else kept)
        return "\n\n".join(blocks) + "\n"

    def command(self, name: str, *words: str) -> None:
        if name not in ("cluster", "log", "term") and not self._started:
            self._started = True
            self.cluster = Cluster(
                range(1, self._size + 1),
                learners=self._learners,
                settings=self._settings,
                logs=self._logs,
                terms=self._terms,
            )
        handler: Callable[..., None] = getattr(self, f"do_{name}")
        try:
            handler(*words)
        except RaftError as error:
            self.lines.append(f"{type(error).__name__}: {error}")

    # -- before the start ------------------------------------------------------------------------------------

    def do_cluster(self, size: str, *options: str) -> None:
        self._size = int(size)
        for option in options:
            key, _, value = option.partition("=")
            if key == "learners":
                self._learners = [int(member) for member in value.split(",")]
            else:
                self._settings[key] = (
                    {"on": True, "off": False}[value] if value in ("on", "off") else int(value)
                )

    def do_log(self, member: str, *terms: str) -> None:
        self._logs[int(member)] = [int(term) for term in terms]

    def do_term(self, member: str, term: str) -> None:
        self._terms[int(member)] = int(term)

    # -- input -----------------------------------------------------------------------------------------------

    def do_campaign(self, member: str) -> None:
        if not self.cluster[int(member)].campaign():
            self.lines.append(f"{member} may not campaign")

    def do_tick(self, member: str, count: str = "1") -> None:
        for _ in range(int(count)):
            self.cluster[int(member)].tick()

    def do_time(self, count: str = "1") -> None:
        self.cluster.tick(int(count))

    def do_propose(self, member: str, *data: str) -> None:
        self.cluster.propose(int(member), *(word.encode() for word in data))

    def do_read(self, member: str, context: str) -> None:
        if not self.cluster.ask(int(member), context.encode()):
            self.lines.append(f"{member} knows no leader")

    def do_transfer(self, member: str, to: str) -> None:
        self.cluster[int(member)].transfer_leader(int(to))

    def do_change(self, member: str, *words: str) -> None:
        kinds = {"+": 0, "-": 1, "~": 3}
        singles = [ConfChangeSingle(kinds[w[0]], int(w[1:])) for w in words if w[0] in kinds]
        node = self.cluster[int(member)]
        if "joint" in words or "explicit" in words or len(singles) > 1:
            transition = ConfChangeTransition.AUTO
            if "joint" in words:
                transition = ConfChangeTransition.JOINT_IMPLICIT
            elif "explicit" in words:
                transition = ConfChangeTransition.JOINT_EXPLICIT
            node.propose_conf_change(ConfChangeV2(int(transition), singles))
        else:
            node.propose_conf_change(ConfChange(0, singles[0].type, singles[0].node_id))

    def do_leave(self, member: str) -> None:
        self.cluster[int(member)].propose_conf_change(ConfChangeV2())

    def do_join(self, member: str) -> None:
        self.cluster.join(int(member))

    def do_snapshot(self, member: str, keep: str) -> None:
        self.cluster.members[int(member)].snapshot(int(keep))

    def do_unreachable(self, member: str, other: str) -> None:
        self.cluster[int(member)].report_unreachable(int(other))

    # -- time and faults -------------------------------------------------------------------------------------

    def do_crash(self, member: str) -> None:
        self.cluster.members[int(member)].crash()

    def do_restart(self, member: str) -> None:
        self.cluster.members[int(member)].start()

    def do_turn(self, member: str) -> None:
        self.cluster.members[int(member)].turn(rounds=100)

    def do_sync(self, member: str, count: str = "") -> None:
        self.cluster.members[int(member)].sync(int(count) if count else None)

    def do_cut(self, member: str) -> None:
        self.cluster.isolate(int(member))

    def do_heal(self, member: str = "") -> None:
        self.cluster.heal(int(member) if member else None)

    def _take(self, words: tuple[str, ...]) -> list[Message]:
        network = self.cluster.network
        if not words:
            self.cluster.network = []
            return network
        sender, receiver = int(words[0]), int(words[1])
        chosen = [m for m in network if m.from_ == sender and m.to == receiver]
        self.cluster.network = [m for m in network if m.from_ != sender or m.to != receiver]
        return chosen

    def do_deliver(self, *words: str) -> None:
        for message in self._take(words):
            self._show(message)
            try:
                self.cluster.carry(message)
            except RaftError as error:
                self.lines.append(f"{type(error).__name__}: {error}")

    def do_drop(self, *words: str) -> None:
        for message in self._take(words):
            self.cluster.lose(message)

    def do_hold(self, sender: str, receiver: str) -> None:
        self.held += self._take((sender, receiver))

    def do_release(self) -> None:
        self.cluster.network += self.held
        self.held = []

    def do_settle(self) -> None:
        self.cluster.settle()

    def do_trace(self) -> None:
        self.cluster.on_post = self._show
        self.cluster.settle()
        self.cluster.on_post = None

    # -- looking ---------------------------------------------------------------------------------------------

    def _show(self, message: Message) -> None:
        cut = " (cut)" if (message.from_, message.to) in self.cluster.cut else ""
        self.lines.append(describe(message) + cut)

    def do_state(self) -> None:
        for member in self.cluster.members.values():
            node = member.node
            if not member.up:
                self.lines.append(f"{member.id}: down")
                continue
            line = (
                f"{member.id}: {node.role.name.lower().replace('_', '-'):13} "
                f"term={node.term} lead={node.lead} commit={node.commit_index} "
                f"last={node.term_at(node.last_index)}/{node.last_index}"
            )
            if node.stable_index != node.last_index:
                line += f" stable={node.stable_index}"
            if node.first_index != 1:
                line += f" first={node.first_index}"
            for context, index in member.read_states.items():
                line += f" {context.decode()}@{index}"
            if any(link[0] == member.id for link in self.cluster.cut):
                line += " (cut)"
            self.lines.append(line)

    def do_terms(self, *words: str) -> None:
        for member in self.cluster.members.values():
            if words and str(member.id) not in words:
                continue
            node = member.node
            terms = [node.term_at(index) for index in range(node.first_index, node.last_index + 1)]
            self.lines.append(f"{member.id}: " + " ".join(map(str, terms)))

    def do_progress(self, member: str) -> None:
        node = self.cluster[int(member)]
        if node.role is not LEADER:
            self.lines.append(f"{member} does not lead")
        for other, known in node.status().progress.items():
            line = f"{other}: {known.state.name:9} match={known.match} next={known.next}"
            if known.paused:
                line += " paused"
            if known.inflight_count:
                line += f" inflight={known.inflight_count}"
            if known.is_learner:
                line += " learner"
            if known.pending_snapshot:
                line += f" snapshot={known.pending_snapshot}"
            self.lines.append(line)

    def do_config(self) -> None:
        for member in self.cluster.members.values():
            self.lines.append(f"{member.id}: {describe_conf_state(member.node.conf_state)}")


def observe(path: Path) -> str:
    """The scenario in ``path`` with its trace as of now."""
    return Scenario().run(path.read_text())
