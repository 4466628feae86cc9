"""What may go wrong in consensus, by whose doing.

``ProposalDropped`` is an ordinary answer. ``MessageError`` blames a peer, ``ConfChangeError`` a proposed
change, ``StateError`` the disk; none of them changes what the node has promised. A broken invariant of our
own is an ``AssertionError``, never one of these.
"""

from __future__ import annotations


class RaftError(Exception):
    """The root of this room's errors."""


class ProposalDropped(RaftError):
    """The proposal was not accepted and leaves no trace; trying again later may succeed.

    When: no leader is known, the leadership is being transferred, the leader was removed from the
    configuration, or too many bytes are uncommitted.
    """


class MessageError(RaftError):
    """A peer sent what no correct peer sends: the message is refused, the node lives on."""


class ConfChangeError(RaftError):
    """The configuration change cannot be decoded or may not be applied to the present configuration.

    Every member that applies the same entry gets the same error and keeps the configuration it had.
    """


class StateError(RaftError):
    """Hard state, snapshot and entries that were handed in to start from contradict each other."""


class CompactedError(RaftError):
    """The entries asked for were compacted away; only a snapshot covers them."""
