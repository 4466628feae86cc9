"""A backend that is a few dicts: what the mvcc room asks of storage, and nothing more."""

from __future__ import annotations

from bisect import bisect_left

from petcd.mvcc import Store
from petcd.pb.etcdserverpb import DeleteRangeRequest, PutRequest


class FakeBackend:
    """Unflushed and flushed data in two dicts per bucket; a crash forgets the unflushed ones."""

    def __init__(self) -> None:
        self.flushed: dict[bytes, dict[bytes, bytes]] = {}
        self.buffers: dict[bytes, dict[bytes, bytes | None]] = {}

    def pending(self, bucket: bytes) -> dict[bytes, bytes | None]:
        return self.buffers.setdefault(bucket, {})

    def get(self, bucket: bytes, key: bytes) -> bytes | None:
        buffer = self.pending(bucket)
        if key in buffer:
            return buffer[key]
        return self.flushed.get(bucket, {}).get(key)

    def get_many(self, bucket: bytes, keys: list[bytes]) -> list[bytes | None]:
        return [self.get(bucket, key) for key in keys]

    def put(self, bucket: bytes, key: bytes, value: bytes) -> None:
        self.pending(bucket)[key] = value

    def delete(self, bucket: bytes, key: bytes) -> None:
        self.pending(bucket)[key] = None

    def range(
        self, bucket: bytes, start: bytes, end: bytes | None, limit: int = 0
    ) -> list[tuple[bytes, bytes]]:
        merged: dict[bytes, bytes | None] = {**self.flushed.get(bucket, {}), **self.pending(bucket)}
        keys = sorted(key for key, value in merged.items() if value is not None)
        keys = keys[bisect_left(keys, start) : None if end is None else bisect_left(keys, end)]
        return [(key, merged[key] or b"") for key in (keys[:limit] if limit else keys)]

    def size(self) -> int:
        return 0

    def flush(self) -> None:
        for bucket, buffer in self.buffers.items():
            data = self.flushed.setdefault(bucket, {})
            for key, value in buffer.items():
                if value is None:
                    data.pop(key, None)
                else:
                    data[key] = value
        for buffer in self.buffers.values():
            buffer.clear()

    def crash(self) -> FakeBackend:
        """What is found after a crash."""
        found = FakeBackend()
        found.flushed = {bucket: dict(data) for bucket, data in self.flushed.items()}
        return found


class AnyLease:
    """A lessor in which every lease exists but the negative ones."""

    def __init__(self) -> None:
        self.attached: set[tuple[int, bytes]] = set()

    def exists(self, lease: int) -> bool:
        return lease > 0

    def attach(self, lease: int, key: bytes) -> None:
        assert (lease, key) not in self.attached
        self.attached.add((lease, key))

    def detach(self, lease: int, key: bytes) -> None:
        self.attached.remove((lease, key))


def put(store: Store, key: bytes, value: bytes = b"", lease: int = 0) -> None:
    """One put as one entry."""
    store.begin()
    store.put(PutRequest(key=key, value=value, lease=lease))
    store.end()


def delete(store: Store, key: bytes, range_end: bytes = b"") -> None:
    """One range delete as one entry."""
    store.begin()
    store.delete_range(DeleteRangeRequest(key=key, range_end=range_end))
    store.end()
