"""alarm, defrag, move-leader and downgrade (contract cli sections 3.8, 3.9, 3.12, 3.21)."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from petcd.cli.etcdctl import golang, methods
from petcd.cli.etcdctl.commands import BAD_ARGS, ERROR, Exit, Leaf, bad_args, complain, write
from petcd.cli.etcdctl.endpoint import endpoints, session_to
from petcd.cli.etcdctl.grammar import boolean
from petcd.cli.etcdctl.session import CallFailed
from petcd.pb.etcdserverpb import maintenance as pb

if TYPE_CHECKING:
    from petcd.cli.etcdctl.context import Context

_GET, _DEACTIVATE = 0, 2


def _alarm_list(context: Context) -> None:
    if context.arguments:
        bad_args("alarm list command accepts no arguments")
    response = context.call(methods.ALARM, pb.AlarmRequest(action=_GET), pb.AlarmResponse, read=True)
    context.printer.alarm(response)


def _alarm_disarm(context: Context) -> None:
    if context.arguments:
        bad_args("alarm disarm command accepts no arguments")
    session = context.session
    raised = session.call(methods.ALARM, pb.AlarmRequest(action=_GET), pb.AlarmResponse, read=True)
    # As in Go's client: what it made up of several answers has no header.
    whole = pb.AlarmResponse()
    for alarm in raised.alarms:
        request = pb.AlarmRequest(action=_DEACTIVATE, memberID=alarm.memberID, alarm=alarm.alarm)
        cleared = session.call(methods.ALARM, request, pb.AlarmResponse)
        whole.alarms.extend(cleared.alarms)
    context.printer.alarm(whole)


def _defrag(context: Context) -> None:
    failed = False
    for endpoint in endpoints(context):
        session = session_to(context, endpoint)
        began = time.monotonic_ns()
        try:
            session.login()
            session.call_raw(methods.DEFRAGMENT, pb.DefragmentRequest(), pb.DefragmentResponse)
            took = golang.duration(time.monotonic_ns() - began)
            write(f"Finished defragmenting etcd member[{endpoint}]. took {took}\n")
        except CallFailed as failure:
            failed = True
            took = golang.duration(time.monotonic_ns() - began)
            complain(f"Failed to defragment etcd member[{endpoint}]. took {took}. ({failure.message})")
        finally:
            session.close()
    if failed:
        raise Exit(ERROR)


def _move_leader(context: Context) -> None:
    if len(context.arguments) != 1:
        bad_args("move-leader command needs 1 argument")
    try:
        target = golang.parse_uint(context.arguments[0], 16)
    except golang.ParseError as error:
        bad_args(str(error))
    context.settle()
    tried = context.endpoints()
    for endpoint in tried:
        session = session_to(context, endpoint)
        try:
            session.login()
            status = session.call(methods.STATUS, pb.StatusRequest(), pb.StatusResponse, read=True)
            member = status.header.member_id if status.header else 0
            if status.leader != member:
                continue
            response = session.call(
                methods.MOVE_LEADER, pb.MoveLeaderRequest(targetID=target), pb.MoveLeaderResponse
            )
            context.printer.move_leader(member, target, response)
            return
        finally:
            session.close()
    raise Exit(BAD_ARGS, f"no leader endpoint given at [{' '.join(tried)}]")


def _downgrade(context: Context, action: str, number: int) -> None:
    arguments = context.arguments
    if number != 2:
        if not arguments:
            bad_args("TARGET_VERSION not provided")
        if len(arguments) > 1:
            bad_args("too many arguments")
        if not arguments[0]:
            bad_args("target version not provided")
    version = arguments[0] if number != 2 else ""
    request = pb.DowngradeRequest(action=number, version=version)
    response = context.call(methods.DOWNGRADE, request, pb.DowngradeResponse)
    context.printer.downgrade(action, response)


def _validate(context: Context) -> None:
    _downgrade(context, "validate", 0)


def _enable(context: Context) -> None:
    _downgrade(context, "enable", 1)


def _cancel(context: Context) -> None:
    _downgrade(context, "cancel", 2)


COMMANDS: Final = {
    "alarm list": Leaf(_alarm_list, "list", (), "Lists all alarms"),
    "alarm disarm": Leaf(_alarm_disarm, "disarm", (), "Disarms all alarms"),
    "defrag": Leaf(
        _defrag,
        "defrag",
        (boolean("cluster", "use all endpoints from the cluster member list"),),
        "Defragments the storage of the etcd members with given endpoints",
    ),
    "move-leader": Leaf(
        _move_leader,
        "move-leader <transferee-member-id>",
        (),
        "Transfers leadership to another etcd cluster member.",
    ),
    "downgrade validate": Leaf(
        _validate,
        "validate <TARGET_VERSION>",
        (),
        "Validate downgrade capability before starting downgrade",
    ),
    "downgrade enable": Leaf(_enable, "enable <TARGET_VERSION>", (), "Start a downgrade action to cluster"),
    "downgrade cancel": Leaf(_cancel, "cancel", (), "Cancel the ongoing downgrade action to cluster"),
}
