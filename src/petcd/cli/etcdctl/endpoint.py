"""endpoint health, status and hashkv (contract cli section 3.11)."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Final

from petcd.cli.etcdctl import golang, methods
from petcd.cli.etcdctl.commands import ERROR, Exit, Leaf, complain
from petcd.cli.etcdctl.grammar import integer
from petcd.cli.etcdctl.printers import EndpointHash, EndpointStatus, Health
from petcd.cli.etcdctl.session import CallFailed, Session
from petcd.pb.etcdserverpb import cluster, kv, maintenance

if TYPE_CHECKING:
    from petcd.cli.etcdctl.context import Context

_ALARMS: Final = {1: "NOSPACE", 2: "CORRUPT"}


def endpoints(context: Context) -> list[str]:
    """``--endpoints`` as typed, or with ``--cluster`` the client URLs of all members."""
    context.settle()
    if not context.flags["cluster"]:
        return context.endpoints()
    try:
        response = context.session.call_raw(
            methods.MEMBER_LIST,
            cluster.MemberListRequest(linearizable=True),
            cluster.MemberListResponse,
            read=True,
        )
    except CallFailed as failure:
        raise Exit(
            ERROR, f"failed to fetch endpoints from etcd cluster member list: {failure.message}"
        ) from None
    return [url for member in response.members for url in member.clientURLs]


def session_to(context: Context, endpoint: str) -> Session:
    """A logged-in session to one endpoint with a timeout of its own."""
    session = context.open([endpoint])
    if session.deadline is not None:
        session.deadline = time.monotonic() + context.flags["command-timeout"] / 1e9
    session.endpoints = [endpoint]
    return session


def _check(context: Context, endpoint: str) -> Health:
    began = time.monotonic_ns()
    session = session_to(context, endpoint)
    try:
        session.login()
        session.call_raw(methods.RANGE, kv.RangeRequest(key=b"health"), kv.RangeResponse, read=True)
        error = ""
    except CallFailed as failure:
        # A server that refuses the read has answered: it is healthy.
        error = "" if failure.denied else failure.message
    except Exit as failed:
        error = failed.message
    took = golang.duration(time.monotonic_ns() - began)
    if not error:
        try:
            response = session.call_raw(
                methods.ALARM, maintenance.AlarmRequest(), maintenance.AlarmResponse, read=True
            )
            if response.alarms:
                error = "Active Alarm(s): " + "".join(
                    _ALARMS.get(alarm.alarm, "UNKNOWN") + " " for alarm in response.alarms
                )
        except CallFailed as failure:
            error = "" if failure.denied else "Unable to fetch the alarm list"
    session.close()
    return Health(endpoint, not error, took, error)


def _health(context: Context) -> None:
    context.check_format()
    printer = context.printer
    asked = endpoints(context)
    # Asks for the password, where that is needed, once and before the threads start.
    context.credentials()
    rows: list[Health] = []
    lock = threading.Lock()

    def check(endpoint: str) -> None:
        row = _check(context, endpoint)
        with lock:
            rows.append(row)

    threads = [threading.Thread(target=check, args=(endpoint,)) for endpoint in asked]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    printer.endpoint_health(rows)
    if not all(row.healthy for row in rows):
        raise Exit(ERROR, "unhealthy cluster")


def _status(context: Context) -> None:
    context.check_format()
    printer = context.printer
    rows, failed = [], False
    for endpoint in endpoints(context):
        session = session_to(context, endpoint)
        try:
            session.login()
            response = session.call_raw(
                methods.STATUS, maintenance.StatusRequest(), maintenance.StatusResponse, read=True
            )
            rows.append(EndpointStatus(endpoint, response))
        except CallFailed as failure:
            failed = True
            complain(f"Failed to get the status of endpoint {endpoint} ({failure.message})")
        finally:
            session.close()
    printer.endpoint_status(rows)
    if failed:
        raise Exit(ERROR)


def _hash_kv(context: Context) -> None:
    context.check_format()
    printer = context.printer
    rows, last = [], ""
    for endpoint in endpoints(context):
        session = session_to(context, endpoint)
        try:
            session.login()
            request = maintenance.HashKVRequest(revision=context.flags["rev"])
            response = session.call_raw(methods.HASH_KV, request, maintenance.HashKVResponse, read=True)
            rows.append(EndpointHash(endpoint, response))
        except CallFailed as failure:
            last = failure.message
            complain(f"Failed to get the hash of endpoint {endpoint} ({failure.message})")
        finally:
            session.close()
    printer.endpoint_hashkv(rows)
    if last:
        raise Exit(ERROR, last)


COMMANDS: Final = {
    "endpoint health": Leaf(
        _health, "health", (), "Checks the healthiness of endpoints specified in `--endpoints` flag"
    ),
    "endpoint status": Leaf(
        _status,
        "status",
        (),
        "When --write-out is set to simple, this command prints out comma-separated status lists for each "
        "endpoint.\nThe items in the lists are endpoint, ID, version, storage version, db size, in use, "
        "percentage not in use, quota, is leader, is learner, raft term, raft index, raft applied index, "
        "errors, downgrade target version, downgrade enabled.",
    ),
    "endpoint hashkv": Leaf(
        _hash_kv,
        "hashkv",
        (integer("rev", "maximum revision to hash (default: latest revision)"),),
        "Prints the KV history hash for each endpoint in --endpoints",
    ),
}
