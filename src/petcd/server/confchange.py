"""A committed change of the membership: the same outcome on every member, then this member's own doings.

A change that does not fit what was applied before is passed to raft as one of member 0, which has no effect,
and its proposer is told why. Source: contract peer sections 7.4 and 9.3.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from petcd.raft import ENTRY_CONF_CHANGE, ConfChange, Entry, decode_conf_change
from petcd.server.membership import REMOVED, UPDATED, Changed, MembershipError
from petcd.storage import schema

if TYPE_CHECKING:
    from petcd.server.member import Member

_REMOVED_SECONDS: Final = 1.0
"""A member that was removed stays so long: the others learn from it that its removal is committed."""


class ForeignChange(Exception):
    """A change of a kind that etcd never proposes: applying on would diverge."""


def apply_conf_change(member: Member, entry: Entry) -> None:
    """Apply one entry. Raises: ForeignChange, BadConfChange; the member must stop then."""
    change = decode_conf_change(entry)
    if entry.type != ENTRY_CONF_CHANGE or not isinstance(change, ConfChange):
        raise ForeignChange(f"entry {entry.index} is a change that etcd never proposes")
    proposal = member.proposals.by_id.pop(change.id, None)
    entry.request = None
    member.world.failpoints.hit("beforeApplyOneConfChange")
    try:
        member.membership.check(change)
    except MembershipError as error:
        member.node.apply_conf_change(ConfChange(change.id, change.type))
        if proposal is not None:
            proposal.waiter.fail(error.answer.code, error.answer.text)
        return
    changed = member.membership.apply(change)
    conf_state = member.node.apply_conf_change(change)
    member.backend.put(schema.META, schema.CONF_STATE, schema.encode_conf_state(conf_state))
    changed.log(member.logger, member.cluster_id, member.id)
    _tell_transport(member, changed)
    if proposal is not None:
        proposal.waiter.reply(b"")


def _tell_transport(member: Member, changed: Changed) -> None:
    one, peers = changed.member, member.peers
    if one.id == member.id:
        if changed.what == REMOVED:
            member.clock.call_later(_REMOVED_SECONDS, member.end_as_removed)
    elif changed.what == REMOVED:
        peers.flush()  # it may learn of its removal from what is on its way
        peers.remove(one.id)
    elif changed.what == UPDATED:
        peers.update(one.id, one.peer_urls)
    else:
        peers.add(one.id, one.peer_urls)
