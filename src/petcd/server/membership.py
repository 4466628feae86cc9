"""Who is in the cluster, as the log and the ``members`` buckets say.

Every member applies the same changes to the same list, so a change that does not fit is refused on all of
them alike: ``check`` looks only at what was applied before, ``apply`` writes the buckets together with the
entry that changed them. Source: contract peer section 7.4 and 9, disk section 5.6.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any, Final

from petcd import errors
from petcd.errors import EtcdError
from petcd.logs import Logger
from petcd.mvcc.restore import Rows
from petcd.pb.etcdserverpb import Member as MemberMessage
from petcd.raft import ADD_LEARNER_NODE, ADD_NODE, REMOVE_NODE, UPDATE_NODE, ConfChange
from petcd.server.ids import hex_id
from petcd.storage import schema
from petcd.storage.backend import Backend

_HTML_ESCAPES: Final = str.maketrans(
    {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}
)


def go_json(shape: Any) -> str:
    """JSON as Go writes it: compact, and safe inside HTML."""
    return json.dumps(shape, separators=(",", ":"), ensure_ascii=False).translate(_HTML_ESCAPES)


@dataclass(slots=True, frozen=True)
class ClusterMember:
    """One member of the cluster. Without a name it has not started yet."""

    id: int
    peer_urls: tuple[str, ...]
    name: str = ""
    client_urls: tuple[str, ...] = ()
    is_learner: bool = False

    def to_shape(self) -> dict[str, Any]:
        """What ``to_json`` writes: empty fields left out."""
        shape: dict[str, Any] = {"id": self.id, "peerURLs": list(self.peer_urls)}
        if self.is_learner:
            shape["isLearner"] = True
        if self.name:
            shape["name"] = self.name
        if self.client_urls:
            shape["clientURLs"] = list(self.client_urls)
        return shape

    def to_json(self) -> str:
        """The JSON of conf-change contexts, of the ``members`` bucket and of ``/members``."""
        return go_json(self.to_shape())

    @classmethod
    def from_json(cls, text: bytes | str) -> ClusterMember:
        """Raises ValueError when the text is not a member."""
        return cls.from_shape(json.loads(text))

    @classmethod
    def from_shape(cls, shape: object) -> ClusterMember:
        """Raises ValueError when the parsed JSON is not a member."""
        if not isinstance(shape, dict) or not _is_id(shape.get("id")):
            raise ValueError("not a member")
        name = shape.get("name") or ""
        if not isinstance(name, str):
            raise ValueError("a member's name is not a text")
        return cls(
            id=shape["id"],
            peer_urls=_texts(shape.get("peerURLs")),
            name=name,
            client_urls=_texts(shape.get("clientURLs")),
            is_learner=shape.get("isLearner") is True,
        )

    def to_message(self) -> MemberMessage:
        return MemberMessage(
            ID=self.id,
            name=self.name,
            peerURLs=list(self.peer_urls),
            clientURLs=list(self.client_urls),
            isLearner=self.is_learner,
        )


def _is_id(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 64


def _texts(value: object) -> tuple[str, ...]:
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise ValueError("a member's URLs are not a list of texts")
    return tuple(value)


class MembershipError(Exception):
    """A conf change that does not fit. ``str()`` is what members tell each other and the log, ``answer``
    what the client is told."""

    def __init__(self, text: str, answer: EtcdError) -> None:
        super().__init__(text)
        self.answer = answer


def id_removed() -> MembershipError:
    return MembershipError("membership: ID removed", errors.MemberNotFound())


def id_exists() -> MembershipError:
    return MembershipError("membership: ID exists", errors.MemberExist())


def id_not_found() -> MembershipError:
    return MembershipError("membership: ID not found", errors.MemberNotFound())


def peer_url_exists() -> MembershipError:
    return MembershipError("membership: peerURL exists", errors.PeerURLExist())


def not_learner() -> MembershipError:
    return MembershipError("membership: can only promote a learner member", errors.MemberNotLearner())


def too_many_learners() -> MembershipError:
    return MembershipError("membership: too many learner members in cluster", errors.TooManyLearners())


def last_voter() -> MembershipError:
    """No configuration is without voters: Go members panic at this one."""
    return MembershipError("membership: cannot remove the last voter", errors.MemberNotEnoughStarted())


class BadConfChange(Exception):
    """A committed change that no release proposes: applying on would diverge."""


# -- the context of a change ---------------------------------------------------------------------------------


def add_change(member: ClusterMember) -> ConfChange:
    """A new voter, or a new learner."""
    kind = ADD_LEARNER_NODE if member.is_learner else ADD_NODE
    return ConfChange(type=kind, node_id=member.id, context=member.to_json().encode())


def promote_change(member_id: int) -> ConfChange:
    context = go_json({"id": member_id, "peerURLs": None, "isPromote": True})
    return ConfChange(type=ADD_NODE, node_id=member_id, context=context.encode())


def update_change(member_id: int, peer_urls: Iterable[str], *, is_learner: bool = False) -> ConfChange:
    """New peer URLs. Go members take every attribute from the context, so a learner is named one."""
    member = ClusterMember(member_id, tuple(peer_urls), is_learner=is_learner)
    return ConfChange(type=UPDATE_NODE, node_id=member_id, context=member.to_json().encode())


def remove_change(member_id: int) -> ConfChange:
    return ConfChange(type=REMOVE_NODE, node_id=member_id)


@dataclass(slots=True, frozen=True)
class Context:
    """The JSON of an add, a promotion or an update."""

    member: ClusterMember
    is_promote: bool

    @classmethod
    def of(cls, change: ConfChange) -> Context:
        """Raises: BadConfChange."""
        try:
            shape = json.loads(change.context)
            member = ClusterMember.from_shape(shape)
        except ValueError as error:
            raise BadConfChange(f"the context of a conf change cannot be read: {error}") from None
        if member.id != change.node_id:
            raise BadConfChange(
                f"a conf change is about member {change.node_id:x}, its context about {member.id:x}"
            )
        return cls(member, shape.get("isPromote") is True)


# -- what became of a change ---------------------------------------------------------------------------------

ADDED: Final = "added"
PROMOTED: Final = "promoted"
UPDATED: Final = "updated"
REMOVED: Final = "removed"


@dataclass(slots=True, frozen=True)
class Changed:
    """What a change did. ``member`` is the member afterwards; of a removed one, as it was."""

    what: str
    member: ClusterMember

    def log(self, logger: Logger, cluster_id: int, local_id: int) -> None:
        """The line etcd writes for it."""
        ids = {"cluster-id": hex_id(cluster_id), "local-member-id": hex_id(local_id)}
        member = self.member
        urls = list(member.peer_urls)
        if self.what == ADDED:
            logger.info(
                "added member",
                **ids,
                **{
                    "added-peer-id": hex_id(member.id),
                    "added-peer-peer-urls": urls,
                    "added-peer-is-learner": member.is_learner,
                },
            )
        elif self.what == PROMOTED:
            logger.info("promote member", **ids)
        else:
            message = "removed member" if self.what == REMOVED else "updated member"
            logger.info(
                message,
                **ids,
                **{
                    f"{self.what}-remote-peer-id": hex_id(member.id),
                    f"{self.what}-remote-peer-urls": urls,
                    f"{self.what}-remote-peer-is-learner": member.is_learner,
                },
            )


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
    learner_count: int = 0
    promotions: int = 0
    """Learners promoted at this member's word, for the metrics."""
    failed_promotions: dict[str, int] = field(default_factory=dict)
    """Those it refused, by reason."""

    def restore(self, rows: Rows | None = None) -> None:
        """Read the buckets, or those of ``rows``; entries that the log holds beyond them come again through
        apply."""
        if rows is None:
            rows = self.backend
        self.members = {}
        for _, value in rows.range(schema.MEMBERS, b"", None):
            member = ClusterMember.from_json(value)
            self.members[member.id] = member
        self._count_learners()
        self.removed = {int(key, 16) for key, _ in rows.range(schema.MEMBERS_REMOVED, b"", None)}
        version = rows.get(schema.CLUSTER, b"clusterVersion")
        self.version = version.decode("ascii", "replace") if version else ""
        downgrade = rows.get(schema.CLUSTER, b"downgrade")
        self.downgrade_target = str(json.loads(downgrade).get("target-version", "")) if downgrade else ""

    def replace_from(self, backend: Backend) -> None:
        """A snapshot brought another backend: everything comes from there."""
        self.backend = backend
        self.restore()

    # -- looking -------------------------------------------------------------------------------------

    def in_order(self) -> list[ClusterMember]:
        return sorted(self.members.values(), key=lambda member: member.id)

    def voters(self) -> list[ClusterMember]:
        return [member for member in self.in_order() if not member.is_learner]

    def is_learner(self, member_id: int) -> bool:
        """Whether this is a member, and one without a vote."""
        member = self.members.get(member_id)
        return member is not None and member.is_learner

    def has_peer_url(self, urls: Iterable[str], but: int = 0) -> bool:
        """Whether one of these URLs is taken by a member other than ``but``."""
        wanted = set(urls)
        return any(wanted & set(m.peer_urls) for m in self.members.values() if m.id != but)

    def to_json(self) -> str:
        """All members in order, as ``/members`` answers."""
        return go_json([member.to_shape() for member in self.in_order()])

    # -- changes, in the order of the log ------------------------------------------------------------

    def check(self, change: ConfChange) -> None:
        """Whether a committed change fits what was applied before; the same answer on every member.

        Raises:
            MembershipError: it does not; raft gets it as a change of member 0, and the proposer the answer.
            BadConfChange: it cannot be understood; the member must stop.
        """
        member_id = change.node_id
        if member_id in self.removed:
            raise id_removed()
        known = self.members.get(member_id)
        if change.type == REMOVE_NODE:
            if known is None:
                raise id_not_found()
            if not known.is_learner and len(self.voters()) == 1:
                raise last_voter()
            return
        if change.type not in (ADD_NODE, ADD_LEARNER_NODE, UPDATE_NODE):
            raise BadConfChange(f"conf change of the unknown type {change.type}")
        context = Context.of(change)
        if change.type == UPDATE_NODE:
            if known is None:
                raise id_not_found()
            if self.has_peer_url(context.member.peer_urls, but=member_id):
                raise peer_url_exists()
        elif context.is_promote:
            if known is None:
                raise id_not_found()
            if not known.is_learner:
                raise not_learner()
        else:
            if known is not None:
                raise id_exists()
            if self.has_peer_url(context.member.peer_urls):
                raise peer_url_exists()
            if change.type == ADD_LEARNER_NODE and context.member.is_learner:
                self.check_learner_count(1)

    def check_learner_count(self, more: int = 0) -> None:
        """Raises: MembershipError, when there were too many learners with so many more."""
        if self.learner_count + more > self.learners_max:
            raise too_many_learners()

    def apply(self, change: ConfChange) -> Changed:
        """Carry out a change that ``check`` has passed. Raises: BadConfChange."""
        member_id = change.node_id
        if change.type == REMOVE_NODE:
            before = self.members[member_id]
            self.remove(member_id)
            return Changed(REMOVED, before)
        context = Context.of(change)
        if change.type == UPDATE_NODE:
            self.update_urls(member_id, context.member.peer_urls)
            return Changed(UPDATED, self.members[member_id])
        if context.is_promote:
            self.promote(member_id)
            return Changed(PROMOTED, self.members[member_id])
        self.add(context.member)
        return Changed(ADDED, context.member)

    def add(self, member: ClusterMember) -> None:
        self._store(member)

    def promote(self, member_id: int) -> None:
        self._store(replace(self.members[member_id], is_learner=False))

    def update_urls(self, member_id: int, peer_urls: Iterable[str]) -> None:
        """New peer URLs and nothing else: a learner stays one, whatever the change says of it."""
        self._store(replace(self.members[member_id], peer_urls=tuple(peer_urls)))

    def set_attributes(self, member_id: int, name: str, client_urls: Iterable[str]) -> None:
        """A member publishes itself; one that was removed meanwhile is ignored."""
        member = self.members.get(member_id)
        if member is not None:
            self._store(replace(member, name=name, client_urls=tuple(client_urls)))

    def remove(self, member_id: int) -> None:
        self.members.pop(member_id, None)
        self._count_learners()
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
        self.backend.put(schema.CLUSTER, b"downgrade", go_json(shape).encode())

    def _count_learners(self) -> None:
        self.learner_count = sum(member.is_learner for member in self.members.values())

    def _store(self, member: ClusterMember) -> None:
        self.members[member.id] = member
        self._count_learners()
        self.backend.put(schema.MEMBERS, hex_id(member.id).encode(), member.to_json().encode())
