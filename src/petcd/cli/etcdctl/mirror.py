"""make-mirror: copy a prefix to another cluster and follow its changes (contract cli section 3.20)."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from petcd.cli.etcdctl import methods
from petcd.cli.etcdctl.commands import ERROR, Exit, Leaf, bad_args, write
from petcd.cli.etcdctl.follow import follow
from petcd.cli.etcdctl.golang import raw
from petcd.cli.etcdctl.grammar import boolean, integer, string, unsigned
from petcd.cli.etcdctl.kv import FROM_KEY_END, prefix_end
from petcd.cli.etcdctl.session import CallFailed, Session
from petcd.cli.progress import Bar
from petcd.pb.etcdserverpb import kv as pb

if TYPE_CHECKING:
    from petcd.cli.etcdctl.context import Context

_BATCH: Final = 1000
_REPORT_SECONDS: Final = 30.0


class _Total:
    """Operations transferred so far: printed every half minute, and drawn on a terminal as they go."""

    def __init__(self) -> None:
        self.count = 0
        self._bar = Bar("{} operations".format)
        threading.Thread(target=self._report, daemon=True).start()

    def _report(self) -> None:
        pause = threading.Event()
        while not pause.wait(_REPORT_SECONDS):
            self._bar.close()
            write(f"{self.count}\n")

    def add(self) -> None:
        self.count += 1
        self._bar("mirrored", self.count, 0)


def _destination(context: Context) -> Session:
    flags = context.flags
    user, password = flags["dest-user"], flags["dest-password"]
    if user and not password:
        name, colon, given = user.partition(":")
        if colon:
            user, password = name, given
        else:
            from petcd.cli.etcdctl.prompt import ask_password

            password = ask_password("Destination Password: ").strip()
    session = Session(
        [context.arguments[0]],
        dial_timeout=flags["dial-timeout"] / 1e9,
        deadline=context.deadline(),
        keepalive=(flags["keepalive-time"] / 1e9, flags["keepalive-timeout"] / 1e9),
        cert=flags["dest-cert"],
        key=flags["dest-key"],
        ca=flags["dest-cacert"],
        tls=not flags["dest-insecure-transport"],
        user=user,
        password=password,
    )
    session.login()
    session.deadline = None
    return session


def _mirror(context: Context) -> None:
    flags = context.flags
    if len(context.arguments) != 1:
        bad_args("make-mirror takes one destination argument")
    if flags["dest-prefix"] and flags["no-dest-prefix"]:
        bad_args("`--dest-prefix` and `--no-dest-prefix` cannot be set at the same time, choose one")
    source = context.timeless()
    destination = _destination(context)
    prefix, start = raw(flags["prefix"]), flags["rev"]
    target = raw(flags["dest-prefix"])
    if not target and not flags["no-dest-prefix"] and start <= 1:
        target = prefix
    key, end = (prefix, prefix_end(prefix)) if prefix else (FROM_KEY_END, FROM_KEY_END)
    total = _Total()

    def renamed(name: bytes) -> bytes:
        return target + name[len(prefix) :]

    try:
        revision = start if start > 1 else _copy(source, destination, key, end, renamed, total) + 1
        for response in follow(source, key, end, revision):
            # One transaction per source revision, unless it holds more than the destination takes.
            operations: list[pb.RequestOp] = []
            at = 0
            for event in response.events:
                kv = event.kv
                if kv is None:
                    continue
                if operations and (kv.mod_revision != at or len(operations) >= flags["max-txn-ops"]):
                    destination.call(methods.TXN, pb.TxnRequest(success=operations), pb.TxnResponse)
                    operations = []
                at = kv.mod_revision
                if event.type == 1:
                    delete = pb.DeleteRangeRequest(key=renamed(kv.key))
                    operations.append(pb.RequestOp(request_delete_range=delete))
                else:
                    put = pb.PutRequest(key=renamed(kv.key), value=kv.value)
                    operations.append(pb.RequestOp(request_put=put))
                total.add()
            if operations:
                destination.call(methods.TXN, pb.TxnRequest(success=operations), pb.TxnResponse)
    except CallFailed as failure:
        raise Exit(ERROR, failure.message) from None


def _copy(
    source: Session,
    destination: Session,
    key: bytes,
    end: bytes,
    renamed: Callable[[bytes], bytes],
    total: _Total,
) -> int:
    """Every pair there is, at one revision, which is returned."""
    revision = 0
    while True:
        request = pb.RangeRequest(key=key, range_end=end, limit=_BATCH, revision=revision)
        response = source.call(methods.RANGE, request, pb.RangeResponse, read=True)
        revision = revision or (response.header.revision if response.header else 0)
        for kv in response.kvs:
            destination.call(methods.PUT, pb.PutRequest(key=renamed(kv.key), value=kv.value), pb.PutResponse)
            total.add()
        if not response.more or not response.kvs:
            return revision
        key = response.kvs[-1].key + b"\0"


COMMANDS: Final = {
    "make-mirror": Leaf(
        _mirror,
        "make-mirror [options] <destination>",
        (
            string("prefix", "Key-value prefix to mirror"),
            integer("rev", "Specify the kv revision to start to mirror"),
            string("dest-prefix", "destination prefix to mirror a prefix to a different prefix"),
            boolean("no-dest-prefix", "mirror key-values to the root of the destination cluster"),
            unsigned("max-txn-ops", "Maximum number of operations permitted in a transaction", default=128),
            string("dest-cert", "Identify secure client using this TLS certificate file"),
            string("dest-key", "Identify secure client using this TLS key file"),
            string("dest-cacert", "Verify certificates of TLS enabled secure servers using this CA bundle"),
            boolean(
                "dest-insecure-transport", "Disable transport security for client connections", default=True
            ),
            string("dest-user", "Destination username[:password] for authentication"),
            string("dest-password", "Destination password for authentication"),
        ),
        "Makes a mirror at the destination etcd cluster",
    ),
}
