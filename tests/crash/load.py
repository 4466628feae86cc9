"""Puts at a steady rate, with a record of which were acknowledged and at which revision.

Each connection writes keys of its own once (so that a lost one is seen) and, every fourth time, a key that
others overwrite (so that a revision that goes back is seen). A put whose answer never came may or may not
have happened.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from benchmarks.channel import Channel, Closed

from petcd.pb import etcdserverpb as pb

PUT = "/etcdserverpb.KV/Put"
SHARED_KEYS = 16


@dataclass
class Acknowledged:
    """What clients were promised, over all rounds."""

    once: dict[bytes, tuple[bytes, int]] = field(default_factory=dict)
    """Key written once: its value and revision."""
    shared: dict[int, tuple[bytes, bytes]] = field(default_factory=dict)
    """Revision of an overwrite: key and value."""
    unanswered: dict[bytes, bytes] = field(default_factory=dict)
    """Key written once whose answer never came: its value."""
    revision: int = 0
    """Newest revision promised."""
    failures: list[str] = field(default_factory=list)

    def put(self, key: bytes, value: bytes, revision: int) -> None:
        if key.startswith(b"s/"):
            if revision in self.shared:
                self.failures.append(f"revision {revision} was given out twice")
            self.shared[revision] = (key, value)
        else:
            self.once[key] = (value, revision)
        self.revision = max(self.revision, revision)

    def __len__(self) -> int:
        return len(self.once) + len(self.shared)


class Load:
    """Puts of one round."""

    def __init__(
        self, endpoint: str, acknowledged: Acknowledged, name: str, *, rate: int, connections: int
    ) -> None:
        self._endpoint = endpoint
        self._acknowledged = acknowledged
        self._name = name.encode()
        self._rate = rate
        self._connections = connections
        self._number = 0
        self.sent = 0
        self.answered = 0
        self.failed: list[str] = []

    async def run(self, stop: asyncio.Event) -> None:
        """Put until told to stop or until the server is gone."""
        channels = [await Channel.connect(self._endpoint) for _ in range(self._connections)]
        loop = asyncio.get_running_loop()
        started = loop.time()
        try:
            while not stop.is_set():
                due = int((loop.time() - started) * self._rate)
                while self.sent < due and self.sent - self.answered < 20 * self._connections:
                    self._put(channels[self.sent % len(channels)])
                await asyncio.sleep(0.001)
        except Closed:
            return
        finally:
            for channel in channels:
                channel.close()
            await asyncio.sleep(0)

    def _put(self, channel: Channel) -> None:
        self._number += 1
        number = self._number
        key = b"s/%02d" % (number % SHARED_KEYS) if number % 4 == 0 else b"o/%s/%07d" % (self._name, number)
        value = b"%s/%d/" % (self._name, number) + b"v" * 200
        if number % 4:
            self._acknowledged.unanswered[key] = value

        def done(code: int, text: str, body: bytes) -> None:
            self.answered += 1
            if code != 0:
                if code > 0:
                    self.failed.append(f"{code} {text}")
                return
            header = pb.PutResponse.decode(body).header
            assert header is not None
            self._acknowledged.unanswered.pop(key, None)
            self._acknowledged.put(key, value, header.revision)

        channel.call(PUT, pb.PutRequest(key=key, value=value).encode(), done)
        self.sent += 1
