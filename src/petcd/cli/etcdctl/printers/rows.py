"""The cells that the simple and the table form of a response share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from petcd.cli.etcdctl.golang import size

if TYPE_CHECKING:
    from petcd.cli.etcdctl.printers import EndpointHash, EndpointStatus, Health
    from petcd.pb import etcdserverpb as pb

HEALTH_HEADER: Final = ("endpoint", "health", "took", "error")
STATUS_HEADER: Final = (
    "endpoint",
    "ID",
    "version",
    "storage version",
    "db size",
    "in use",
    "percentage not in use",
    "quota",
    "is leader",
    "is learner",
    "raft term",
    "raft index",
    "raft applied index",
    "errors",
    "downgrade target version",
    "downgrade enabled",
)
HASH_HEADER: Final = ("endpoint", "hash", "hash revision")
MEMBER_HEADER: Final = ("ID", "status", "name", "peer addrs", "client addrs", "is learner")


def yes(value: object) -> str:
    return "true" if value else "false"


def health(row: Health) -> tuple[str, ...]:
    return row.endpoint, yes(row.healthy), row.took, row.error


def status(row: EndpointStatus) -> tuple[str, ...]:
    s = row.status
    header = s.header
    member = header.member_id if header else 0
    unused = 100 - s.dbSizeInUse * 100 // s.dbSize if s.dbSize else 0
    info = s.downgradeInfo
    return (
        row.endpoint,
        f"{member:x}",
        s.version,
        s.storageVersion,
        size(s.dbSize),
        size(s.dbSizeInUse),
        f"{unused}%",
        size(s.dbSizeQuota),
        yes(s.leader == member),
        yes(s.isLearner),
        str(s.raftTerm),
        str(s.raftIndex),
        str(s.raftAppliedIndex),
        ", ".join(s.errors),
        info.targetVersion if info else "",
        yes(info and info.enabled),
    )


def hash_kv(row: EndpointHash) -> tuple[str, ...]:
    return row.endpoint, str(row.response.hash), str(row.response.hash_revision)


def member(m: pb.Member) -> tuple[str, ...]:
    return (
        f"{m.ID:x}",
        "started" if m.name else "unstarted",
        m.name,
        ",".join(m.peerURLs),
        ",".join(m.clientURLs),
        yes(m.isLearner),
    )
