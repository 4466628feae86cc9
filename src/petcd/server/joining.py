"""What a member that joins must find out from those that run, as pure functions of their answers.

The caller asks ``/members`` and ``/version`` of the others' peer URLs and hands the answers in. Texts are
etcd's, because they are the whole of what an operator sees of a join that failed.
Source: contract peer section 9.1.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Final, NamedTuple

from petcd import ETCD_VERSION
from petcd.logs import Logger
from petcd.server.gotext import quote
from petcd.server.ids import hex_id
from petcd.server.membership import ClusterMember

CLUSTER_ID_HEADER: Final = "x-etcd-cluster-id"
MEMBERS_TIMEOUT_SECONDS: Final = 10.0
MIN_CLUSTER_VERSION: Final = (3, 0)


class JoinError(Exception):
    """The running cluster is not the one this member was told to join."""


class RunningCluster(NamedTuple):
    """What one member answers to ``/members``."""

    cluster_id: int
    members: list[ClusterMember]

    def __str__(self) -> str:
        """As etcd prints it into its errors."""
        members = " ".join(
            f"&{{ID:{hex_id(one.id)} RaftAttributes:{{PeerURLs:[{' '.join(one.peer_urls)}] "
            f"IsLearner:{str(one.is_learner).lower()}}} "
            f"Attributes:{{Name:{one.name} ClientURLs:[{' '.join(one.client_urls)}]}}}}"
            for one in self.members
        )
        return f"{{ClusterID:{hex_id(self.cluster_id)} Members:[{members}] RemovedMemberIDs:[]}}"


def parse_members(headers: Mapping[str, str], body: bytes) -> RunningCluster:
    """The answer to ``GET /members``.

    Raises:
        ValueError: this is no such answer; another member may give a better one.
        JoinError: it is, and there is nobody in it.
    """
    shapes = json.loads(body)
    if shapes is None:
        shapes = []
    if not isinstance(shapes, list):
        raise ValueError("not a list of members")
    members = sorted((ClusterMember.from_shape(shape) for shape in shapes), key=lambda member: member.id)
    text = headers.get(CLUSTER_ID_HEADER, "")
    cluster_id = int(text, 16)
    if not 0 <= cluster_id < 1 << 64:
        raise ValueError(f"{quote(text)} is no cluster id")
    if not members:
        raise JoinError("failed to get raft cluster member(s) from the given URLs")
    return RunningCluster(cluster_id, members)


def urls_differ(one: Sequence[str], other: Sequence[str]) -> str:
    """How two lists of peer URLs differ, by their texts; empty when they are the same."""
    if len(one) != len(other):
        return f"len({_quoted(one)}) != len({_quoted(other)})"
    for left, right in zip(sorted(one), sorted(other), strict=True):
        if left != right:
            return f"resolved urls: {quote(left)} != {quote(right)}"
    return ""


def match_members(
    initial: Mapping[str, Sequence[str]],
    running: RunningCluster,
    differ: Callable[[Sequence[str], Sequence[str]], str] = urls_differ,
) -> list[ClusterMember]:
    """The members of the own initial cluster with the ids they have in the running one, in order of id.

    ``differ`` may resolve host names. Raises: JoinError.
    """
    problem = ""
    if len(initial) != len(running.members):
        problem = "member count is unequal"
    matched: dict[str, ClusterMember] = {}
    for existing in [] if problem else running.members:
        last = ""
        for name, urls in initial.items():
            last = differ(existing.peer_urls, urls)
            if not last:
                matched[name] = replace(existing, peer_urls=tuple(urls), name=name, client_urls=())
                break
        else:
            problem = (
                f"PeerURLs: no match found for existing member ({hex_id(existing.id)}, "
                f"[{' '.join(existing.peer_urls)}]), last resolver error ({last})"
            )
            break
    if not problem and len(matched) != len(initial):
        problem = "member count is unequal"  # two of the running members have the same URLs
    if problem:
        raise JoinError(f"error validating peerURLs {running}: {problem}")
    return sorted(matched.values(), key=lambda member: member.id)


def own_member(name: str, members: Sequence[ClusterMember]) -> ClusterMember:
    """This member among those matched. Raises: JoinError."""
    for member in members:
        if member.name == name:
            return member
    raise JoinError(f'couldn\'t find local name "{name}" in the initial cluster configuration')


# -- versions ------------------------------------------------------------------------------------------------


class Versions(NamedTuple):
    """What one member answers to ``/version``."""

    server: str
    cluster: str


def parse_versions(body: bytes) -> Versions:
    """The answer to ``GET /version``. Raises: ValueError."""
    shape = json.loads(body)
    if not isinstance(shape, dict):
        raise ValueError("not versions")
    server, cluster = shape.get("etcdserver", ""), shape.get("etcdcluster", "")
    if not isinstance(server, str) or not isinstance(cluster, str):
        raise ValueError("not versions")
    return Versions(server, cluster)


def parse_version(text: str) -> tuple[int, int]:
    """(major, minor) of ``X.Y.Z`` with whatever else semantic versions carry. Raises: ValueError."""
    core = text.removeprefix("v").partition("+")[0].partition("-")[0]
    parts = core.split(".")
    if len(parts) != 3 or not all(part.isascii() and part.isdecimal() for part in parts):
        raise ValueError(f"{text} is not in dotted-tri format")
    return int(parts[0]), int(parts[1])


def is_compatible(
    versions: Mapping[int, Versions | None],
    logger: Logger,
    *,
    downgrading: bool = False,
    local_version: str = ETCD_VERSION,
) -> bool:
    """Whether this release may join a cluster whose other members answered so; None: it did not answer.

    At least one must have a cluster version, and none may have one outside of the range.
    """
    major, minor = parse_version(local_version)
    lowest, highest = MIN_CLUSTER_VERSION, (major, minor)
    if downgrading:
        lowest = highest = (major, minor + 1)
    compatible = False
    for member_id, answer in sorted(versions.items()):
        if answer is None:
            continue
        about = {
            "remote-member-id": hex_id(member_id),
            "remote-member-cluster-version": answer.cluster,
        }
        try:
            cluster = parse_version(answer.cluster)
        except ValueError as error:
            logger.warn("failed to parse cluster version of remote member", **about, error=str(error))
            continue
        if cluster < lowest:
            logger.warn(
                "cluster version of remote member is not compatible; too low",
                **about,
                **{"minimum-cluster-version-supported": _dotted(lowest)},
            )
            return False
        if cluster > highest:
            logger.warn(
                "cluster version of remote member is not compatible; too high",
                **about,
                **{"maximum-cluster-version-supported": _dotted(highest)},
            )
            return False
        compatible = True
    return compatible


def foreign_release(
    versions: Mapping[int, Versions | None], *, local_version: str = ETCD_VERSION
) -> str | None:
    """The release of a running member that is older than this one; None: there is none.

    Such a member does not know all entries that this release proposes, and ends itself on the first that it
    does not know (3.4: "not implemented"): to join it would take it down.
    """
    own = parse_version(local_version)
    for answer in versions.values():
        if answer is None:
            continue
        try:
            if parse_version(answer.server) < own:
                return answer.server
        except ValueError:
            return answer.server
    return None


def _dotted(version: tuple[int, int]) -> str:
    return f"{version[0]}.{version[1]}.0"


def _quoted(texts: Sequence[str]) -> str:
    return "[" + " ".join(map(quote, texts)) + "]"
