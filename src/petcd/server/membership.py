"""Who is in the cluster, as the log and the ``members`` buckets say.

Source: contract peer section 7.4 and 9, disk section 5.6.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from petcd import errors
from petcd.pb.etcdserverpb import Member as MemberMessage
from petcd.server.ids import hex_id
from petcd.storage import schema
from petcd.storage.backend import Backend


@dataclass(slots=True, frozen=True)
class ClusterMember:
    """One member of the cluster. Without a name it has not started yet."""

    id: int
    peer_urls: tuple[str, ...]
    name: str = ""
    client_urls: tuple[str, ...] = ()
    is_learner: bool = False

    def to_json(self) -> str:
        """The JSON of conf-change contexts and of the ``members`` bucket: compact, empty fields left out."""
        shape: dict[str, Any] = {"id": self.id, "peerURLs": list(self.peer_urls)}
        if self.is_learner:
            shape["isLearner"] = True
        if self.name:
            shape["name"] = self.name
        if self.client_urls:
            shape["clientURLs"] = list(self.client_urls)
        return json.dumps(shape, separators=(",", ":"), ensure_ascii=False)

    @classmethod
    def from_json(cls, text: bytes | str) -> ClusterMember:
        """Raises ValueError when the text is not a member."""
        shape = json.loads(text)
        if not isinstance(shape, dict) or not isinstance(shape.get("id"), int):
            raise ValueError("not a member")
        return cls(
            id=shape["id"],
            peer_urls=tuple(shape.get("peerURLs") or ()),
            name=shape.get("name", ""),
            client_urls=tuple(shape.get("clientURLs") or ()),
            is_learner=bool(shape.get("isLearner", False)),
        )

    def to_message(self) -> MemberMessage:
        return MemberMessage(
            ID=self.id,
            name=self.name,
            peerURLs=list(self.peer_urls),
            clientURLs=list(self.client_urls),
            isLearner=self.is_learner,
        )


class MembershipError(Exception):
    """A conf change that does not fit; ``answer`` is what the proposer is told."""

    def __init__(self, answer: errors.EtcdError) -> None:
        super().__init__(answer.text)
        self.answer = answer


@dataclass(slots=True)
class Membership:
    """The applied membership of a cluster, mirrored into the backend with the entry that changed it."""

    cluster_id: int
    backend: Backend
    learners_max: int = 1
    members: dict[int, ClusterMember] = field(default_factory=dict)
    removed: set[int] = field(default_factory=set)
    version: str = ""
    """``X.Y.0``, or empty before the first leader has decided."""
    downgrade_target: str = ""
    """The version a downgrade aims at; empty when none is under way."""

    def restore(self) -> None:
        """Read the buckets; entries that the log holds beyond them come again through apply."""
        self.members = {}
        for _, value in self.backend.range(schema.MEMBERS, b"", None):
            member = ClusterMember.from_json(value)
            self.members[member.id] = member
        self.removed = {int(key, 16) for key, _ in self.backend.range(schema.MEMBERS_REMOVED, b"", None)}
        version = self.backend.get(schema.CLUSTER, b"clusterVersion")
        self.version = version.decode("ascii", "replace") if version else ""
        downgrade = self.backend.get(schema.CLUSTER, b"downgrade")
        self.downgrade_target = str(json.loads(downgrade).get("target-version", "")) if downgrade else ""

    def in_order(self) -> list[ClusterMember]:
        return sorted(self.members.values(), key=lambda member: member.id)

    def voters(self) -> list[ClusterMember]:
        return [member for member in self.in_order() if not member.is_learner]

    def has_peer_url(self, urls: Iterable[str], but: int = 0) -> bool:
        wanted = set(urls)
        return any(wanted & set(m.peer_urls) for m in self.members.values() if m.id != but)

    # -- changes, in the order of the log ------------------------------------------------------------

    def check_add(self, member: ClusterMember) -> None:
        """Raises MembershipError."""
        if member.id in self.removed:
            raise MembershipError(errors.MemberNotFound())
        if member.id in self.members:
            raise MembershipError(errors.MemberExist())
        if self.has_peer_url(member.peer_urls):
            raise MembershipError(errors.PeerURLExist())
        if member.is_learner and sum(m.is_learner for m in self.members.values()) >= self.learners_max:
            raise MembershipError(errors.TooManyLearners())

    def check_known(self, member_id: int) -> ClusterMember:
        """Raises MembershipError."""
        member = self.members.get(member_id)
        if member is None or member_id in self.removed:
            raise MembershipError(errors.MemberNotFound())
        return member

    def add(self, member: ClusterMember) -> None:
        self._store(member)

    def promote(self, member_id: int) -> None:
        self._store(replace(self.members[member_id], is_learner=False))

    def update_urls(self, member_id: int, peer_urls: Iterable[str]) -> None:
        self._store(replace(self.members[member_id], peer_urls=tuple(peer_urls)))

    def set_attributes(self, member_id: int, name: str, client_urls: Iterable[str]) -> None:
        """A member publishes itself; one that was removed meanwhile is ignored."""
        member = self.members.get(member_id)
        if member is not None:
            self._store(replace(member, name=name, client_urls=tuple(client_urls)))

    def remove(self, member_id: int) -> None:
        self.members.pop(member_id, None)
        self.removed.add(member_id)
        key = hex_id(member_id).encode()
        self.backend.delete(schema.MEMBERS, key)
        self.backend.put(schema.MEMBERS_REMOVED, key, b"removed")

    def set_version(self, version: str) -> None:
        self.version = version
        self.backend.put(schema.CLUSTER, b"clusterVersion", version.encode())

    def set_downgrade(self, *, enabled: bool, target: str) -> None:
        self.downgrade_target = target if enabled else ""
        shape = {"target-version": self.downgrade_target, "enabled": enabled}
        self.backend.put(schema.CLUSTER, b"downgrade", json.dumps(shape, separators=(",", ":")).encode())

    def _store(self, member: ClusterMember) -> None:
        self.members[member.id] = member
        self.backend.put(schema.MEMBERS, hex_id(member.id).encode(), member.to_json().encode())
