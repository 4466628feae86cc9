"""Named places where a test makes the member crash, wait or fail; the names are etcd's own."""

from __future__ import annotations

from collections.abc import Callable


class Failpoints:
    """The armed failpoints of one member.

    Code on a hot path asks ``if failpoints.armed:`` first, so that an idle failpoint costs one attribute.
    """

    __slots__ = ("_actions", "armed", "seen")

    def __init__(self) -> None:
        self.armed = False
        self.seen: set[str] | None = None
        """Names hit so far, collected only when a test puts a set here."""
        self._actions: dict[str, Callable[[], object]] = {}

    def arm(self, name: str, action: Callable[[], object]) -> None:
        """Call ``action`` each time ``name`` is reached; what it raises is the fault."""
        self._actions[name] = action
        self.armed = True

    def collect(self) -> set[str]:
        """Start to note the names that are reached."""
        self.seen = set()
        self.armed = True
        return self.seen

    def disarm(self, name: str) -> None:
        self._actions.pop(name, None)
        self.armed = bool(self._actions) or self.seen is not None

    def hit(self, name: str) -> None:
        if not self.armed:
            return
        if self.seen is not None:
            self.seen.add(name)
        action = self._actions.get(name)
        if action is not None:
            action()
