"""put, get, del and compaction (contract cli sections 3.1, 3.2, 3.3, 3.5)."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from petcd.cli.etcdctl import golang, methods
from petcd.cli.etcdctl.commands import BAD_FEATURE, ERROR, Exit, Leaf, bad_args, complain, write
from petcd.cli.etcdctl.golang import raw
from petcd.cli.etcdctl.grammar import FlagSet, boolean, integer, string
from petcd.cli.etcdctl.session import CallFailed
from petcd.pb.etcdserverpb import kv as pb

if TYPE_CHECKING:
    from petcd.cli.etcdctl.context import Context

FROM_KEY_END: Final = b"\0"
_BOTH: Final = "`--prefix` and `--from-key` cannot be set at the same time, choose one"
_TOO_MANY: Final = "too many arguments, only accept one argument when `--prefix` or `--from-key` is set"
_ORDERS: Final = {"ASCEND": 1, "DESCEND": 2, "": 0}
_TARGETS: Final = {"": 0, "KEY": 0, "VERSION": 1, "CREATE": 2, "MODIFY": 3, "VALUE": 4}


def prefix_end(prefix: bytes) -> bytes:
    """The end of the range of keys that start with ``prefix``; one zero byte when there is no end."""
    stripped = prefix.rstrip(b"\xff")
    return stripped[:-1] + bytes([stripped[-1] + 1]) if stripped else FROM_KEY_END


def key_range(flags: FlagSet, arguments: list[str]) -> tuple[bytes, bytes]:
    """Key and range end of get and del from their arguments, ``--prefix`` and ``--from-key``."""
    key = raw(arguments[0])
    if len(arguments) > 1:
        if flags["prefix"] or flags["from-key"]:
            bad_args(_TOO_MANY)
        return key, raw(arguments[1])
    if flags["prefix"]:
        return (key, prefix_end(key)) if key else (b"\0", FROM_KEY_END)
    if flags["from-key"]:
        return key or b"\0", FROM_KEY_END
    return key, b""


# --- put ------------------------------------------------------------------------------------------------

PUT_FLAGS: Final = (
    string("lease", "lease ID (in hexadecimal) to attach to the key", default="0"),
    boolean("prev-kv", "return the previous key-value pair before modification"),
    boolean("ignore-value", "updates the key using its current value"),
    boolean("ignore-lease", "updates the key using its current lease"),
)


def put_request(flags: FlagSet, arguments: list[str]) -> pb.PutRequest:
    """The request of a ``put`` line, of the shell or of a transaction; a missing value is read from stdin."""
    if not arguments:
        bad_args("put command needs 1 argument and input from stdin or 2 arguments")
    key = raw(arguments[0])
    if flags["ignore-value"] and len(arguments) > 1:
        bad_args("put command needs only 1 argument when 'ignore-value' is set")
    value = b""
    if not flags["ignore-value"]:
        if len(arguments) > 1:
            value = raw(arguments[1])
        else:
            value = sys.stdin.buffer.read()
            if not value:
                bad_args("put command needs 1 argument and input from stdin or 2 arguments")
    try:
        lease = golang.parse_int(flags["lease"], 16)
    except golang.ParseError as error:
        bad_args(f"bad lease ID ({error}), expecting ID in Hex")
    return pb.PutRequest(
        key=key,
        value=value,
        lease=lease,
        prev_kv=flags["prev-kv"],
        ignore_value=flags["ignore-value"],
        ignore_lease=flags["ignore-lease"],
    )


def _put(context: Context) -> None:
    request = put_request(context.flags, context.arguments)
    response = context.call(methods.PUT, request, pb.PutResponse)
    context.printer.put(response)


# --- get ------------------------------------------------------------------------------------------------

GET_FLAGS: Final = (
    string("consistency", "Linearizable(l) or Serializable(s)", default="l"),
    string("order", "Order of results; ASCEND or DESCEND (ASCEND by default)"),
    string("sort-by", "Sort target; CREATE, KEY, MODIFY, VALUE, or VERSION"),
    integer("limit", "Maximum number of results"),
    boolean("prefix", "Get keys with matching prefix"),
    boolean("from-key", "Get keys that are greater than or equal to the given key using byte compare"),
    integer("rev", "Specify the kv revision"),
    boolean("keys-only", "Get only the keys"),
    boolean("count-only", "Get only the count"),
    boolean("print-value-only", 'Only write values when using the "simple" output format'),
    integer("min-create-rev", "Minimum create revision"),
    integer("max-create-rev", "Maximum create revision"),
    integer("min-mod-rev", "Minimum modification revision"),
    integer("max-mod-rev", "Maximum modification revision"),
    boolean("stream", "Use the streaming range RPC"),
)


def get_request(flags: FlagSet, arguments: list[str]) -> pb.RangeRequest:
    """The request of a ``get`` line, of the shell or of a transaction. Checks stand in Go's order."""
    if flags["prefix"] and flags["from-key"]:
        bad_args(_BOTH)
    if flags["keys-only"] and flags["count-only"]:
        bad_args("`--keys-only` and `--count-only` cannot be set at the same time, choose one")
    if not arguments:
        bad_args("get command needs one argument as key and an optional argument as range_end")
    if flags["consistency"] not in ("l", "s"):
        raise Exit(BAD_FEATURE, f"unknown consistency flag {golang.quote(flags['consistency'])}")
    if len(arguments) > 1 and (flags["prefix"] or flags["from-key"]):
        bad_args(_TOO_MANY)
    order = _ORDERS.get(flags["order"].upper())
    if order is None:
        raise Exit(BAD_FEATURE, f"bad sort order {flags['order']}")
    target = _TARGETS.get(flags["sort-by"].upper())
    if target is None:
        raise Exit(BAD_FEATURE, f"bad sort target {flags['sort-by']}")
    if flags["sort-by"] and not order and target:
        order = 1
    if not target and order == 1:
        # Keys come in ascending order anyway; Go's client spares the server the sort.
        order = 0
    key, end = key_range(flags, arguments)
    for name, short in (("create", "Create"), ("mod", "Mod")):
        low, high = flags[f"min-{name}-rev"], flags[f"max-{name}-rev"]
        if low and high and low > high:
            raise Exit(BAD_FEATURE, f"getMin{short}Rev(={low}) > getMax{short}Rev(={high})")
    return pb.RangeRequest(
        key=key,
        range_end=end,
        limit=flags["limit"],
        revision=flags["rev"],
        sort_order=order,
        sort_target=target,
        serializable=flags["consistency"] == "s",
        keys_only=flags["keys-only"],
        count_only=flags["count-only"],
        min_mod_revision=flags["min-mod-rev"],
        max_mod_revision=flags["max-mod-rev"],
        min_create_revision=flags["min-create-rev"],
        max_create_revision=flags["max-create-rev"],
    )


def _get(context: Context) -> None:
    flags = context.flags
    request = get_request(flags, context.arguments)
    if flags["stream"]:
        response = _range_stream(context, request)
    else:
        response = context.call(methods.RANGE, request, pb.RangeResponse, read=True)
    if flags["count-only"] and flags["write-out"] != "fields":
        bad_args("--count-only is only for `--write-out=fields`")
    if flags["print-value-only"]:
        if flags["write-out"] != "simple":
            bad_args("print-value-only is only for `--write-out=simple`")
        context.printer.value_only = True
    context.printer.get(response)


def _chunks(context: Context, request: pb.RangeRequest) -> Iterator[bytes]:
    try:
        stream = context.session.stream(methods.RANGE_STREAM, deadline=context.deadline())
        stream.send(request.encode())
        stream.half_close()
        while (message := stream.receive()) is not None:
            yield message
    except CallFailed as failure:
        raise Exit(ERROR, failure.message) from None


def _range_stream(context: Context, request: pb.RangeRequest) -> pb.RangeResponse:
    """The chunks of a RangeStream as one response."""
    whole = pb.RangeResponse()
    for message in _chunks(context, request):
        chunk = pb.RangeStreamResponse.decode(message).range_response
        if chunk is None:
            continue
        whole.kvs.extend(chunk.kvs)
        whole.header = chunk.header or whole.header
        whole.more = chunk.more
        whole.count = chunk.count or whole.count
    return whole


# --- del ------------------------------------------------------------------------------------------------

DEL_FLAGS: Final = (
    boolean("prefix", "delete keys with matching prefix"),
    boolean("from-key", "delete keys that are greater than or equal to the given key using byte compare"),
    boolean("prev-kv", "return deleted key-value pairs"),
    boolean("range", "delete range of keys without delay"),
)
_DELAY_SECONDS: Final = 2.0


def delete_request(flags: FlagSet, arguments: list[str]) -> pb.DeleteRangeRequest:
    """The request of a ``del`` line, of the shell or of a transaction."""
    if flags["prefix"] and flags["from-key"]:
        bad_args(_BOTH)
    if not 1 <= len(arguments) <= 2:
        bad_args("del command needs one argument as key and an optional argument as range_end")
    key, end = key_range(flags, arguments)
    return pb.DeleteRangeRequest(key=key, range_end=end, prev_kv=flags["prev-kv"])


def _delete(context: Context) -> None:
    flags, arguments = context.flags, context.arguments
    request = delete_request(flags, arguments)
    if len(arguments) == 2 and not flags["range"]:
        first, last = golang.quote(raw(arguments[0])), golang.quote(raw(arguments[1]))
        complain(
            f"Warning: Keys between {first} and {last} will be deleted. Please interrupt the command within "
            "next 2 seconds to cancel. You can provide `--range` flag to avoid the delay."
        )
        time.sleep(_DELAY_SECONDS)
        context.started += _DELAY_SECONDS
    response = context.call(methods.DELETE_RANGE, request, pb.DeleteRangeResponse)
    context.printer.delete(response)


# --- compaction -----------------------------------------------------------------------------------------


def _compaction(context: Context) -> None:
    if len(context.arguments) != 1:
        bad_args("compaction command needs 1 argument")
    try:
        revision = golang.parse_int(context.arguments[0])
    except golang.ParseError as error:
        raise Exit(ERROR, str(error)) from None
    request = pb.CompactionRequest(revision=revision, physical=context.flags["physical"])
    context.call(methods.COMPACT, request, pb.CompactionResponse)
    write(f"compacted revision {revision}\n")


COMMANDS: Final = {
    "put": Leaf(
        _put,
        "put [options] <key> <value> (<value> can also be given from stdin)",
        PUT_FLAGS,
        "Puts the given key into the store.\n\n"
        "When <value> begins with '-', <value> is interpreted as a flag.\n"
        "Insert '--' for workaround:\n\n"
        "$ put <key> -- <value>\n$ put -- <key> <value>\n\n"
        "If <value> isn't given as a command line argument and '--ignore-value' is not specified,\n"
        "this command tries to read the value from standard input.\n\n"
        "If <lease> isn't given as a command line argument and '--ignore-lease' is not specified,\n"
        "this command tries to read the value from standard input.\n",
    ),
    "get": Leaf(_get, "get [options] <key> [range_end]", GET_FLAGS, "Gets the key or a range of keys"),
    "del": Leaf(
        _delete,
        "del [options] <key> [range_end]",
        DEL_FLAGS,
        "Removes the specified key or range of keys [key, range_end)",
    ),
    "compaction": Leaf(
        _compaction,
        "compaction [options] <revision>",
        (boolean("physical", "'true' to wait for compaction to physically remove all old revisions"),),
        "Compacts the event history in etcd",
    ),
}
