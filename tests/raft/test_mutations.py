"""The checkers can fail: known mistakes, made on purpose, are caught within a few seeds.

Each mutation replaces one rule by what a hasty hand might have written. If one is no longer caught, either
the rule is not needed or the watchers have become blind.
"""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from tests.raft.faults import run
from tests.raft.scenario import observe

from petcd.raft import follower, leader, log, node, quorum, raft, readonly, tracker

SEEDS_MAX = 400


def edit(owner: object, name: str, old: str, new: str) -> Callable[[pytest.MonkeyPatch], None]:
    """Replace ``old`` by ``new`` in the source of one function."""

    def apply(patch: pytest.MonkeyPatch) -> None:
        function = getattr(owner, name)
        source = textwrap.dedent(inspect.getsource(function))
        assert source.count(old) == 1, f"{name} no longer contains {old!r} once"
        module = owner if isinstance(owner, ModuleType) else inspect.getmodule(owner)
        assert module is not None
        namespace: dict[str, object] = dict(vars(module))
        code = "from __future__ import annotations\n" + source.replace(old, new)
        exec(compile(code, f"<mutated {name}>", "exec"), vars(module), namespace)
        patch.setattr(owner, name, namespace[name])

    return apply


MUTATIONS = {
    "commit an earlier term by counting": edit(
        leader,
        "maybe_commit",
        "index > log.committed and log.term_at(index) == raft.term",
        "index > log.committed",
    ),
    "count ourselves before our disk has it": edit(
        leader,
        "propose",
        "log.append(entries)",
        "log.append(entries); raft.tracker.progress[raft.id].match = index",
    ),
    "send a vote before it is on disk": edit(
        raft.Raft, "send", "kind in AFTER_APPEND_TYPES or self.term > self.durable_term", "False"
    ),
    "send a term before it is on disk": edit(raft.Raft, "send", " or self.term > self.durable_term", ""),
    "vote for any log": edit(
        raft.Raft,
        "_answer_vote",
        "can_vote and self.log.is_up_to_date(message.index, message.log_term)",
        "can_vote",
    ),
    "vote twice in a term": edit(raft.Raft, "_answer_vote", "self.vote == message.from_", "True"),
    "forget to store the vote": edit(raft.Raft, "_answer_vote", "self.vote = message.from_", "pass"),
    "count our own vote at once": edit(
        raft.Raft,
        "_campaign",
        "self.become_candidate()",
        "self.become_candidate(); self.durable_term = self.term",
    ),
    "take entries after another term": edit(log.Log, "matches", " and self.term_at(index) == term", ""),
    "overwrite without looking": edit(
        log.Log, "_without_known", "while known < overlap and", "while False and"
    ),
    "keep what follows a conflict": edit(
        log.Log, "_truncate", "del self.entries[position:]", "del self.entries[position:position]"
    ),
    "believe old news from the disk": edit(log.Log, "_cut_back", "if mark.index > last:", "if False:"),
    "answer reads without a round": edit(leader, "_admit_read", "raft.config.lease_based_reads", "True"),
    "answer reads before the term's first commit": edit(
        leader, "read_index", "raft.log.term_at(raft.log.committed) != raft.term", "False"
    ),
    "confirm reads by one echo": edit(
        leader, "advance_reads", "raft.tracker.agreed(reads.confirmed)", "max(reads.confirmed.values())"
    ),
    "heartbeats tell more than a member has": edit(
        leader, "_send_heartbeats", "min(raft.tracker.progress[member].match, committed)", "committed"
    ),
    "one half of a joint configuration decides": edit(tracker.Tracker, "committed", "self.outgoing", "()"),
    "learners vote": edit(
        tracker.Tracker,
        "switch",
        "tuple(sorted(configuration.voters))",
        "tuple(sorted(configuration.voters | configuration.learners))",
    ),
    "a majority is half": edit(quorum, "majority_vote", "len(voters) // 2 + 1", "(len(voters) + 1) // 2"),
    "several changes at once": edit(
        leader, "_admit_conf_changes", "raft.pending_conf_index > raft.log.applied or ", ""
    ),
    "install an old snapshot": edit(follower, "restore", "metadata.index <= log.committed", "False"),
    "forget the term at a restart": edit(
        node.Node,
        "__init__",
        "self._raft = Raft(config, hard_state, log)",
        "self._raft = Raft(config, HardState(log.last_term, 0, hard_state.commit), log)",
    ),
}


IN_SCENARIO = {
    "answer a read by an older round": (
        "stale_leader_read",
        edit(readonly.ReadOnly, "add", "self.round + 1", "self.round"),
    ),
    "one half of a joint configuration elects": (
        "change_joint_election",
        edit(tracker.Tracker, "tally", "self.outgoing", "()"),
    ),
    "campaign before a committed change is applied": (
        "change_before_campaign",
        edit(raft.Raft, "hup", " or self._has_unapplied_conf_change()", ""),
    ),
}
"""Mistakes that need too rare a constellation for random faults: the scenario that shows it turns red."""

FIRST_CAUGHT = {
    "commit an earlier term by counting": 141,
    "vote for any log": 16,
    "count our own vote at once": 17,
    "take entries after another term": 23,
    "believe old news from the disk": 131,
    "answer reads without a round": 131,
    "confirm reads by one echo": 75,
    "one half of a joint configuration decides": 130,
    "learners vote": 12,
    "a majority is half": 51,
    "install an old snapshot": 362,
    "forget the term at a restart": 217,
}
"""The seed to begin with, where it takes more than a few: it saves time, and nothing else depends on it."""


def caught(name: str) -> int | None:
    """The first seed at which anything complains."""
    first = FIRST_CAUGHT.get(name, 0)
    for seed in (*range(first, SEEDS_MAX), *range(first)):
        try:
            run(seed, 2500, changes=seed % 2 == 0)
        except Exception:  # noqa: BLE001 - any complaint will do
            return seed
    return None


@pytest.mark.parametrize("name", MUTATIONS)
def test_caught_under_faults(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    MUTATIONS[name](monkeypatch)
    assert caught(name) is not None


@pytest.mark.parametrize("name", IN_SCENARIO)
def test_caught_by_a_scenario(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    scenario, mutate = IN_SCENARIO[name]
    path = Path(__file__).parent / "scenarios" / f"{scenario}.txt"
    assert observe(path) == path.read_text()
    mutate(monkeypatch)
    try:
        observed = observe(path)
    except AssertionError:
        return
    assert observed != path.read_text()
