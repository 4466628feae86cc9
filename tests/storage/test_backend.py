"""The write buffer and the course of a flush, the same on LMDB and on its twin."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.storage.fakes import ManualClock, ManualLane, settle

from petcd.seams import Failpoints
from petcd.seams.real import RealDisk
from petcd.storage.backend import SLICE_ITEMS, BufferedBackend
from petcd.storage.errors import ClosedError, DiskFullError, StorageError
from petcd.storage.lmdb_backend import LmdbBackend
from petcd.storage.memory_backend import MemoryBackend
from petcd.storage.schema import AUTH_USERS, BUCKETS, CONSISTENT_INDEX, KEY, LEASE, META, Bucket

Parts = tuple[BufferedBackend, ManualClock, ManualLane, Failpoints]


@pytest.fixture(params=["lmdb", "memory", "memory on disk"])
def parts(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Parts]:
    clock, failpoints = ManualClock(), Failpoints()
    lane = ManualLane(clock)
    backend: BufferedBackend
    if request.param == "lmdb":
        backend = LmdbBackend(
            f"{tmp_path}/petcd.mdb", disk=RealDisk(), clock=clock, lane=lane, failpoints=failpoints
        )
    elif request.param == "memory":
        backend = MemoryBackend(clock=clock, lane=lane, failpoints=failpoints)
    else:
        backend = MemoryBackend(
            disk=RealDisk(), path=f"{tmp_path}/petcd.mdb", clock=clock, lane=lane, failpoints=failpoints
        )
    yield backend, clock, lane, failpoints
    backend.close()


def rev(n: int) -> bytes:
    return n.to_bytes(8, "big") + b"_" + bytes(8)


class Log:
    """Notes what was called, in order."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def __call__(self, name: str) -> Callable[..., object]:
        return lambda *_: self.calls.append(name)


def test_a_write_is_visible_at_every_stage_of_its_way(parts: Parts) -> None:
    backend, clock, lane, _ = parts
    backend.put(KEY, rev(1), b"one")
    backend.put(KEY, rev(2), b"two")

    def seen() -> list[tuple[bytes, bytes]]:
        assert backend.get(KEY, rev(1)) == b"one"
        assert backend.get(KEY, rev(3)) is None
        assert backend.get_many(KEY, [rev(2), rev(9), rev(1)]) == [b"two", None, b"one"]
        return backend.range(KEY, b"", None)

    expected = [(rev(1), b"one"), (rev(2), b"two")]
    assert seen() == expected
    assert backend.puts == 2
    log = Log()
    backend.flush(log("done"))
    assert backend.puts == 0
    while not log.calls:
        assert seen() == expected
        assert clock.turn() or lane.run_one()
    assert seen() == expected
    view = backend.open_view()
    assert view.range(KEY, b"", None) == expected
    view.close()


def test_newer_writes_cover_older_ones_in_every_layer(parts: Parts) -> None:
    backend, clock, lane, _ = parts
    for stage in (b"committed", b"writing", b"queued", b"new"):
        for i, bucket_key in enumerate((b"a", b"b", b"c", b"d")):
            if stage in (b"committed", b"writing", b"queued", b"new")[: i + 1]:
                backend.put(META, bucket_key, stage)
        if stage == b"committed":
            backend.flush(lambda: None)
            settle(clock, lane)
        elif stage == b"writing":
            backend.delete(META, b"gone")
            backend.flush(lambda: None)
            assert lane.run_one()
            clock.turn()
        elif stage == b"queued":
            backend.flush(lambda: None)
    backend.delete(META, b"b")
    expected = [(b"a", b"committed"), (b"c", b"queued"), (b"d", b"new")]
    assert backend.range(META, b"", None) == expected
    assert backend.range(META, b"", None, 2) == expected[:2]
    assert backend.range(META, b"b", b"d") == expected[1:2]
    assert backend.get(META, b"b") is None
    assert backend.get_many(META, [b"a", b"b", b"c", b"d"]) == [b"committed", None, b"queued", b"new"]
    backend.flush(lambda: None)
    settle(clock, lane)
    assert backend.range(META, b"", None) == expected


def test_a_flush_takes_what_was_put_before_it_and_nothing_else(parts: Parts) -> None:
    backend, clock, lane, _ = parts
    log = Log()
    views = []

    def look(name: str) -> None:
        log.calls.append(name)
        view = backend.open_view()
        views.append(view.get(META, CONSISTENT_INDEX))
        view.close()

    for index in (b"1", b"2", b"3"):
        backend.put(META, CONSISTENT_INDEX, index)
        backend.flush(lambda index=index: look(index.decode()))  # type: ignore[misc]
    backend.put(META, CONSISTENT_INDEX, b"4")
    settle(clock, lane)
    assert log.calls == ["1", "2", "3"]
    # The two that came while the first was under way went together.
    assert views == [b"1", b"3", b"3"]
    assert backend.get(META, CONSISTENT_INDEX) == b"4"
    assert backend.puts == 1


def test_a_flush_of_nothing_waits_for_what_is_under_way(parts: Parts) -> None:
    backend, clock, lane, _ = parts
    log = Log()
    backend.flush(log("nothing"))
    settle(clock, lane)
    assert log.calls == ["nothing"]
    backend.put(META, b"a", b"1")
    backend.flush(log("first"))
    backend.flush(log("second"))
    assert log.calls == ["nothing"]
    settle(clock, lane)
    assert log.calls == ["nothing", "first", "second"]


def test_the_pending_dict_stays_the_same(parts: Parts) -> None:
    backend, clock, lane, _ = parts
    pending = backend.pending(KEY)
    for i in range(3):
        pending[rev(i)] = b"x"
        assert backend.puts == 1
        backend.flush(lambda: None)
        assert backend.pending(KEY) is pending
        assert not pending
        settle(clock, lane)
    pending[rev(1)] = None
    assert [k for k, _ in backend.range(KEY, b"", None)] == [rev(0), rev(2)]


def test_the_loop_is_never_held_for_more_than_a_slice(parts: Parts) -> None:
    backend, clock, lane, _ = parts
    sizes: list[int] = []
    write = backend._write

    def spy(bucket: Bucket, items: list[tuple[bytes, bytes]], deletions: list[bytes]) -> None:
        sizes.append(len(items) + len(deletions))
        write(bucket, items, deletions)

    backend._write = spy  # type: ignore[method-assign]
    for i in range(2 * SLICE_ITEMS + 5):
        backend.put(KEY, rev(i), b"x")
    for i in range(3):
        backend.put(LEASE, rev(i), b"x" * 600_000)
    backend.flush(lambda: None)
    turns = 0
    while clock.turn() or lane.run_one():
        turns += 1
        assert len(sizes) <= turns
    assert sizes == [SLICE_ITEMS, SLICE_ITEMS, 5, 2, 1]


def test_a_failed_commit_loses_nothing(parts: Parts) -> None:
    backend, clock, lane, failpoints = parts
    log = Log()
    errors: list[StorageError] = []

    def full() -> None:
        raise OSError(28, "No space left on device")

    for name in ("beforeStartDBTxn", "beforeCommit"):
        failpoints.arm(name, full)
        backend.put(META, b"a", name.encode())
        backend.put(META, b"only " + name.encode(), b"x")
        backend.flush(log("done " + name), errors.append)
        backend.put(META, b"later", b"x")
        settle(clock, lane)
        assert isinstance(errors[-1], DiskFullError)
        assert isinstance(errors[-1].__cause__, OSError)
        assert backend.get(META, b"a") == name.encode()
        view = backend.open_view()
        assert view.get(META, b"a") is None
        view.close()
        failpoints.disarm(name)
    assert log.calls == []
    backend.put(META, b"a", b"newest")
    backend.flush(log("done"), errors.append)
    settle(clock, lane)
    assert len(errors) == 2
    assert log.calls == ["done beforeStartDBTxn", "done beforeCommit", "done"]
    view = backend.open_view()
    assert [k for k, _ in view.iterate(META)] == [
        b"a",
        b"later",
        b"only beforeCommit",
        b"only beforeStartDBTxn",
    ]
    assert view.get(META, b"a") == b"newest"
    view.close()


def test_failpoints_stand_in_etcds_order(parts: Parts) -> None:
    backend, clock, lane, failpoints = parts
    order: list[str] = []
    for name in (
        "beforeCommit",
        "afterCommit",
        "beforeStartDBTxn",
        "afterStartDBTxn",
        "beforeWritebackBuf",
        "afterWritebackBuf",
        "defragBeforeCopy",
        "defragBeforeRename",
    ):
        failpoints.arm(name, lambda name=name: order.append(name))  # type: ignore[misc]
    backend.put(META, b"a", b"1")
    backend.defragment(lambda: order.append("done"))
    settle(clock, lane)
    assert order == [
        "beforeStartDBTxn",
        "afterStartDBTxn",
        "beforeWritebackBuf",
        "afterWritebackBuf",
        "beforeCommit",
        "afterCommit",
        "defragBeforeCopy",
        "defragBeforeRename",
        "done",
    ]
    assert backend.commit_seconds.count == 1


def test_a_view_keeps_what_it_saw(parts: Parts) -> None:
    backend, clock, lane, _ = parts
    for i in range(10):
        backend.put(KEY, rev(i), b"old")
    backend.flush(lambda: None)
    settle(clock, lane)
    view = backend.open_view()
    for i in range(5, 15):
        backend.put(KEY, rev(i), b"new")
    backend.delete(KEY, rev(0))
    backend.flush(lambda: None)
    settle(clock, lane)
    backend.defragment(lambda: None)
    settle(clock, lane)
    assert list(view.iterate(KEY)) == [(rev(i), b"old") for i in range(10)]
    assert list(view.iterate(KEY, rev(3), rev(6))) == [(rev(i), b"old") for i in range(3, 6)]
    assert view.get(KEY, rev(0)) == b"old"
    assert view.range(KEY, rev(2), None, 2) == [(rev(2), b"old"), (rev(3), b"old")]
    view.close()
    later = backend.open_view()
    assert later.get(KEY, rev(0)) is None
    assert later.get(KEY, rev(14)) == b"new"
    later.close()


def test_defragmenting_gives_free_pages_back_while_writes_go_on(parts: Parts) -> None:
    backend, clock, lane, _ = parts
    for i in range(3000):
        backend.put(KEY, rev(i), b"v" * 500)
    backend.flush(lambda: None)
    settle(clock, lane)
    for i in range(2900):
        backend.delete(KEY, rev(i))
    backend.flush(lambda: None)
    settle(clock, lane)
    before = backend.size()
    assert backend.size_in_use() < before / 4
    log = Log()
    backend.defragment(log("defragmented"))
    while "defragmented" not in log.calls:
        backend.put(META, b"meanwhile", str(len(lane.jobs)).encode())
        backend.flush(log("flushed"))
        assert backend.get(META, b"meanwhile") is not None
        assert len(backend.range(KEY, b"", None)) == 100
        assert clock.turn() or lane.run_one()
    settle(clock, lane)
    assert "flushed" in log.calls
    assert backend.size() < before / 4
    assert len(backend.range(KEY, b"", None)) == 100
    view = backend.open_view()
    assert view.get(META, b"meanwhile") is not None
    view.close()


def test_replacing_swaps_everything_at_once(parts: Parts) -> None:
    backend, clock, lane, _ = parts
    backend.put(META, b"old", b"1")
    backend.flush(lambda: None)
    backend.put(META, b"buffered", b"1")
    log = Log()
    backend.replace(lambda: [(KEY, rev(1), b"x"), (META, b"new", b"2")], log("replaced"))
    while not log.calls:
        assert backend.get(META, b"old") == b"1"
        assert clock.turn() or lane.run_one()
    for bucket in BUCKETS:
        assert backend.range(bucket, b"", None) == {
            KEY: [(rev(1), b"x")],
            META: [(b"new", b"2")],
        }.get(bucket, [])
    assert backend.puts == 0
    backend.put(META, b"after", b"3")
    backend.flush(lambda: None)
    settle(clock, lane)
    assert backend.get(META, b"after") == b"3"


def test_a_failing_source_of_a_replacement_changes_nothing(parts: Parts) -> None:
    backend, clock, lane, _ = parts
    backend.put(META, b"old", b"1")

    def broken() -> Iterator[tuple[Bucket, bytes, bytes]]:
        yield KEY, rev(1), b"x"
        raise OSError(5, "Input/output error")

    errors: list[StorageError] = []
    backend.replace(broken, lambda: pytest.fail("it must not succeed"), errors.append)
    settle(clock, lane)
    assert len(errors) == 1
    assert backend.get(META, b"old") == b"1"
    assert backend.get(KEY, rev(1)) is None
    backend.flush(lambda: None)
    settle(clock, lane)
    assert backend.get(META, b"old") == b"1"


def test_after_close_nothing_is_flushed(parts: Parts) -> None:
    backend, clock, lane, _ = parts
    backend.put(META, b"a", b"1")
    backend.flush(lambda: pytest.fail("closed"))
    lane.run_one()
    clock.turn()
    backend.close()
    assert lane.closed
    clock.turn()
    with pytest.raises(ClosedError):
        backend.flush(lambda: None)
    with pytest.raises(ClosedError):
        backend.open_view()


# ------------------------------------------------------------------ against each other, and against a dict

KEYS = st.one_of(
    st.binary(min_size=1, max_size=3),
    # Longer than LMDB's own limit, with beginnings in common.
    st.sampled_from(
        [b"u" * 477, b"u" * 478, b"u" * 479, b"u" * 480, b"u" * 511, b"u" * 600, b"u" * 480 + b"v"]
    ),
)
OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.sampled_from([META, AUTH_USERS]), KEYS, st.binary(max_size=20)),
        st.tuples(st.just("delete"), st.sampled_from([META, AUTH_USERS]), KEYS),
        st.tuples(st.just("flush")),
        st.tuples(st.just("lane")),
        st.tuples(st.just("turn")),
        st.tuples(st.just("defragment")),
        st.tuples(st.just("range"), st.sampled_from([META, AUTH_USERS]), KEYS, KEYS, st.integers(0, 4)),
        st.tuples(st.just("reopen")),
    ),
    max_size=40,
)


@given(OPERATIONS)
@settings(max_examples=60, deadline=None)
def test_both_backends_are_a_dict_that_forgets_at_a_crash(operations: list[tuple]) -> None:  # type: ignore[type-arg]
    with TemporaryDirectory() as directory:
        disk = RealDisk()

        def start() -> list[tuple[BufferedBackend, ManualClock, ManualLane]]:
            started: list[tuple[BufferedBackend, ManualClock, ManualLane]] = []
            for name in ("lmdb", "memory"):
                clock = ManualClock()
                lane = ManualLane(clock)
                path = f"{directory}/{name}/petcd.mdb"
                disk.mkdir(f"{directory}/{name}")
                if name == "lmdb":
                    started.append(
                        (LmdbBackend(path, disk=disk, clock=clock, lane=lane, map_bytes=1 << 24), clock, lane)
                    )
                else:
                    started.append((MemoryBackend(disk=disk, path=path, clock=clock, lane=lane), clock, lane))
            return started

        twins = start()
        model: dict[Bucket, dict[bytes, bytes]] = {META: {}, AUTH_USERS: {}}
        for operation, *args in operations:
            if operation in ("put", "delete"):
                bucket, key = args[0], args[1]
                if bucket == META:
                    key = key[:3]
                if operation == "put":
                    model[bucket][key] = args[2]
                else:
                    model[bucket].pop(key, None)
                for backend, _, _ in twins:
                    if operation == "put":
                        backend.put(bucket, key, args[2])
                    else:
                        backend.delete(bucket, key)
            elif operation == "range":
                bucket, start_key, end, limit = args
                expected = sorted((k, v) for k, v in model[bucket].items() if start_key <= k < end)
                for backend, _, _ in twins:
                    assert backend.range(bucket, start_key, end, limit) == expected[: limit or None]
            elif operation == "reopen":
                for backend, clock, lane in twins:
                    backend.flush(lambda: None)
                    settle(clock, lane)
                    backend.put(META, b"lost", b"x")
                    backend.close()
                twins = start()
            else:
                for backend, clock, lane in twins:
                    if operation == "flush":
                        backend.flush(lambda: None)
                    elif operation == "lane":
                        lane.run_one()
                    elif operation == "turn":
                        clock.turn()
                    else:
                        backend.defragment(lambda: None)
            for backend, _, _ in twins:
                for bucket, table in model.items():
                    keys = [*table, b"absent", b"w" * 600][: None if bucket == AUTH_USERS else -1]
                    assert backend.get_many(bucket, keys) == [table.get(key) for key in keys]
                    for key in keys[:2]:
                        assert backend.get(bucket, key) == table.get(key)
        for backend, clock, lane in twins:
            settle(clock, lane)
            for bucket, table in model.items():
                assert backend.range(bucket, b"", None) == sorted(table.items())
            backend.flush(lambda: None)
            settle(clock, lane)
            view = backend.open_view()
            for bucket, table in model.items():
                assert list(view.iterate(bucket)) == sorted(table.items())
            view.close()
            backend.close()
