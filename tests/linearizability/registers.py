"""Linearizability of what clients saw, by search (Wing and Gong 1993, Lowe 2016), and by revisions.

    problem = check(history)          # None, or a text that shows the contradiction

Two checks, the second one per group of keys that some transaction ties together:

1. ``revision_order``: the revisions of the answers must agree with real time over the whole store. This is
   what makes the keys' histories one (strict serialisability), and it is linear.
2. ``search``: an order of the operations must exist that agrees with real time, with the revisions as far as
   they are known, and with what every answer says.

Operations without an answer are used only where something was seen of them: right before the first answer
that needs them. Later than that contradicts the answer, and earlier gains nothing, since what lies in between
did not see it. Of several that would serve alike (deletions; writes whose value nobody ever saw) the one
asked first is taken: it is allowed wherever the others are.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from tests.linearizability.operations import Delete, Get, Key, Operation, Put, Value

STEPS_MAX = 2_000_000
"""Of one group's search; more than that is reported, not called correct."""

_JUNK = b"\x00a value that nobody saw"

State = dict[Key, tuple[Value | None, int | None]]
"""Value and revision of each key; revision None: not known."""


def check(history: Sequence[Operation]) -> str | None:
    """None when the history is linearizable, else why not."""
    problem = revision_order(history)
    if problem is not None:
        return problem
    for group in groups(history):
        problem = Search(group).run()
        if problem is not None:
            return problem
    return None


# -- revisions -----------------------------------------------------------------------------------------------


def revision_order(history: Iterable[Operation]) -> str | None:
    """Whether an order by revisions exists in which whatever completed before another began comes first.

    A write takes place exactly at its revision; a read between its revision and the next. Sweeping over time,
    each operation is given the earliest place that those before it leave.
    """
    writes: dict[int, Operation] = {}
    events: list[tuple[float, int, int, Operation]] = []
    for number, operation in enumerate(history):
        if operation.complete is None or operation.result is None or operation.result.revision is None:
            continue
        if operation.wrote:
            other = writes.setdefault(operation.result.revision, operation)
            if other is not operation:
                return f"two writes have the same revision:\n  {other}\n  {operation}"
        events.append((operation.invoke, 1, number, operation))
        events.append((operation.complete, 0, number, operation))
    events.sort(key=lambda event: event[:3])
    reached = (0, False)
    by: Operation | None = None
    places: dict[int, tuple[int, bool]] = {}
    for _, is_invoke, number, operation in events:
        result = operation.result
        assert result is not None and result.revision is not None
        if not is_invoke:
            if places.get(number, reached) > reached:
                reached, by = places[number], operation
            continue
        # A read's place (r, True) is behind that of the write of r, and before the write of r + 1.
        wrote = operation.wrote
        place = (result.revision, not wrote)
        if reached > place or (wrote and reached == place):
            return f"an answer is older than one that was given before it was asked:\n  {by}\n  {operation}"
        places[number] = place
    return None


# -- groups --------------------------------------------------------------------------------------------------


def groups(history: Iterable[Operation]) -> list[list[Operation]]:
    """The history split where no transaction touches keys of two parts."""
    parent: dict[Key, Key] = {}

    def find(key: Key) -> Key:
        root = key
        while parent.setdefault(root, root) != root:
            root = parent[root]
        while parent[key] != root:
            parent[key], key = root, parent[key]
        return root

    operations = []
    for operation in history:
        keys = sorted(operation.keys, key=repr)
        if not keys:
            continue
        operations.append((keys[0], operation))
        for key in keys[1:]:
            parent[find(key)] = find(keys[0])
    found: dict[Key, list[Operation]] = defaultdict(list)
    for key, operation in operations:
        found[find(key)].append(operation)
    return [found[root] for root in sorted(found, key=repr)]


# -- the search ----------------------------------------------------------------------------------------------


class Search:
    """The search over one group of keys."""

    def __init__(self, history: Sequence[Operation]) -> None:
        known = [op for op in history if op.complete is not None and op.result is not None]
        self.known = sorted(known, key=lambda op: op.invoke)
        self.unknown = sorted(
            (op for op in history if op.complete is None or op.result is None), key=lambda op: op.invoke
        )
        self.observed = self._observed(history)
        self.steps = 0
        # By revision: how many answered operations must come before, see ``_ready``.
        self._ranks: list[tuple[int, bool] | None] = []
        for operation in self.known:
            result = operation.result
            assert result is not None
            self._ranks.append(None if result.revision is None else (result.revision, not operation.wrote))
        self._best: tuple[int, str] = (-1, "")

    @staticmethod
    def _observed(history: Iterable[Operation]) -> set[Value | None]:
        seen: set[Value | None] = set()
        for operation in history:
            seen.update(compare.value for compare in operation.compares)
            if operation.result is not None:
                seen.update(read.value for read in operation.result.reads)
        return seen

    def run(self) -> str | None:
        """Depth first, with what was tried before remembered."""
        seen: dict[tuple[int, tuple[tuple[Key, Value | None, int | None], ...]], list[int]] = {}
        """What led nowhere: who comes there with no more unanswered operations left need not try again."""
        # (known done from the left, done beyond as bits, unknown used as bits, state)
        stack: list[tuple[int, int, int, State]] = [(0, 0, 0, {})]
        known = self.known
        while stack:
            first, done, used, state = stack.pop()
            first, done = self._take_reads(first, done, state)
            while first < len(known) and done & 1 << first:
                first += 1
            if first == len(known):
                return None
            mark = (done, tuple(sorted(((k, *v) for k, v in state.items()), key=repr)))
            failed = seen.setdefault(mark, [])
            if any(fewer & used == fewer for fewer in failed):
                continue
            failed.append(used)
            self.steps += 1
            if self.steps > STEPS_MAX:
                return f"undecided after {STEPS_MAX} steps; keys {sorted(state, key=repr)}"
            window, limit = self._window(first, done)
            following: list[tuple[int, int, int, State]] = []
            for number in window:
                after = self._apply(known[number], state)
                if after is not None:
                    following.append((first, done | 1 << number, used, after))
            blocked = len(following) < len(window)
            if blocked:
                for number, after in self._helpers(window, used, state, limit):
                    following.append((first, done, used | 1 << number, after))
            if not following or blocked:
                self._note(first, done, used, state, window)
            # The last pushed is tried first: answered operations before others, those asked first in front.
            stack.extend(reversed(following))
        return f"no order explains the answers; after a longest one that does:\n{self._best[1]}"

    def _window(self, first: int, done: int) -> tuple[list[int], float]:
        """The answered operations that may come next, and the time before which something must."""
        known = self.known
        candidates: list[int] = []
        limit = float("inf")
        number = first
        while number < len(known) and known[number].invoke <= limit:
            if not done & 1 << number:
                candidates.append(number)
                complete = known[number].complete
                assert complete is not None
                limit = min(limit, complete)
            number += 1
        ready = [n for n in candidates if known[n].invoke <= limit]
        ranks = [rank for n in ready if (rank := self._ranks[n]) is not None]
        if ranks:
            lowest = min(ranks)
            ready = [n for n in ready if self._ranks[n] is None or self._ranks[n] == lowest]
        return ready, limit

    def _take_reads(self, first: int, done: int, state: State) -> tuple[int, int]:
        """What changes nothing and fits can be taken at once: no order without it here is better."""
        taken = True
        while taken:
            taken = False
            while first < len(self.known) and done & 1 << first:
                first += 1
            for number in self._window(first, done)[0]:
                operation = self.known[number]
                if not operation.wrote and operation.result is not None:
                    after = self._apply(operation, state)
                    if after is not None:
                        state.update(after)  # it may have told a revision
                        done |= 1 << number
                        taken = True
        return first, done

    def _apply(self, operation: Operation, state: State) -> State | None:
        """The state after an answered operation, None when its answer does not fit."""
        result = operation.result
        assert result is not None
        if operation.compares:
            holds = all(state.get(c.key, (None, 0))[0] == c.value for c in operation.compares)
            if holds is not result.succeeded:
                return None
        after = dict(state)
        reads = iter(result.reads)
        counts = iter(result.deleted) if result.deleted is not None else None
        revision = result.revision if operation.wrote else None
        for step in operation.steps():
            if isinstance(step, Put):
                after[step.key] = (step.value, revision)
            elif isinstance(step, Delete):
                was = after.get(step.key, (None, 0))[0]
                if counts is not None and (next(counts, 0) > 0) is not (was is not None):
                    return None
                after[step.key] = (None, 0)
            else:
                read = next(reads, None)
                if read is None:
                    continue
                value, mod = after.get(step.key, (None, 0))
                if value != read.value:
                    return None
                if read.mod_revision is not None:
                    if mod is not None and mod != read.mod_revision:
                        return None
                    after[step.key] = (value, read.mod_revision)
        return after

    # What was never answered.

    def _helpers(
        self, window: Sequence[int], used: int, state: State, limit: float
    ) -> list[tuple[int, State]]:
        """Operations without an answer that may let one of the window come next."""
        needed = self._needed(window, state)
        found: list[tuple[int, State]] = []
        tried: set[tuple[tuple[Key, Value | None], ...]] = set()
        for number, operation in enumerate(self.unknown):
            if operation.invoke > limit:
                break
            if used & 1 << number:
                continue
            after = self._apply_unknown(operation, state)
            if after is None:
                continue
            changed = tuple(
                sorted(((k, v[0]) for k, v in after.items() if state.get(k, (None, 0))[0] != v[0]), key=repr)
            )
            if not changed or changed in tried or not any(self._serves(k, v, needed) for k, v in changed):
                continue
            tried.add(changed)
            found.append((number, after))
        return found

    def _needed(self, window: Sequence[int], state: State) -> dict[Key, set[Value | None]]:
        """Per key, the values that would let something go on."""
        needed: dict[Key, set[Value | None]] = defaultdict(set)
        for number in window:
            operation = self.known[number]
            result = operation.result
            assert result is not None
            for compare in operation.compares:
                if result.succeeded:
                    needed[compare.key].add(compare.value)
                elif state.get(compare.key, (None, 0))[0] == compare.value:
                    needed[compare.key] |= {None, _JUNK}
                    needed[compare.key] |= self._values_of(compare.key)
            reads = iter(result.reads)
            counts = iter(result.deleted or ())
            for step in operation.steps():
                if isinstance(step, Get):
                    read = next(reads, None)
                    if read is not None:
                        needed[step.key].add(read.value)
                elif isinstance(step, Delete):
                    if next(counts, 0):
                        needed[step.key] |= {_JUNK} | self._values_of(step.key)
                    else:
                        needed[step.key].add(None)
        # What an unanswered compare-and-swap must find, so that it yields what is needed.
        grew = True
        while grew:
            grew = False
            for operation in self.unknown:
                if not operation.compares:
                    continue
                yields = any(
                    (isinstance(s, Put) and s.value in needed.get(s.key, ()))
                    or (isinstance(s, Delete) and None in needed.get(s.key, ()))
                    for s in (*operation.success, *operation.failure)
                )
                if yields:
                    for compare in operation.compares:
                        if compare.value not in needed[compare.key]:
                            needed[compare.key].add(compare.value)
                            grew = True
        return needed

    def _values_of(self, key: Key) -> set[Value | None]:
        """Everything that an unanswered operation may write to a key."""
        values: set[Value | None] = set()
        for operation in self.unknown:
            for step in (*operation.success, *operation.failure):
                if isinstance(step, Put) and step.key == key:
                    values.add(step.value)
        return values

    def _serves(self, key: Key, value: Value | None, needed: dict[Key, set[Value | None]]) -> bool:
        wanted = needed.get(key)
        return wanted is not None and value in wanted

    def _apply_unknown(self, operation: Operation, state: State) -> State | None:
        holds = all(state.get(c.key, (None, 0))[0] == c.value for c in operation.compares)
        after = dict(state)
        for step in operation.success if holds else operation.failure:
            if isinstance(step, Put):
                value = step.value if step.value in self.observed else _JUNK
                after[step.key] = (value, None)
            elif isinstance(step, Delete):
                after[step.key] = (None, 0)
        return after

    # What to show.

    def _note(self, first: int, done: int, used: int, state: State, window: Sequence[int]) -> None:
        depth = done.bit_count()
        if depth <= self._best[0]:
            return
        lines = [
            f"  {key!r} is {value!r}" + (f" of revision {mod}" if mod else "")
            for key, (value, mod) in sorted(state.items(), key=repr)
        ]
        recent = [n for n in range(max(0, first - 4), len(self.known)) if done & 1 << n][-6:]
        lines += [f"  before: {self.known[n]}" for n in recent]
        lines += [f"  next, but not possible: {self.known[n]}" for n in window]
        lines += [
            f"  may have happened: {op}"
            for n, op in enumerate(self.unknown)
            if not used & 1 << n and op.invoke <= max((self.known[w].complete or 0.0) for w in window)
        ][-8:]
        self._best = (depth, "\n".join(lines))
