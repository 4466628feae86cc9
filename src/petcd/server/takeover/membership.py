"""The membership of a Go member as of one entry of its log: from the v2 store, or from the buckets.

Releases up to 3.5 take it from the tree of the v2 store in the ``.snap`` file and the entries after it; their
buckets are a mirror, which may be ahead, and which keeps members of a former cluster for good after a
``snapshot restore``. So it is taken from there here, too. Since 3.6 the buckets are what counts, which a
storage version in the database says. Source: contract disk sections 5.6 and 8.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from petcd.pb.etcdserverpb import InternalRaftRequest, Request
from petcd.pb.membershippb import ClusterMemberAttrSetRequest, ClusterVersionSetRequest
from petcd.pb.wire import DecodeError
from petcd.raft import (
    ADD_LEARNER_NODE,
    ADD_NODE,
    ENTRY_CONF_CHANGE,
    ENTRY_NORMAL,
    UPDATE_NODE,
    ConfChange,
    ConfState,
    Entry,
    decode_conf_change,
)
from petcd.raft.errors import ConfChangeError
from petcd.server.membership import BadConfChange, ClusterMember, Context, Membership, MembershipError
from petcd.server.v2requests import UnknownV2Request, meaning_of, parse_attributes
from petcd.storage.bbolt import BboltFile
from petcd.storage.errors import CorruptError, IncompatibleError
from petcd.storage.memory_backend import MemoryBackend
from petcd.storage.schema import CLUSTER, CLUSTER_VERSION, DOWNGRADE

_KEY_SPACE = "1"
_SYSTEM = "0"
_V2_AUTH = "2"


class V2KeysError(IncompatibleError):
    """The v2 store has content of users."""


def v2_keys_error(path: str, what: str) -> V2KeysError:
    return V2KeysError(
        f"{path}: the directory holds data of the v2 API ({what}), which this release of petcd does not "
        "serve; delete it with Go etcd first, and let that take a snapshot (--snapshot-count)"
    )


def from_tree(path: str, data: bytes, membership: Membership) -> None:
    """Put what the tree in the ``.snap`` file at ``path`` says into the empty ``membership``.

    Raises: CorruptError; V2KeysError, when the tree holds keys, users or roles of the v2 API.
    """
    try:
        root = _children(json.loads(data)["Root"])
        _refuse_v2_content(path, root)
        system = _children(root[_SYSTEM])
        for name, node in _children(system.get("members")).items():
            membership.add(_member(int(name, 16), _children(node)))
        for name in _children(system.get("removed_members")):
            membership.remove(int(name, 16))
        version = system.get("version")
        if version is not None:
            membership.set_version(str(version["Value"]))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, UnknownV2Request) as error:
        raise CorruptError(path, f"the tree of the v2 store in it cannot be read ({error!r})") from error


def apply_entries(
    path: str, entries: Iterable[Entry], membership: Membership, configuration: ConfState
) -> None:
    """Carry out what ``entries`` do to both. Raises: CorruptError, V2KeysError."""
    for entry in entries:
        try:
            if entry.type == ENTRY_NORMAL:
                _apply_request(entry.data, membership)
                continue
            change = decode_conf_change(entry)
            if entry.type != ENTRY_CONF_CHANGE or not isinstance(change, ConfChange):
                raise BadConfChange("a change of a kind that etcd never proposes")
            try:
                membership.check(change)
            except MembershipError:
                continue  # it had no effect
            membership.apply(change)
            if change.type == UPDATE_NODE:
                # Go takes all attributes from the change, which does not say so of a learner.
                member = membership.members[change.node_id]
                membership.add(replace(member, is_learner=Context.of(change).member.is_learner))
            _configure(configuration, change)
        except (BadConfChange, ConfChangeError, DecodeError, ValueError) as error:
            raise CorruptError(path, f"entry {entry.index} cannot be read: {error}") from error
        except UnknownV2Request as error:
            raise v2_keys_error(path, f"entry {entry.index} is {error}") from error


def _configure(configuration: ConfState, change: ConfChange) -> None:
    """Members change one by one, so that the configuration is never a joint one."""
    for ids in (configuration.voters, configuration.learners):
        if change.node_id in ids and change.type != UPDATE_NODE:
            ids.remove(change.node_id)
    if change.type == ADD_NODE:
        configuration.voters = sorted([*configuration.voters, change.node_id])
    elif change.type == ADD_LEARNER_NODE:
        configuration.learners = sorted([*configuration.learners, change.node_id])


def correct_learners(membership: Membership, configuration: ConfState) -> None:
    """Go forgets that a member is a learner when its URLs are updated; raft does not."""
    for member in membership.in_order():
        is_learner = member.id in configuration.learners
        if member.is_learner != is_learner:
            membership.add(replace(member, is_learner=is_learner))


def from_buckets(rows: BboltFile) -> Membership:
    """What the buckets of a database say. Raises: CorruptError."""
    membership = Membership(0, MemoryBackend())
    try:
        membership.restore(rows)
        for member in membership.in_order():
            membership.add(member)
        for member_id in sorted(membership.removed):
            membership.remove(member_id)
        for key, value in rows.iterate(CLUSTER):
            if key in (CLUSTER_VERSION, DOWNGRADE):
                membership.backend.put(CLUSTER, key, value)
    except (ValueError, TypeError, AttributeError) as error:
        raise CorruptError(rows.path, f"its members cannot be read: {error}") from error
    return membership


def _apply_request(data: bytes, membership: Membership) -> None:
    if not data:
        return
    meaning: ClusterMemberAttrSetRequest | ClusterVersionSetRequest | None
    try:
        envelope = InternalRaftRequest.decode(data)
    except DecodeError:
        meaning = meaning_of(Request.decode(data))
    else:
        if envelope.v2 is not None:
            meaning = meaning_of(envelope.v2)
        else:
            meaning = envelope.cluster_version_set or envelope.cluster_member_attr_set
            downgrade = envelope.downgrade_info_set
            if downgrade is not None:
                membership.set_downgrade(enabled=downgrade.enabled, target=downgrade.ver)
    if isinstance(meaning, ClusterVersionSetRequest):
        membership.set_version(meaning.ver)
    elif meaning is not None and meaning.member_attributes is not None:
        attributes = meaning.member_attributes
        membership.set_attributes(meaning.member_ID, attributes.name, attributes.client_urls)


def _children(node: Mapping[str, Any] | None) -> dict[str, Any]:
    """Of a directory; none of a leaf, or where there is no node."""
    return dict((node or {}).get("Children") or {})


def _member(member_id: int, leaves: Mapping[str, Any]) -> ClusterMember:
    raft = json.loads(leaves["raftAttributes"]["Value"])
    name = ""
    client_urls: list[str] = []
    if "attributes" in leaves:
        name, client_urls = parse_attributes(leaves["attributes"]["Value"])
    return ClusterMember.from_shape(
        {
            "id": member_id,
            "peerURLs": raft["peerURLs"],
            "isLearner": raft.get("isLearner") is True,
            "name": name,
            "clientURLs": client_urls,
        }
    )


def _refuse_v2_content(path: str, root: Mapping[str, Any]) -> None:
    auth = _children(root.get(_V2_AUTH))
    found = [
        f"/{name}"
        for name, node in root.items()
        if name not in (_SYSTEM, _V2_AUTH) and (name != _KEY_SPACE or _children(node))
    ]
    found += [f"/{_V2_AUTH}/{name}" for name in ("users", "roles") if _children(auth.get(name))]
    if found:
        raise v2_keys_error(path, f"there is something under {', '.join(found)}")
