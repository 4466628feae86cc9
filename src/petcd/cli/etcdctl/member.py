"""member list, add, remove, update and promote (contract cli section 3.10)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from petcd.cli.etcdctl import golang, methods
from petcd.cli.etcdctl.commands import BAD_FEATURE, ERROR, Exit, Leaf, bad_args, write
from petcd.cli.etcdctl.golang import quote
from petcd.cli.etcdctl.grammar import boolean, string, strings
from petcd.pb.etcdserverpb import cluster as pb

if TYPE_CHECKING:
    from petcd.cli.etcdctl.context import Context

_PEER_URLS: Final = strings("peer-urls", "comma separated peer URLs for the new member.")


def _member_id(arguments: list[str]) -> int:
    if len(arguments) != 1:
        bad_args("member ID is not provided")
    try:
        return golang.parse_uint(arguments[0], 16)
    except golang.ParseError as error:
        bad_args(f"bad member ID arg ({error}), expecting ID in Hex")


def _check_urls(urls: list[str]) -> None:
    """The client refuses what is no URL, before it asks anybody: older servers end when they get one."""
    from petcd.server.url import UrlError, parse_url

    try:
        for url in urls:
            parse_url(url)
    except UrlError as refused:
        raise Exit(ERROR, str(refused)) from None


def _list(context: Context) -> None:
    consistency = context.flags["consistency"]
    if consistency not in ("l", "s"):
        raise Exit(BAD_FEATURE, f"unknown consistency flag {quote(consistency)}")
    request = pb.MemberListRequest(linearizable=consistency == "l")
    response = context.call(methods.MEMBER_LIST, request, pb.MemberListResponse, read=True)
    context.printer.member_list(response)


def _add(context: Context) -> None:
    arguments, urls = context.arguments, context.flags["peer-urls"]
    if not arguments:
        bad_args("member name not provided")
    if len(arguments) > 1:
        hints = "".join(
            f", did you mean --peer-urls={argument}" for argument in arguments if argument.startswith("http")
        )
        bad_args("too many arguments" + hints)
    if not urls:
        bad_args("member peer urls not provided")
    name = arguments[0]
    session = context.session
    _check_urls(urls)
    request = pb.MemberAddRequest(peerURLs=urls, isLearner=context.flags["learner"])
    response = session.call(methods.MEMBER_ADD, request, pb.MemberAddResponse)
    context.printer.member_add(response)
    if context.flags["write-out"] != "simple":
        return
    new = response.member.ID if response.member else 0
    members = response.members
    while not any(new == member.ID for member in members):
        # A member that has not applied the change yet gives an old list.
        listed = session.call(
            methods.MEMBER_LIST, pb.MemberListRequest(linearizable=True), pb.MemberListResponse, read=True
        )
        members = listed.members
    initial = [
        f"{name if new == member.ID else member.name}={url}" for member in members for url in member.peerURLs
    ]
    write(
        f"\nETCD_NAME={quote(name)}\n"
        f"ETCD_INITIAL_CLUSTER={quote(','.join(initial))}\n"
        f"ETCD_INITIAL_ADVERTISE_PEER_URLS={quote(','.join(urls))}\n"
        'ETCD_INITIAL_CLUSTER_STATE="existing"\n'
    )


def _remove(context: Context) -> None:
    member = _member_id(context.arguments)
    response = context.call(methods.MEMBER_REMOVE, pb.MemberRemoveRequest(ID=member), pb.MemberRemoveResponse)
    context.printer.member_remove(member, response)


def _update(context: Context) -> None:
    member = _member_id(context.arguments)
    urls = context.flags["peer-urls"]
    if not urls:
        bad_args("member peer urls not provided")
    session = context.session
    _check_urls(urls)
    response = session.call(
        methods.MEMBER_UPDATE, pb.MemberUpdateRequest(ID=member, peerURLs=urls), pb.MemberUpdateResponse
    )
    context.printer.member_update(member, response)


def _promote(context: Context) -> None:
    member = _member_id(context.arguments)
    response = context.call(
        methods.MEMBER_PROMOTE, pb.MemberPromoteRequest(ID=member), pb.MemberPromoteResponse
    )
    context.printer.member_promote(member, response)


COMMANDS: Final = {
    "member list": Leaf(
        _list,
        "list",
        (string("consistency", "Linearizable(l) or Serializable(s)", default="l"),),
        "When --write-out is set to simple, this command prints out comma-separated member lists for each "
        "endpoint.\nThe items in the lists are ID, Status, Name, Peer Addrs, Client Addrs, Is Learner.",
    ),
    "member add": Leaf(
        _add,
        "add <memberName> [options]",
        (_PEER_URLS, boolean("learner", "indicates if the new member is raft learner")),
        "Adds a member into the cluster",
    ),
    "member remove": Leaf(_remove, "remove <memberID>", (), "Removes a member from the cluster"),
    "member update": Leaf(
        _update,
        "update <memberID> [options]",
        (strings("peer-urls", "comma separated peer URLs for the updated member."),),
        "Updates a member in the cluster",
    ),
    "member promote": Leaf(_promote, "promote <memberID>", (), "Promotes a non-voting member in the cluster"),
}
