"""What clients saw of keys: operations with the times between which each took effect, if it did.

A history is a list of ``Operation``. Times are of one clock. ``complete`` None says that no answer came: the
operation took effect at some time after ``invoke``, or never. An operation that surely did not happen is left
out of the history.

Every operation is a small transaction: compares, and what is done if they all hold or if one does not.

    put(client, t0, t1, key, value, revision=7)
    get(client, t0, t1, key, value, mod_revision=3, revision=7)      # value None: there was no such key
    delete(client, t0, t1, key, deleted=1, revision=8)
    cas(client, t0, t1, key, expected, new, succeeded=True, revision=9)     # expected None: no such key
    txn(client, t0, t1, compares, success, failure, succeeded=..., reads=..., revision=9)

Called with ``t1`` None, what was answered is left out. Revisions are those of the response headers; they make
the check stronger and faster, and may be left out (None) altogether.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

Key = bytes | str
Value = bytes | str


class Compare(NamedTuple):
    """Holds when ``key`` has this value; None: when there is no such key."""

    key: Key
    value: Value | None


class Put(NamedTuple):
    key: Key
    value: Value


class Delete(NamedTuple):
    key: Key


class Get(NamedTuple):
    key: Key


Step = Put | Delete | Get


class Read(NamedTuple):
    """What a Get found."""

    value: Value | None
    mod_revision: int | None = None
    """0 where there was no such key; None: not told."""


@dataclass(slots=True)
class Result:
    """What the client was told."""

    succeeded: bool = True
    reads: Sequence[Read] = ()
    """One for each Get of the branch taken, in order."""
    deleted: Sequence[int] | None = None
    """One for each Delete of the branch taken; None: not told."""
    revision: int | None = None


@dataclass(slots=True)
class Operation:
    """One call of one client."""

    client: int | str
    invoke: float
    complete: float | None
    kind: str
    compares: Sequence[Compare] = ()
    success: Sequence[Step] = ()
    failure: Sequence[Step] = ()
    result: Result | None = None

    @property
    def keys(self) -> set[Key]:
        keys: set[Key] = {compare.key for compare in self.compares}
        for step in (*self.success, *self.failure):
            keys.add(step.key)
        return keys

    def steps(self) -> Sequence[Step]:
        """Of the branch that was taken, as the client was told."""
        assert self.result is not None
        return self.success if self.result.succeeded else self.failure

    @property
    def wrote(self) -> bool:
        """Whether it surely changed something; of an answered operation."""
        result = self.result
        assert result is not None
        deletes = iter(result.deleted or ())
        for step in self.steps():
            if isinstance(step, Put) or (isinstance(step, Delete) and next(deletes, 0)):
                return True
        return False

    def __str__(self) -> str:
        end = "never answered" if self.complete is None else f"{self.complete:.6f}"
        told = "" if self.result is None else f" -> {_told(self.result)}"
        what = ", ".join(_text(step) for step in self.success)
        if self.compares:
            tests = " and ".join(f"{c.key!r} == {c.value!r}" for c in self.compares)
            what = f"if {tests}: {what or 'nothing'}"
            if self.failure:
                what += "; else: " + ", ".join(_text(step) for step in self.failure)
        return f"client {self.client} [{self.invoke:.6f}, {end}] {what}{told}"


def _text(step: Step) -> str:
    if isinstance(step, Put):
        return f"put {step.key!r} {step.value!r}"
    return f"{'delete' if isinstance(step, Delete) else 'get'} {step.key!r}"


def _told(result: Result) -> str:
    parts = [] if result.succeeded else ["else"]
    parts += [
        repr(read.value) + (f" of revision {read.mod_revision}" if read.mod_revision else "")
        for read in result.reads
    ]
    if result.deleted is not None:
        parts.append(f"deleted {list(result.deleted)}")
    if result.revision is not None:
        parts.append(f"at revision {result.revision}")
    return ", ".join(parts) or "done"


def _result(complete: float | None, result: Result) -> Result | None:
    return None if complete is None else result


def put(
    client: int | str,
    invoke: float,
    complete: float | None,
    key: Key,
    value: Value,
    *,
    revision: int | None = None,
) -> Operation:
    result = _result(complete, Result(revision=revision))
    return Operation(client, invoke, complete, "put", success=(Put(key, value),), result=result)


def get(
    client: int | str,
    invoke: float,
    complete: float,
    key: Key,
    value: Value | None,
    *,
    mod_revision: int | None = None,
    revision: int | None = None,
) -> Operation:
    """Reads without an answer say nothing and need not be recorded."""
    result = Result(reads=(Read(value, mod_revision),), revision=revision)
    return Operation(client, invoke, complete, "get", success=(Get(key),), result=result)


def delete(
    client: int | str,
    invoke: float,
    complete: float | None,
    key: Key,
    *,
    deleted: int | None = None,
    revision: int | None = None,
) -> Operation:
    counts = None if deleted is None else (deleted,)
    result = _result(complete, Result(deleted=counts, revision=revision))
    return Operation(client, invoke, complete, "delete", success=(Delete(key),), result=result)


def cas(
    client: int | str,
    invoke: float,
    complete: float | None,
    key: Key,
    expected: Value | None,
    new: Value,
    *,
    succeeded: bool = True,
    revision: int | None = None,
) -> Operation:
    """Put ``new`` if the key has the value ``expected``, else nothing."""
    result = _result(complete, Result(succeeded=succeeded, revision=revision))
    return Operation(client, invoke, complete, "cas", (Compare(key, expected),), (Put(key, new),), (), result)


def txn(
    client: int | str,
    invoke: float,
    complete: float | None,
    compares: Sequence[Compare],
    success: Sequence[Step],
    failure: Sequence[Step] = (),
    *,
    succeeded: bool = True,
    reads: Sequence[Read] = (),
    deleted: Sequence[int] | None = None,
    revision: int | None = None,
) -> Operation:
    result = _result(complete, Result(succeeded, tuple(reads), deleted, revision))
    return Operation(client, invoke, complete, "txn", tuple(compares), tuple(success), tuple(failure), result)
