"""The checker of client histories: right histories pass, each kind of wrong one is named."""

from __future__ import annotations

import itertools
import random

import pytest
from tests.linearizability.operations import (
    Compare,
    Delete,
    Get,
    Operation,
    Put,
    Read,
    cas,
    delete,
    get,
    put,
    txn,
)
from tests.linearizability.registers import check

WRONG: dict[str, list[Operation]] = {
    "a stale read": [put(1, 0, 1, "k", "a"), put(1, 2, 3, "k", "b"), get(2, 4, 5, "k", "a")],
    "a stale read beside its write": [
        put(1, 0, 1, "k", "a"),
        put(1, 2, 9, "k", "b"),
        get(2, 3, 4, "k", "b"),
        get(2, 5, 6, "k", "a"),
    ],
    "a lost write": [put(1, 0, 1, "k", "a"), get(2, 2, 3, "k", None)],
    "a value nobody wrote": [put(1, 0, 1, "k", "a"), get(2, 2, 3, "k", "b")],
    "a value before it was written": [get(2, 0, 1, "k", "a"), put(1, 2, 3, "k", "a")],
    "an unanswered write seen before it was asked": [get(2, 0, 1, "k", "a"), put(1, 2, None, "k", "a")],
    "an unanswered write seen, gone, and back": [
        put(1, 0, None, "k", "a"),
        put(2, 0, 1, "k", "b"),
        get(2, 2, 3, "k", "a"),
        put(2, 4, 5, "k", "c"),
        get(2, 6, 7, "k", "a"),
    ],
    "two swaps from one value": [
        put(1, 0, 1, "k", "a"),
        cas(1, 2, 5, "k", "a", "b"),
        cas(2, 2, 5, "k", "a", "c"),
    ],
    "a swap refused without a reason": [
        put(1, 0, 1, "k", "a"),
        cas(1, 2, 3, "k", "a", "b", succeeded=False),
        get(2, 4, 5, "k", "a"),
    ],
    "half a transaction": [
        txn(1, 0, 1, (), (Put("x", "1"), Put("y", "1"))),
        txn(2, 2, 3, (), (Get("x"), Get("y")), reads=(Read("1"), Read(None))),
    ],
    "transactions in two orders": [
        txn(1, 0, 9, (), (Put("x", "1"), Get("y")), reads=(Read(None),)),
        txn(2, 0, 9, (), (Put("y", "1"), Get("x")), reads=(Read(None),)),
    ],
    "a deletion of nothing that deleted": [delete(1, 0, 1, "k", deleted=1)],
    "a deletion that did not": [put(1, 0, 1, "k", "a"), delete(1, 2, 3, "k", deleted=0)],
    "two writes of one revision": [
        put(1, 0, 9, "k", "a", revision=2),
        put(2, 0, 9, "l", "b", revision=2),
    ],
    "revisions against time, over two keys": [
        put(1, 0, 1, "k", "a", revision=3),
        put(2, 2, 3, "l", "b", revision=2),
    ],
    "an old revision read": [
        put(1, 0, 1, "k", "a", revision=2),
        get(2, 2, 3, "l", None, revision=1),
    ],
    "a read that says another revision than the write": [
        put(1, 0, 1, "k", "a", revision=2),
        get(2, 2, 3, "k", "a", mod_revision=3, revision=4),
    ],
    "reads that go back through a third client": [
        put(1, 0, 9, "k", "a", revision=2),
        get(2, 1, 2, "k", "a", mod_revision=2, revision=2),
        get(3, 3, 4, "l", None, revision=1),
    ],
}

RIGHT: dict[str, list[Operation]] = {
    "nothing": [],
    "an unanswered write that happened": [put(1, 0, None, "k", "a"), get(2, 4, 5, "k", "a")],
    "an unanswered write that did not": [put(1, 0, None, "k", "a"), get(2, 4, 5, "k", None)],
    "an unanswered write that happened late": [
        put(1, 0, None, "k", "a"),
        put(2, 1, 2, "k", "b"),
        get(2, 3, 4, "k", "b"),
        get(2, 5, 6, "k", "a"),
    ],
    "a chain of unanswered swaps": [
        cas(1, 0, None, "k", None, "a"),
        cas(2, 0, None, "k", "a", "b"),
        cas(3, 0, None, "k", "b", "c"),
        get(4, 1, 2, "k", "c"),
    ],
    "an unanswered deletion": [
        put(1, 0, 1, "k", "a"),
        delete(2, 2, None, "k"),
        get(1, 3, 4, "k", "a"),
        get(1, 5, 6, "k", None),
    ],
    "a swap refused because of an unanswered write that nobody saw": [
        put(1, 0, 1, "k", "a"),
        put(2, 2, None, "k", "unseen"),
        cas(1, 3, 4, "k", "a", "b", succeeded=False),
    ],
    "a transaction that reads what it wrote": [
        txn(1, 0, 1, (Compare("x", None),), (Put("x", "1"), Get("x")), reads=(Read("1"),)),
        txn(2, 2, 3, (Compare("x", None),), (), (Delete("x"),), succeeded=False, deleted=(1,)),
    ],
    "a read beside a write, either way": [
        put(1, 0, 9, "k", "a"),
        get(2, 1, 2, "k", None),
        get(2, 3, 4, "k", "a"),
    ],
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_histories_are_named(name: str) -> None:
    assert check(WRONG[name])


@pytest.mark.parametrize("name", RIGHT)
def test_right_histories_pass(name: str) -> None:
    assert check(RIGHT[name]) is None


def test_what_is_shown() -> None:
    text = check(WRONG["a stale read"])
    assert text is not None
    assert "'k' is 'b'" in text
    assert "next, but not possible: client 2 [4.000000, 5.000000] get 'k' -> 'a'" in text


def random_history(seed: int, count: int, *, lost: float = 0.15, revisions: bool = False) -> list[Operation]:
    """What clients see of a right store: each operation takes effect at one moment within its time."""
    rng = random.Random(seed)
    store: dict[str, tuple[str, int]] = {}
    revision = 1
    keys = ["x", "y", "z"]
    moments = []
    clients = 4
    free = [0.0] * clients
    for number in range(count):
        client = rng.randrange(clients)
        begin = free[client] + rng.random()
        at = begin + rng.random() * 3
        end = at + rng.random()
        free[client] = end
        moments.append((at, begin, end, client, number))
    history = []
    for _, begin, end, client, number in sorted(moments):
        key, value = rng.choice(keys), f"v{number}"
        is_lost = rng.random() < lost
        happens = not is_lost or rng.random() < 0.5
        complete = None if is_lost else end
        told = None
        draw = rng.random()
        if draw < 0.4:
            if not is_lost:
                found = store.get(key, (None, 0))
                told = revision if revisions else None
                mod = found[1] if revisions else None
                history.append(get(client, begin, end, key, found[0], mod_revision=mod, revision=told))
        elif draw < 0.65:
            if happens:
                revision += 1
                store[key] = (value, revision)
            told = revision if revisions else None
            history.append(put(client, begin, complete, key, value, revision=told))
        elif draw < 0.75:
            deleted = int(key in store)
            if happens and deleted:
                revision += 1
                del store[key]
            told = revision if revisions else None
            history.append(delete(client, begin, complete, key, deleted=deleted, revision=told))
        elif draw < 0.9:
            expected = store.get(key, (None, 0))[0] if rng.random() < 0.6 else f"v{rng.randrange(count)}"
            holds = store.get(key, (None, 0))[0] == expected
            if happens and holds:
                revision += 1
                store[key] = (value, revision)
            told = revision if revisions else None
            history.append(cas(client, begin, complete, key, expected, value, succeeded=holds, revision=told))
        else:
            other = rng.choice([one for one in keys if one != key])
            read = Read(store.get(other, (None, 0))[0], store.get(other, (None, 0))[1] if revisions else None)
            if happens:
                revision += 1
                store[key] = (value, revision)
            told = revision if revisions else None
            steps = (Get(other), Put(key, value))
            history.append(txn(client, begin, complete, (), steps, reads=(read,), revision=told))
    return history


def brute_force(history: list[Operation]) -> bool:
    """Whether some order explains it, by trying them all."""
    known = [op for op in history if op.complete is not None]
    unknown = [op for op in history if op.complete is None]

    def fits(order: list[Operation]) -> bool:
        state: dict[object, object] = {}
        for op in order:
            holds = all(state.get(c.key) == c.value for c in op.compares)
            result = op.result
            if result is not None and op.compares and holds is not result.succeeded:
                return False
            reads = iter(result.reads if result is not None else ())
            deleted = iter(result.deleted or () if result is not None else ())
            for step in op.success if holds else op.failure:
                if isinstance(step, Put):
                    state[step.key] = step.value
                elif isinstance(step, Delete):
                    was = state.pop(step.key, None) is not None
                    if next(deleted, was) != was:
                        return False
                elif result is not None and next(reads, Read(None)).value != state.get(step.key):
                    return False
        return True

    for some in itertools.chain.from_iterable(
        itertools.combinations(unknown, n) for n in range(len(unknown) + 1)
    ):
        for order in itertools.permutations([*known, *some]):
            late = [op.invoke for op in order]
            if all(
                one.complete is None or one.complete >= late[j]
                for i, one in enumerate(order)
                for j in range(i)
            ) and fits(list(order)):
                return True
    return False


@pytest.mark.parametrize("revisions", [False, True])
@pytest.mark.parametrize("seed", range(40))
def test_right_random_histories_pass(seed: int, revisions: bool) -> None:
    assert check(random_history(seed, 150, revisions=revisions)) is None


@pytest.mark.parametrize("seed", range(100))
def test_agrees_with_trying_every_order(seed: int) -> None:
    """Small histories with one answer replaced: what the search says is what all orders together say."""
    rng = random.Random(seed)
    history = random_history(seed + 1000, 5, lost=0.3)
    answered = [op for op in history if op.complete is not None and op.result is not None]
    if answered:
        spoiled = rng.choice(answered)
        assert spoiled.result is not None
        if spoiled.result.reads:
            spoiled.result.reads = (Read(rng.choice([None, *(f"v{n}" for n in range(5))])),)
        elif spoiled.result.deleted is not None:
            spoiled.result.deleted = (1 - spoiled.result.deleted[0],)
        elif spoiled.kind == "cas":
            spoiled.result.succeeded = not spoiled.result.succeeded
    assert (check(history) is None) == brute_force(history)


def test_thousands_of_operations_with_many_unknown() -> None:
    for revisions in (False, True):
        history = random_history(7, 3000, lost=0.05, revisions=revisions)
        assert check(history) is None
        reads = [op for op in history if op.kind == "get" and op.invoke > 200]
        spoiled = reads[len(reads) // 2]
        assert spoiled.result is not None
        spoiled.result.reads = (Read("v3"),)
        assert check(history) is not None
