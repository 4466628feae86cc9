"""Why a case may differ from Debian's 3.4.23, and what the difference must be to the letter.

A reason that can say how the older release's outcome turns into ours does so: ``theirs`` rewrites Go's
outcome and ``ours`` takes out of our own what the older release cannot have. After both, the two must be
equal. A reason without either is a layout that later releases changed altogether; then only the exit status
is compared.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

OUTCOME = tuple[bytes, bytes, int]
Rewrite = Callable[[OUTCOME], OUTCOME]


def same(outcome: OUTCOME) -> OUTCOME:
    return outcome


@dataclass(frozen=True)
class Reason:
    text: str
    theirs: Rewrite = same
    ours: Rewrite = same
    layout: bool = False
    """What is left to compare after both is not the whole."""

    server: str = ""
    """The kind of server it shows with; empty: with any."""

    @property
    def exact(self) -> bool:
        """Whether the difference is checked to the letter."""
        return self.theirs is not same or self.ours is not same

    def __and__(self, other: Reason) -> Reason:
        return Reason(
            f"{self.text}; {other.text}",
            lambda outcome: other.theirs(self.theirs(outcome)),
            lambda outcome: other.ours(self.ours(outcome)),
            self.layout or other.layout,
        )


def replaced(pattern: bytes, by: bytes) -> Rewrite:
    """A rewrite of both streams by one regular expression."""
    compiled = re.compile(pattern, re.MULTILINE)
    return lambda outcome: (compiled.sub(by, outcome[0]), compiled.sub(by, outcome[1]), outcome[2])


def _usage_34(outcome: OUTCOME) -> OUTCOME:
    out, err, number = outcome
    message, _, again = err.partition(b"\n\n")
    assert out.startswith(b"NAME:\n"), out
    assert again == message + b"\n", err
    return b"", message + b"\n", number


def _usage_37(outcome: OUTCOME) -> OUTCOME:
    out, err, number = outcome
    message, usage, rest = err.partition(b"\nUsage:\n")
    assert usage, err
    assert rest.endswith(b"\n\n"), err
    return out, message + b"\n", number


def _once(outcome: OUTCOME) -> OUTCOME:
    out, err, number = outcome
    first, end, again = err.partition(b"Run 'etcdctl --help' for usage.\n")
    assert again == first, err
    return out, first + end, number


def _any_help(outcome: OUTCOME) -> OUTCOME:
    out, err, number = outcome
    assert b"USAGE:" in out or b"Usage:" in out, out
    return b"<help>", err, number


def _to_stdout(outcome: OUTCOME) -> OUTCOME:
    out, err, number = outcome
    lines = err.splitlines(keepends=True)
    healthy = [line for line in lines if b" is healthy: " in line]
    return out + b"".join(healthy), b"".join(line for line in lines if line not in healthy), number


_BOX = {ord(char): "+" for char in "┌┬┐├┼┤└┴┘"} | {ord("─"): "-", ord("│"): "|"}


def _ascii(outcome: OUTCOME) -> OUTCOME:
    out, err, number = outcome
    assert "┌".encode() in out, out
    text = out.decode().translate(_BOX).encode()
    text = re.sub(rb"-{3,}(?=[-+])", b"-", text)
    return re.sub(rb"(?<=\|) +| +(?=\|)", b" ", text), err, number


_STATUS_34 = (0, 1, 2, 4, 8, 9, 10, 11, 12, 13)


def _fewer_columns(outcome: OUTCOME) -> OUTCOME:
    """Rows of ours without the columns that 3.6 added, for status and hashkv, simple and table."""
    out, err, number = outcome
    lines = []
    for line in out.decode().splitlines():
        for glue in (", ", "|", "+"):
            cells = line.strip(glue if glue != ", " else "").split(glue)
            if len(cells) == 16:
                cells = [cells[at] for at in _STATUS_34]
            elif len(cells) == 3:
                del cells[2]
            else:
                continue
            line = glue.join(cells) if glue == ", " else f"{glue}{glue.join(cells)}{glue}"
            break
        lines.append(line + "\n")
    return _no_index(("".join(lines).encode(), err, number))


_INDEX = re.compile(rb"((?:true|false)(?:, | \| )\d+(?:, | \| ))\d+(, | \| )\d+")


def _no_index(outcome: OUTCOME) -> OUTCOME:
    """Without raft's index: the later tool's health check asks for alarms, which are entries of the log."""
    return _INDEX.sub(rb"\1<n>\2<n>", outcome[0]), outcome[1], outcome[2]


_no_flags = replaced(rb"^  (?:    |-\w, )--.*\n", b"")
_NEWER_FIELDS = (
    rb'^"(?:StorageVersion|DBSizeInUse|DBSizeQuota|HashRevision|DowngradeTargetVersion|DowngradeEnabled)"'
    rb" : .*\n"
)

USAGE = Reason(
    "3.4 prints usage on stdout and the error twice; 3.7 prints both once on stderr",
    _usage_34,
    _usage_37,
    layout=True,
)
TWICE = Reason("up to 3.5 an unknown command's error is printed twice", _once)
HELP = Reason("help has the layout of 3.7", _any_help, _any_help, layout=True)
NEW = Reason("the flag or command is newer than 3.4")
REVISION_ZERO = Reason(
    "from 3.6 on a revision of 0 has no line in fields", replaced(rb'^"Revision" : 0\n', b"")
)
TXN_JSON = Reason(
    "3.4 spells the members of responses in capitals",
    lambda outcome: (
        outcome[0]
        .replace(b"ResponsePut", b"response_put")
        .replace(b"ResponseRange", b"response_range")
        .replace(b"ResponseDeleteRange", b"response_delete_range"),
        *outcome[1:],
    ),
)
COLUMNS = Reason("3.6 added columns", _no_index, _fewer_columns)
FIELDS = Reason("3.6 added fields", ours=replaced(_NEWER_FIELDS, b""))
FIELDS_JSON = Reason(
    "3.6 added fields, which a server of 3.7 sends",
    ours=replaced(
        rb',"(?:hash_revision":\d+|storageVersion":"[^"]*"|dbSizeQuota":\d+|downgradeInfo":\{\})', b""
    ),
    server="petcd",
)
BOX = Reason("tables are drawn with box characters from 3.7 on", ours=_ascii)
DELAY = Reason(
    "from 3.6 on del with a range warns and waits",
    ours=replaced(rb"^Warning: Keys between .* to avoid the delay\.\n", b""),
)
STDERR = Reason("up to 3.4 healthy lines go to stderr", _to_stdout)
CANCEL_REASON = Reason(
    "3.5 and later add CancelReason to json watch responses",
    ours=replaced(rb',"CancelReason":"[^"]*"', b""),
)
MEMBER_HEX = Reason(
    "3.4 ignores --hex in the json of members",
    replaced(rb'("(?:cluster_id|member_id|ID)":)<id>', rb'\1"<hex>"'),
)
FIELDS_HEX = Reason(
    "3.4 ignores --hex in fields",
    replaced(rb'^("(?:ClusterID|MemberID|ID|Leader)" : )<id>$|^("\w*Lease" : )\d+$', rb"\1\2<hex>"),
)
LEARNER = Reason(
    "from 3.6 on the text says `added as learner to`", replaced(rb" added to ", b" added as learner to ")
)
TOOK = Reason("from 3.6 on defrag says how long it took", replaced(rb"\]$", b"]. took <time>"))
TOOK_FAILED = Reason("from 3.6 on defrag says how long it took", replaced(rb"\] \(", b"]. took <time>. ("))
ALARM = Reason("3.4's alarm lines end with a blank", replaced(rb"^(memberID:.*) $", rb"\1"))
CAPITAL = Reason(
    "from 3.5 on: `error reading`, not `Error reading`",
    replaced(b"^Error: Error reading", b"Error: error reading"),
)
PANIC = Reason("the Go tool panics; ours says what is wrong")
EMPTY_ALARMS = Reason("3.4 crashes here, because its server sends no header")
VERSION = Reason(
    "the version is 3.7.1",
    lambda outcome: replaced(rb"3\.4$", b"3.7")(replaced(rb"3\.4\.23$", b"3.7.1")(outcome)),
)
LOCK_KILLED = Reason("up to 3.4 the status is always 1", lambda outcome: (*outcome[:2], 255))
LOCK_STATUS = Reason("up to 3.4 the status is always 1", lambda outcome: (*outcome[:2], 7))
ROOT_RANGE = Reason(
    "from 3.6 on root shows its unlimited range",
    replaced(rb"^(KV (?:Read|Write):)$", rb"\1\n\t[, <open ended>"),
)
QUOTES = Reason(
    "from 3.5 on the command in the text stands in quotes",
    replaced(rb"Delete with (.*) first", rb"Delete with '\1' first"),
)
FILENAME = Reason(
    "up to 3.5 the text does not name the argument",
    replaced(rb"expects one argument$", b"expects one argument <filename>"),
)
HELP_TOPIC = Reason(
    "usage goes to stderr from 3.7 on",
    lambda outcome: (b"", *outcome[1:]),
    lambda outcome: (outcome[0], outcome[1].partition(b"Usage:\n")[0], outcome[2]),
    layout=True,
)
NULL = Reason("from 3.6 on json of no endpoint is null", replaced(rb"^\[\]$", b"null"))
SERVER_VERSION = Reason(
    "from 3.6 on the server's version follows, where the server tells it",
    ours=replaced(rb"^Server version .*\n", b""),
)
DEBUG = Reason(
    "3.6 and 3.7 have more global flags",
    ours=replaced(rb"^ETCDCTL_(AUTH_JWT_TOKEN|MAX_REQUEST_BYTES|MAX_RECV_BYTES)=.*\n", b""),
)
TXN_FLAG = Reason("get has more flags from 3.6 on", _no_flags, _no_flags, layout=True)
SINGLE = Reason("3.4 cuts single-quoted words wrongly")
HEALTH_ALARM = Reason("from 3.5 on health looks at alarms")
LOOKUP = Reason("the resolver words its failures itself")
SKIP_VERIFY = Reason("from 3.6 on --insecure-skip-tls-verify alone turns TLS on")
NO_CA = Reason("OpenSSL and Go word it differently when a file holds no certificate")
