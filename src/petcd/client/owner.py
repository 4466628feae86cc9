"""Which process and event loop a client belongs to, and what happens when others come."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable


class Owner:
    """The process and the loop that use a client.

    After a fork the child starts anew, with connections of its own: those of the parent stay the parent's. So
    does the next loop once the former is closed. A loop beside one that still lives is refused.
    """

    __slots__ = ("loop", "on_change", "process")

    def __init__(self) -> None:
        self.loop: asyncio.AbstractEventLoop | None = None
        self.process = 0
        self.on_change: list[Callable[[], None]] = []
        """Told when the former owner is gone; nothing of it may be awaited any more."""

    def claim(self) -> None:
        """Make the running loop the owner. Raises RuntimeError while another one is."""
        loop = asyncio.get_running_loop()
        if loop is self.loop:
            return
        if self.loop is not None:
            if self.process == os.getpid() and not self.loop.is_closed():
                raise RuntimeError("this client belongs to another event loop; make one client for each loop")
            for tell in self.on_change:
                tell()
        self.loop, self.process = loop, os.getpid()
