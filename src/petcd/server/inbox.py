"""What other members have said and no turn has looked at yet.

A message that no correct peer would send changes nothing and is logged once; whoever sent it goes on being
listened to.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from petcd.logs import Logger
from petcd.raft import MSG_PROP, Message, MessageError, Node, ProposalDropped
from petcd.server.ids import hex_id

_ERRORS_LOGGED_MAX: Final = 100

Told = Callable[[str], object]
"""Called with what became of a snapshot's message: nothing wrong, or the reason."""


class Inbox:
    """Messages for raft, in the order in which they came."""

    __slots__ = ("_logged", "_logger", "_messages", "_snapshots", "quickest")

    def __init__(self, logger: Logger) -> None:
        self._logger = logger
        self._messages: list[Message] = []
        self._snapshots: list[tuple[Message, Told]] = []
        self._logged: set[str] = set()
        self.quickest = 0
        """Who is to be told first: whose proposal came last, or whose answer completed a quorum."""

    def __bool__(self) -> bool:
        return bool(self._messages or self._snapshots)

    def put(self, messages: Sequence[Message]) -> None:
        self._messages += messages

    def put_snapshot(self, message: Message, told: Told) -> None:
        """A MsgSnap whose database is in place."""
        self._snapshots.append((message, told))

    def step(self, node: Node) -> None:
        """Hand everything to raft."""
        messages, self._messages = self._messages, []
        step = node.step
        committed = node.commit_index
        for message in messages:
            if message.type == MSG_PROP:
                self.quickest = message.from_
            try:
                step(message)
            except ProposalDropped:
                continue  # whoever proposed it waits, and asks again
            except MessageError as error:
                self._log(message, error)
        if messages and node.commit_index > committed and node.is_leader:
            self.quickest = messages[-1].from_
        snapshots, self._snapshots = self._snapshots, []
        for message, told in snapshots:
            try:
                step(message)
            except MessageError as error:
                self._log(message, error)
                told(str(error))
            else:
                told("")

    def _log(self, message: Message, error: MessageError) -> None:
        """Once for each text and sender, and not without end."""
        text = f"{message.from_:x}: {error}"
        if text not in self._logged and len(self._logged) < _ERRORS_LOGGED_MAX:
            self._logged.add(text)
            self._logger.warn(
                "failed to process a raft message",
                **{"remote-peer-id": hex_id(message.from_), "error": str(error)},
            )
