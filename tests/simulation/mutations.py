"""The checkers can fail: mistakes made on purpose in our own code, and how many seeds it takes to notice.

    python -m tests.simulation --mutations

Each replaces one rule by what a hasty hand might have written. If one is no longer caught, either the rule is
not needed or the checkers have become blind. Mistakes of consensus alone, under faults of raft alone, are in
``tests/raft/test_mutations.py``, those of named scenarios in ``tests/history/test_mutations.py``; these
are caught by random clients and faults of whole members.
"""

from __future__ import annotations

import contextlib
import inspect
import multiprocessing
import textwrap
import time
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any, Final, NamedTuple

from tests.simulation import network, storm

from petcd.lease.lessor import Lessor
from petcd.mvcc import txn
from petcd.mvcc.compaction import Compactor
from petcd.mvcc.watch.hub import WatchHub
from petcd.mvcc.watch.stream import WatchStream
from petcd.raft import leader, log, raft, readonly, tracker
from petcd.raft import quorum as quorums
from petcd.server import bootstrap, installing, logwriter, reads
from petcd.server.member import Member
from petcd.server.membership import Membership
from petcd.storage.memory_backend import MemoryBackend
from petcd.storage.wal.log import Wal

SEEDS_MAX: Final = 300

Undo = Callable[[], object]
Patch = Callable[[], Undo]


def edit(owner: Any, name: str, *changes: tuple[str, str]) -> Patch:
    """Replace text in the source of one function, each ``old`` occurring once."""

    def apply() -> Undo:
        function = inspect.getattr_static(owner, name)
        kind = type(function) if isinstance(function, (staticmethod, classmethod)) else None
        plain = function.__func__ if kind is not None else function
        source = textwrap.dedent(inspect.getsource(plain))
        for old, new in changes:
            assert source.count(old) == 1, f"{name} no longer contains {old!r} once"
            source = source.replace(old, new)
        if kind is not None:
            source = source[source.index("def ") :]
        module = owner if isinstance(owner, ModuleType) else inspect.getmodule(owner)
        assert module is not None
        namespace: dict[str, Any] = dict(vars(module))
        code = "from __future__ import annotations\n" + source
        exec(compile(code, f"<mutated {name}>", "exec"), vars(module), namespace)
        made = namespace[name]
        setattr(owner, name, kind(made) if kind is not None else made)
        return lambda: setattr(owner, name, function)

    return apply


def swap(owner: Any, name: str, value: Any) -> Patch:
    """Put something else in the place of an attribute."""

    def apply() -> Undo:
        before = inspect.getattr_static(owner, name)
        setattr(owner, name, value)
        return lambda: setattr(owner, name, before)

    return apply


class Mutation(NamedTuple):
    patch: Patch
    first: int = 0
    """The seed to begin with where the first are not enough; it saves time, and nothing depends on it."""


def _nothing(*_args: Any, **_options: Any) -> None:
    return


MUTATIONS: dict[str, Mutation] = {
    # Consensus and its disk.
    "send a vote before it is on disk": Mutation(
        edit(raft.Raft, "send", ("kind in AFTER_APPEND_TYPES or self.term > self.durable_term", "False"))
    ),
    "forget to store the vote": Mutation(
        edit(raft.Raft, "_answer_vote", ("self.vote = message.from_", "pass"))
    ),
    "vote for any log": Mutation(
        edit(
            raft.Raft,
            "_answer_vote",
            ("can_vote and self.log.is_up_to_date(message.index, message.log_term)", "can_vote"),
        ),
        first=4,
    ),
    "count ourselves before our disk has it": Mutation(
        edit(
            leader,
            "propose",
            ("log.append(entries)", "log.append(entries); raft.tracker.progress[raft.id].match = index"),
        )
    ),
    "a majority is half": Mutation(
        edit(quorums, "majority_match", ("(len(acknowledged) - 1) >> 1", "(len(acknowledged) + 1) >> 1"))
    ),
    "learners vote": Mutation(
        edit(
            tracker.Tracker,
            "switch",
            (
                "tuple(sorted(configuration.voters))",
                "tuple(sorted(configuration.voters | configuration.learners))",
            ),
        ),
        first=57,
    ),
    "a follower forgets where its log differs": Mutation(
        edit(log.Log, "matches", (" and self.term_at(index) == term", "")), first=15
    ),
    "keep what follows a conflict": Mutation(
        edit(log.Log, "_truncate", ("del self.entries[position:]", "del self.entries[position:position]"))
    ),
    "forget the vote at a restart": Mutation(
        edit(
            bootstrap,
            "_reopen",
            ("HardState(state.term, state.vote, commit)", "HardState(state.term, 0, commit)"),
        )
    ),
    "forget the term at a restart": Mutation(
        edit(
            bootstrap,
            "_reopen",
            ("HardState(state.term, state.vote, commit)", "HardState(0, 0, commit)"),
        )
    ),
    # The log's file.
    "acknowledge before the sync": Mutation(
        edit(Wal, "_sync", ("file.datasync()", "None")),
    ),
    "tell of durability before the write": Mutation(
        edit(
            logwriter.LogWriter,
            "finish",
            (
                """if not (small and self._lane.try_now(batch.save)):
        self._lane.submit(batch.save, self._saved, self._failed)
        return 0
""",
                "self._lane.submit(batch.save, _nothing, self._failed)\n",
            ),
        )
    ),
    # Reads.
    "answer reads without a round": Mutation(
        edit(leader, "_admit_read", ("raft.config.lease_based_reads", "True"))
    ),
    "answer a read by an older round": Mutation(
        edit(readonly.ReadOnly, "add", ("self.round + 1", "self.round")), first=23
    ),
    "answer reads before the term's first commit": Mutation(
        edit(leader, "read_index", ("raft.log.term_at(raft.log.committed) != raft.term", "False")), first=9
    ),
    "answer reads before their index is applied": Mutation(
        edit(reads.Reads, "on_state", ("index <= applied", "True"))
    ),
    # Apply.
    "save the consistent index before its effects": Mutation(
        edit(
            Member,
            "_write_consistent_index",
            ("schema.encode_u64(self.applied)", "schema.encode_u64(self.node.last_index)"),
        )
    ),
    "apply again after a restart": Mutation(
        edit(
            bootstrap,
            "_reopen",
            ("applied=consistent_index", "applied=max(start.index, consistent_index - 1)"),
        )
    ),
    "a proposal is delivered twice": Mutation(edit(network.Wire, "carry", (" if copy.type != MSG_PROP", ""))),
    "a transaction is half done": Mutation(swap(txn, "_validate", _nothing)),
    "look at leases that are gone": Mutation(
        edit(Lessor, "revoke", ("self._leases.pop(lease_id, None)", "self._leases.get(lease_id)"))
    ),
    "commits of the backend are lost": Mutation(
        edit(MemoryBackend, "_commit", ("self._journal.datasync()", "None"))
    ),
    "drop deletions at the compacted revision": Mutation(
        edit(Compactor, "_prune", ("bound(rev - 1) if rev > 0 else bound(-1)", "bound(rev)")), first=20
    ),
    # Snapshots.
    "install without telling watchers": Mutation(swap(WatchHub, "resync", _nothing)),
    "install without the leases": Mutation(
        edit(installing.Installer, "_adopt", ("member.lessor.restore(member.store.key_leases)", "pass"))
    ),
    "install without the membership": Mutation(
        edit(installing.Installer, "_adopt", ("member.membership.restore()", "pass"))
    ),
    "forget a snapshot that was not taken over": Mutation(
        edit(bootstrap, "_reopen", ("install = snapshot", "install = None")), first=33
    ),
    # Watches.
    "lose the event where catching up ends": Mutation(
        edit(WatchHub, "_advance", ("watcher.next_rev = next_rev", "watcher.next_rev = next_rev + 1"))
    ),
    "read a revision again that was sent": Mutation(
        edit(WatchHub, "_advance", ("watcher.next_rev = next_rev", "watcher.next_rev = next_rev - 1"))
    ),
    "tell of progress ahead of events": Mutation(
        edit(
            WatchStream,
            "progress",
            ("w.state == SYNCED and w.start_rev <= rev", "w.start_rev <= rev"),
        )
    ),
    "send the past to watchers of the future": Mutation(
        edit(WatchHub, "_notify_one", ("watcher.next_rev > rev or ", ""))
    ),
    # Leases.
    "a new leader does not begin leases anew": Mutation(
        edit(
            Lessor,
            "promote",
            ("now + extend_seconds + (lease.remaining_ttl or lease.ttl)", "now + 0.2"),
        )
    ),
    "renew nothing": Mutation(edit(Lessor, "renew", ("lease.expiry = now + lease.ttl", "pass"))),
    # Membership.
    "voters that were added do not count": Mutation(
        edit(
            tracker.Tracker,
            "switch",
            (
                "tuple(sorted(configuration.voters))",
                "tuple(sorted(configuration.voters & set(self.incoming) or configuration.voters))",
            ),
        )
    ),
    "forget who was removed": Mutation(
        edit(
            Membership,
            "remove",
            ('self.backend.put(schema.MEMBERS_REMOVED, key, b"removed")', "pass"),
            ("self.removed.add(member_id)", "pass"),
        ),
        first=4,
    ),
}


@contextlib.contextmanager
def made(name: str) -> Iterator[None]:
    """With the mistake in place."""
    undo = MUTATIONS[name].patch()
    try:
        yield
    finally:
        undo()


def seeds_to_catch(name: str, seeds_max: int = SEEDS_MAX, first: int = 0) -> tuple[int, int, str] | None:
    """(how many seeds it took, the seed, what was said); None when nothing complained."""
    with made(name):
        for count in range(seeds_max):
            try:
                storm.run(first + count)
            except Exception as error:  # noqa: BLE001 - any complaint will do
                said = (str(error).splitlines() or ["an invariant of a node"])[0][:90]
                return count + 1, first + count, f"{type(error).__name__}: {said}"
    return None


def _timed(work: tuple[str, int]) -> tuple[str, tuple[int, int, str] | None, float]:
    began = time.monotonic()
    return work[0], seeds_to_catch(*work), time.monotonic() - began


def table(only: str, seeds_max: int, jobs: int) -> int:
    """Print who is caught, after how many seeds, and by what."""
    missed = []
    names = [name for name in MUTATIONS if only in name]
    work = [(name, seeds_max) for name in names]
    with multiprocessing.Pool(jobs) as pool:
        for name, caught, seconds in pool.imap(_timed, work):
            if caught is None:
                missed.append(name)
                print(f"{name:52} not within {seeds_max} seeds, {seconds:.0f} s", flush=True)
            else:
                count, _, text = caught
                print(f"{name:52} {count:4} {text}", flush=True)
    print(f"{len(names) - len(missed)} of {len(names)} caught; missed: {missed}")
    return 1 if missed else 0
