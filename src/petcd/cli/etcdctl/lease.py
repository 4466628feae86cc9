"""lease grant, revoke, timetolive, list and keep-alive (contract cli section 3.7)."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from petcd import errors
from petcd.cli.etcdctl import golang, methods
from petcd.cli.etcdctl.commands import BAD_CONNECTION, ERROR, Exit, Leaf, bad_args, write
from petcd.cli.etcdctl.grammar import boolean
from petcd.cli.etcdctl.session import CallFailed
from petcd.pb.etcdserverpb import lease as pb

if TYPE_CHECKING:
    from petcd.cli.etcdctl.context import Context


def _lease_id(text: str) -> int:
    try:
        return golang.parse_int(text, 16)
    except golang.ParseError as error:
        bad_args(f"bad lease ID arg ({error}), expecting ID in Hex")


def _grant(context: Context) -> None:
    if len(context.arguments) != 1:
        bad_args("lease grant command needs TTL argument")
    try:
        ttl = golang.parse_int(context.arguments[0])
    except golang.ParseError as error:
        bad_args(f"bad TTL ({error})")
    request = pb.LeaseGrantRequest(TTL=ttl)
    try:
        response = context.session.call_raw(methods.LEASE_GRANT, request, pb.LeaseGrantResponse)
    except CallFailed as failure:
        raise Exit(ERROR, f"failed to grant lease ({failure.message})") from None
    context.printer.grant(response)


def _revoke(context: Context) -> None:
    if len(context.arguments) != 1:
        bad_args("lease revoke command needs 1 argument")
    lease = _lease_id(context.arguments[0])
    request = pb.LeaseRevokeRequest(ID=lease)
    try:
        response = context.session.call_raw(methods.LEASE_REVOKE, request, pb.LeaseRevokeResponse)
    except CallFailed as failure:
        raise Exit(ERROR, f"failed to revoke lease ({failure.message})") from None
    context.printer.revoke(lease, response)


def _time_to_live(context: Context) -> None:
    if len(context.arguments) != 1:
        bad_args("lease timetolive command needs lease ID as argument")
    lease = _lease_id(context.arguments[0])
    request = pb.LeaseTimeToLiveRequest(ID=lease, keys=context.flags["keys"])
    try:
        response = context.timeless().call_raw(
            methods.LEASE_TIME_TO_LIVE, request, pb.LeaseTimeToLiveResponse, read=True
        )
    except CallFailed as failure:
        raise Exit(BAD_CONNECTION, failure.message) from None
    context.printer.time_to_live(response, keys=context.flags["keys"])


def _list(context: Context) -> None:
    try:
        response = context.timeless().call_raw(
            methods.LEASE_LEASES, pb.LeaseLeasesRequest(), pb.LeaseLeasesResponse, read=True
        )
    except CallFailed as failure:
        raise Exit(BAD_CONNECTION, failure.message) from None
    context.printer.leases(response)


def _keep_alive(context: Context) -> None:
    if len(context.arguments) != 1:
        bad_args("lease keep-alive command needs lease ID as argument")
    lease = _lease_id(context.arguments[0])
    session = context.timeless()
    once = context.flags["once"]
    request = pb.LeaseKeepAliveRequest(ID=lease).encode()
    while True:
        try:
            stream = session.stream(methods.LEASE_KEEP_ALIVE)
            while True:
                stream.send(request)
                message = stream.receive()
                if message is None:
                    raise CallFailed(errors.StatusError(errors.Code.UNAVAILABLE, "the stream ended"), "EOF")
                response = pb.LeaseKeepAliveResponse.decode(message)
                if response.TTL <= 0:
                    if once:
                        raise Exit(BAD_CONNECTION, errors.LeaseNotFound.text)
                    _expired(context, lease)
                    return
                context.printer.keep_alive(response)
                if once:
                    return
                time.sleep(response.TTL / 3)
        except CallFailed as failure:
            if once:
                raise Exit(BAD_CONNECTION, failure.message) from None
            if not failure.temporary:
                _expired(context, lease)
                return
            time.sleep(0.5)


def _expired(context: Context, lease: int) -> None:
    if context.flags["write-out"] == "simple":
        write(f"lease {golang.uint64(lease):016x} expired or revoked.\n")


COMMANDS: Final = {
    "lease grant": Leaf(_grant, "grant <ttl>", (), "Creates leases"),
    "lease revoke": Leaf(_revoke, "revoke <leaseID>", (), "Revokes leases"),
    "lease timetolive": Leaf(
        _time_to_live,
        "timetolive <leaseID> [options]",
        (boolean("keys", "Get keys attached to this lease"),),
        "Get lease information",
    ),
    "lease list": Leaf(_list, "list", (), "List all active leases"),
    "lease keep-alive": Leaf(
        _keep_alive,
        "keep-alive [options] <leaseID>",
        (boolean("once", "Resets the keep-alive time to its original value and exits immediately"),),
        "Keeps leases alive (renew)",
    ),
}
