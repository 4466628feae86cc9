"""Watch streams: many watches on each, made one after the other or all at once, read as they come."""

from __future__ import annotations

from collections.abc import AsyncIterator

from petcd.cli.benchmark import paths
from petcd.cli.benchmark.channels import Channel
from petcd.cli.benchmark.failures import Failure
from petcd.net.grpc.client import ClientStream
from petcd.pb.etcdserverpb import watch as pb


class WatchStream:
    """One stream and the watches on it."""

    def __init__(self, stream: ClientStream) -> None:
        self._stream = stream

    @classmethod
    async def open(cls, channel: Channel) -> WatchStream:
        return cls(await channel.stream(paths.WATCH))

    def ask(self, key: bytes, *, revision: int = 0, previous: bool = False) -> None:
        """Ask for a watch of one key from ``revision`` on (0: from now). Raises EtcdError."""
        create = pb.WatchCreateRequest(key=key, start_revision=revision, prev_kv=previous)
        self._stream.send(pb.WatchRequest(create_request=create).encode())

    async def responses(self) -> AsyncIterator[pb.WatchResponse]:
        """What the server says, without end. Raises Failure when it ends it, EtcdError when it breaks."""
        async for message in self._stream:
            response = pb.WatchResponse.decode(message)
            if response.canceled:
                reason = response.cancel_reason or "no reason given"
                if response.compact_revision:
                    reason = f"its revision is compacted, the oldest there is {response.compact_revision}"
                raise Failure(f"the server cancelled a watch: {reason}")
            yield response
        raise Failure("the server ended a watch stream")

    async def created(self) -> int:
        """Wait until the next watch is there; its id. Events that come before it are lost."""
        async for response in self.responses():
            if response.created:
                return response.watch_id
        raise AssertionError("responses end only by an exception")

    def close(self) -> None:
        self._stream.cancel()
