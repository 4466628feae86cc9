"""lock and elect (contract cli sections 3.13, 3.14; wire-v3 section 7 for keys and transactions)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from petcd.cli.etcdctl import methods
from petcd.cli.etcdctl.commands import ERROR, Exit, Leaf, bad_args
from petcd.cli.etcdctl.follow import Interrupted, LeaseSession, catch_signals, follow, ignore_signals
from petcd.cli.etcdctl.golang import raw, text_of
from petcd.cli.etcdctl.grammar import boolean, integer
from petcd.cli.etcdctl.kv import prefix_end
from petcd.cli.etcdctl.session import CallFailed
from petcd.pb.etcdserverpb import kv as pb
from petcd.pb.etcdserverpb import lease as lease_pb

if TYPE_CHECKING:
    from petcd.cli.etcdctl.context import Context

_ELECTION_TTL: Final = 60
_ASCEND, _DESCEND, _BY_CREATE, _CREATE_TARGET = 1, 2, 2, 1


class _SessionExpired(Exception):
    """The lease is gone while waiting."""


class _Queue:
    """The keys under ``<name>/``: who created the oldest one owns the lock or leads."""

    def __init__(self, context: Context, name: bytes, value: bytes, ttl: int) -> None:
        self._session = context.timeless()
        self._lease = LeaseSession(context, ttl)
        self.lost = self._lease.lost
        self._prefix = name + b"/"
        self.key = self._prefix + f"{self._lease.id:x}".encode()
        self._value = value
        self.revision = 0
        """Where our key was created."""
        self.header_revision = 0

    def enter(self) -> None:
        """Put our key and wait until it is the oldest. Interrupted: it is taken away again."""
        try:
            self._enter()
        except (Interrupted, CallFailed):
            ignore_signals()
            self.leave()
            raise

    def _enter(self) -> None:
        first = pb.RangeRequest(
            key=self._prefix,
            range_end=prefix_end(self._prefix),
            sort_order=_ASCEND,
            sort_target=_BY_CREATE,
            limit=1,
        )
        put = pb.PutRequest(key=self.key, value=self._value, lease=self._lease.id)
        own = pb.RangeRequest(key=self.key)
        response = self._session.call(
            methods.TXN,
            pb.TxnRequest(
                compare=[pb.Compare(target=_CREATE_TARGET, key=self.key, create_revision=0)],
                success=[pb.RequestOp(request_put=put), pb.RequestOp(request_range=first)],
                failure=[pb.RequestOp(request_range=own), pb.RequestOp(request_range=first)],
            ),
            pb.TxnResponse,
        )
        self.header_revision = self.revision = response.header.revision if response.header else 0
        mine, oldest = response.responses
        if mine.response_range is not None and mine.response_range.kvs:
            self.revision = mine.response_range.kvs[0].create_revision
        owner = oldest.response_range.kvs if oldest.response_range is not None else []
        if not owner or owner[0].create_revision == self.revision:
            return
        self._wait_for_older()

    def _wait_for_older(self) -> None:
        """Until every key created before ours is gone, the youngest of them first."""
        while True:
            request = pb.RangeRequest(
                key=self._prefix,
                range_end=prefix_end(self._prefix),
                sort_order=_DESCEND,
                sort_target=_BY_CREATE,
                limit=1,
                max_create_revision=self.revision - 1,
            )
            response = self._session.call(methods.RANGE, request, pb.RangeResponse, read=True)
            revision = response.header.revision if response.header else 0
            if not response.kvs:
                break
            waiting = follow(self._session, response.kvs[0].key, b"", revision + 1, lost=self.lost)
            for changes in waiting:
                if any(event.type == 1 for event in changes.events):
                    break
            waiting.close()
            if self.lost.is_set():
                raise _SessionExpired
        again = self._session.call(methods.RANGE, pb.RangeRequest(key=self.key), pb.RangeResponse, read=True)
        if not again.kvs:
            raise _SessionExpired
        self.header_revision = again.header.revision if again.header else 0

    def read(self) -> pb.RangeResponse:
        return self._session.call(methods.RANGE, pb.RangeRequest(key=self.key), pb.RangeResponse, read=True)

    def leave(self) -> None:
        """Delete our key, if it is still the one we made."""
        self._lease.close()
        if not self.revision:
            # Interrupted before the answer: the key may be there, or come yet. Without its lease it cannot.
            revoke = lease_pb.LeaseRevokeRequest(ID=self._lease.id)
            self._session.call(methods.LEASE_REVOKE, revoke, lease_pb.LeaseRevokeResponse)
            return
        compare = pb.Compare(target=_CREATE_TARGET, key=self.key, create_revision=self.revision)
        delete = pb.RequestOp(request_delete_range=pb.DeleteRangeRequest(key=self.key))
        self._session.call(methods.TXN, pb.TxnRequest(compare=[compare], success=[delete]), pb.TxnResponse)


def _lock(context: Context) -> None:
    if not context.arguments:
        bad_args("lock takes a lock name argument and an optional command to execute")
    name, command = raw(context.arguments[0]), context.arguments[1:]
    catch_signals()
    try:
        queue = _Queue(context, name, b"", context.flags["ttl"])
        queue.enter()
    except Interrupted:
        raise Exit(ERROR, "context canceled") from None
    except _SessionExpired:
        raise Exit(ERROR, "mutex: session is expired") from None
    if command:
        _run_locked(queue, command)
        return
    try:
        response = queue.read()
        if not response.kvs:
            raise Exit(ERROR, "lock lost on init")
        context.printer.get(response)
        queue.lost.wait()
    except Interrupted:
        ignore_signals()
        queue.leave()
        return
    raise Exit(ERROR, "session expired")


def _run_locked(queue: _Queue, command: list[str]) -> None:
    """Run the command while the lock is held; its status becomes ours."""
    from petcd.cli.etcdctl.process import run

    ignore_signals()
    failure, status = run(
        command, {"ETCD_LOCK_KEY": text_of(queue.key), "ETCD_LOCK_REV": str(queue.header_revision)}
    )
    queue.leave()
    if failure:
        raise Exit(status, failure)


def _elect(context: Context) -> None:
    arguments, listen = context.arguments, context.flags["listen"]
    if not 1 <= len(arguments) <= 2:
        bad_args("elect takes one election name argument and an optional proposal argument")
    if not listen and len(arguments) == 1:
        bad_args("no proposal argument but -l not set")
    if listen and len(arguments) == 2:
        bad_args("proposal given but -l is set")
    catch_signals()
    try:
        if listen:
            _observe(context, raw(arguments[0]) + b"/")
        else:
            _campaign(context, raw(arguments[0]), raw(arguments[1]))
    except CallFailed as failure:
        raise Exit(ERROR, failure.message) from None


def _campaign(context: Context, name: bytes, proposal: bytes) -> None:
    try:
        queue = _Queue(context, name, proposal, _ELECTION_TTL)
        queue.enter()
    except Interrupted:
        raise Exit(ERROR, "context canceled") from None
    except _SessionExpired:
        raise Exit(ERROR, "elect: session expired") from None
    try:
        context.printer.get(queue.read())
        queue.lost.wait()
    except Interrupted:
        ignore_signals()
        queue.leave()
        return
    raise Exit(ERROR, "elect: session expired")


def _observe(context: Context, prefix: bytes) -> None:
    """Print every leader and every value it proclaims."""
    session = context.timeless()
    oldest = pb.RangeRequest(
        key=prefix, range_end=prefix_end(prefix), sort_order=_ASCEND, sort_target=_BY_CREATE, limit=1
    )
    try:
        while True:
            response = session.call(methods.RANGE, oldest, pb.RangeResponse, read=True)
            revision = response.header.revision if response.header else 0
            if response.kvs:
                leader = response.kvs[0]
                context.printer.get(pb.RangeResponse(header=response.header, kvs=[leader]))
                key, end = leader.key, b""
            else:
                key, end = prefix, prefix_end(prefix)
            changes = follow(session, key, end, revision + 1)
            for change in changes:
                put = next((event.kv for event in change.events if event.type == 0), None)
                if end and put is not None:
                    break
                if put is not None:
                    context.printer.get(pb.RangeResponse(header=change.header, kvs=[put]))
                if any(event.type == 1 for event in change.events) and not end:
                    break
            changes.close()
    except Interrupted:
        return


COMMANDS: Final = {
    "lock": Leaf(
        _lock,
        "lock <lockname> [exec-command arg1 arg2 ...]",
        (integer("ttl", "timeout for session", default=10),),
        "Acquires a named lock",
    ),
    "elect": Leaf(
        _elect,
        "elect <election-name> [proposal]",
        (boolean("listen", "observation mode", "l"),),
        "Observes and participates in leader election",
    ),
}
