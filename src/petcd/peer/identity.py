"""Who we say we are to another member, and whether we may talk to who it says it is.

Only major and minor of the versions count, and every etcd 3 can talk to every other here: the real limits
are the cluster version and the contents of entries. Source: contract page "peer", 1.1 and 1.2.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Final

from petcd import ETCD_VERSION
from petcd.server.ids import hex_id

MIN_CLUSTER_VERSION: Final = "3.0.0"
_MISSING: Final = "2.0.0"
_STREAMS_SINCE: Final = (2, 1)
"""The first release that serves the streams."""
_VERSION: Final = re.compile(r"(\d{1,6})\.(\d{1,6})\.\d+", re.ASCII)
_HEX_ID: Final = re.compile(r"[0-9a-fA-F]{1,64}", re.ASCII)

CLUSTER_MISMATCH: Final = "cluster ID mismatch"
INCOMPATIBLE: Final = "incompatible version"


def minor_version(text: str | None) -> tuple[int, int]:
    """(major, minor); a missing or unreadable version counts as 2.0, which had no such header."""
    found = _VERSION.match(text or _MISSING)
    return (int(found[1]), int(found[2])) if found is not None else (2, 0)


_OWN: Final = minor_version(ETCD_VERSION)
_OWN_MIN: Final = minor_version(MIN_CLUSTER_VERSION)


def parse_hex_id(text: str) -> int | None:
    """An id as it stands in paths and headers; None for what is none."""
    if _HEX_ID.fullmatch(text) is None:
        return None
    number = int(text, 16)
    return number if number < 1 << 64 else None


def serves_streams(server_version: str | None) -> bool:
    """Whether a member of this version, which answered a dial, writes streams that we can read."""
    return minor_version(server_version) >= _STREAMS_SINCE


class Identity:
    """This member towards the others."""

    __slots__ = ("cluster_hex", "cluster_id", "common", "member_hex", "member_id", "urls")

    def __init__(self, member_id: int, cluster_id: int, urls: Sequence[str]) -> None:
        self.member_id = member_id
        self.cluster_id = cluster_id
        self.member_hex = hex_id(member_id)
        self.cluster_hex = hex_id(cluster_id)
        self.urls = tuple(urls)
        self.common: tuple[tuple[str, str], ...] = (
            ("X-Etcd-Cluster-Id", self.cluster_hex),
            ("X-Min-Cluster-Version", MIN_CLUSTER_VERSION),
            ("X-Peerurls", ",".join(self.urls)),
            ("X-Server-From", self.member_hex),
            ("X-Server-Version", ETCD_VERSION),
        )
        """Headers of every request about raft."""

    def refusal(self, header: Callable[[bytes], bytes | None]) -> str:
        """Why a request with these headers must be refused; "" when it must not."""
        server = header(b"x-server-version")
        minimum = header(b"x-min-cluster-version")
        if (
            minor_version(server.decode("latin-1") if server else None) < _OWN_MIN
            or minor_version(minimum.decode("latin-1") if minimum else None) > _OWN
        ):
            return INCOMPATIBLE
        if header(b"x-etcd-cluster-id") != self.cluster_hex.encode():
            return CLUSTER_MISMATCH
        return ""
