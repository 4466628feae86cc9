"""What members say to each other, and which of it may leave before the disk has caught up.

Source: contract page "peer", 6.1 and 6.4.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from petcd.raft.entry import Entry, Snapshot


class MessageType(IntEnum):
    """Numbers on the wire; short names as in ``describe``."""

    HUP = 0
    BEAT = 1
    PROP = 2
    APP = 3
    APP_RESP = 4
    VOTE = 5
    VOTE_RESP = 6
    SNAP = 7
    HEARTBEAT = 8
    HEARTBEAT_RESP = 9
    UNREACHABLE = 10
    SNAP_STATUS = 11
    CHECK_QUORUM = 12
    TRANSFER_LEADER = 13
    TIMEOUT_NOW = 14
    READ_INDEX = 15
    READ_INDEX_RESP = 16
    PRE_VOTE = 17
    PRE_VOTE_RESP = 18
    STORAGE_APPEND = 19
    STORAGE_APPEND_RESP = 20
    STORAGE_APPLY = 21
    STORAGE_APPLY_RESP = 22
    FORGET_LEADER = 23


MSG_PROP: Final = 2
MSG_APP: Final = 3
MSG_APP_RESP: Final = 4
MSG_VOTE: Final = 5
MSG_VOTE_RESP: Final = 6
MSG_SNAP: Final = 7
MSG_HEARTBEAT: Final = 8
MSG_HEARTBEAT_RESP: Final = 9
MSG_TRANSFER_LEADER: Final = 13
MSG_TIMEOUT_NOW: Final = 14
MSG_READ_INDEX: Final = 15
MSG_READ_INDEX_RESP: Final = 16
MSG_PRE_VOTE: Final = 17
MSG_PRE_VOTE_RESP: Final = 18

NETWORK_TYPES: Final = frozenset(
    {
        MSG_PROP,
        MSG_APP,
        MSG_APP_RESP,
        MSG_VOTE,
        MSG_VOTE_RESP,
        MSG_SNAP,
        MSG_HEARTBEAT,
        MSG_HEARTBEAT_RESP,
        MSG_TRANSFER_LEADER,
        MSG_TIMEOUT_NOW,
        MSG_READ_INDEX,
        MSG_READ_INDEX_RESP,
        MSG_PRE_VOTE,
        MSG_PRE_VOTE_RESP,
    }
)
"""What a peer may say. All other numbers are some member's private matter and are ignored when they
arrive."""

RESPONSE_TYPES: Final = frozenset(
    {MSG_APP_RESP, MSG_VOTE_RESP, MSG_HEARTBEAT_RESP, MSG_READ_INDEX_RESP, MSG_PRE_VOTE_RESP}
)

LEADER_TYPES: Final = frozenset({MSG_APP, MSG_SNAP, MSG_HEARTBEAT})
"""Only the leader of the message's term sends these, so they name it."""

TERMLESS_TYPES: Final = frozenset({MSG_PROP, MSG_READ_INDEX})
"""Requests to whoever leads: they are forwarded with term 0 and skip the comparison of terms."""

FORWARDED_TYPES: Final = frozenset({MSG_PROP, MSG_READ_INDEX, MSG_TRANSFER_LEADER})
"""What a follower passes on to its leader, in the name of the sender."""

AFTER_APPEND_TYPES: Final = frozenset({MSG_APP_RESP, MSG_VOTE, MSG_VOTE_RESP, MSG_PRE_VOTE_RESP})
"""Promises about our disk: the log up to an index, a vote, a term, or (a request for votes) the log it boasts
of.

A request for votes is among them because its votes may arrive after a crash: the candidate that counts them
must still have the log that earned them.
"""

CAMPAIGN_TRANSFER: Final = b"CampaignTransfer"
"""Context of a vote request after a leadership transfer: voters answer although they hear from a leader."""


@dataclass(slots=True)
class Message:
    """One message. Fields that a type does not use keep their zero.

    ``log_term``/``index`` name the entry before ``entries`` (MsgApp), the candidate's last entry (votes), or
    the answer's index. ``entries`` must not be changed by whoever receives the message.
    """

    type: int
    to: int = 0
    from_: int = 0
    term: int = 0
    log_term: int = 0
    index: int = 0
    entries: Sequence[Entry] = ()
    commit: int = 0
    snapshot: Snapshot | None = None
    reject: bool = False
    reject_hint: int = 0
    context: bytes = b""
