"""The disk keeps what was synced, and of the rest any part."""

from __future__ import annotations

import errno

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from petcd.seams.disk import Disk
from petcd.testing.clock import SimCrash
from petcd.testing.drive import Loss, Pages
from petcd.testing.world import Host, Simulation


def boot(sim: Simulation) -> tuple[Host, Disk]:
    host = sim.host("a")
    return host, host.boot().disk


def restart(host: Host, loss: Loss) -> Disk:
    host.crash(loss)
    return host.boot().disk


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("write"), st.binary(max_size=9000), st.integers(0, 20_000)),
            st.tuples(st.just("size"), st.just(b""), st.integers(0, 20_000)),
        ),
        max_size=12,
    ),
    st.integers(0, 25_000),
    st.integers(0, 25_000),
)
@settings(max_examples=100, deadline=None)
def test_pages_are_a_bytearray(changes: list[tuple[str, bytes, int]], size: int, offset: int) -> None:
    pages, model = Pages(), bytearray()
    for kind, data, at in changes:
        if kind == "write":
            pages.write(data, at)
            if data:
                model.extend(bytes(max(0, at + len(data) - len(model))))
                model[at : at + len(data)] = data
            else:
                model.extend(bytes(max(0, at - len(model))))
        else:
            pages.resize(at)
            del model[at:]
            model.extend(bytes(at - len(model)))
    assert pages.size == len(model)
    assert pages.read(size, offset) == bytes(model[offset : offset + size])


def test_synced_bytes_survive_and_the_rest_does_not() -> None:
    with Simulation(1) as sim:
        host, disk = boot(sim)
        file = disk.open("f", create=True)
        disk.sync_dir("")
        file.pwrite(b"kept", 0)
        file.datasync()
        file.pwrite(b"lost", 4)
        disk = restart(host, Loss.ALL)
        assert disk.read("f") == b"kept"


def test_a_process_that_dies_loses_nothing_it_wrote() -> None:
    with Simulation(1) as sim:
        host, disk = boot(sim)
        disk.mkdir("d")
        disk.open("d/f", create=True).pwrite(b"there", 0)
        disk = restart(host, Loss.NONE)
        assert disk.read("d/f") == b"there"


def test_a_synced_file_without_a_synced_entry_can_vanish() -> None:
    with Simulation(1) as sim:
        host, disk = boot(sim)
        file = disk.open("f", create=True)
        file.pwrite(b"x", 0)
        file.sync()
        disk = restart(host, Loss.ALL)
        assert not disk.exists("f")


def test_rename_is_lost_or_kept_as_a_whole() -> None:
    outcomes = set()
    for seed in range(40):
        with Simulation(seed) as sim:
            host, disk = boot(sim)
            for name, data in (("new.tmp", b"new"), ("f", b"old")):
                file = disk.open(name, create=True)
                file.pwrite(data, 0)
                file.sync()
            disk.sync_dir("")
            disk.rename("new.tmp", "f")
            disk = restart(host, Loss.SOME)
            outcomes.add((tuple(disk.listdir("")), disk.read("f")))
    assert outcomes == {(("f",), b"new"), (("f", "new.tmp"), b"old")}


def test_unsynced_writes_tear_in_every_way() -> None:
    data = bytes(range(1, 256)) * 8
    kinds = set()
    for seed in range(80):
        with Simulation(seed) as sim:
            host, disk = boot(sim)
            file = disk.open("f", create=True)
            file.allocate(4096)
            file.sync()
            disk.sync_dir("")
            file.pwrite(data, 0)
            found = restart(host, Loss.SOME).read("f")[: len(data)]
            assert all(got in (0, want) for got, want in zip(found, data, strict=True))
            if found == data:
                kinds.add("whole")
            elif not any(found):
                kinds.add("lost")
            elif data.startswith(found.rstrip(b"\0")):
                kinds.add("prefix")
            else:
                kinds.add("sectors")
    assert kinds == {"whole", "lost", "prefix", "sectors"}


def test_crash_at_every_operation() -> None:
    """Write, sync, rename: whatever the operation it dies at, the name holds all of it or is not there."""
    operations = 0
    number = 0
    while not number or number <= operations:
        for loss in Loss:
            with Simulation(number) as sim:
                host, disk = boot(sim)
                host.drive.faults.crash_at = number
                try:
                    disk.mkdir("d")
                    disk.sync_dir("")
                    file = disk.open("d/f.tmp", create=True)
                    file.pwrite(b"whole" * 1000, 0)
                    file.sync()
                    disk.rename("d/f.tmp", "d/f")
                    disk.sync_dir("d")
                except SimCrash:
                    assert number
                    assert not host.running
                else:
                    assert number == 0
                    operations = host.drive.operations
                disk = restart(host, loss)
                if disk.exists("d/f"):
                    assert disk.read("d/f") == b"whole" * 1000
                else:
                    assert number
        number += 1
    assert operations == 7


@pytest.mark.parametrize("kept", range(6))
def test_a_write_may_be_torn_at_a_byte(kept: int) -> None:
    with Simulation(1) as sim:
        host, disk = boot(sim)
        file = disk.open("f", create=True)
        file.pwrite(b"before", 0)
        file.sync()
        disk.sync_dir("")
        host.drive.faults.crash_at = host.drive.operations + 1
        host.drive.faults.crash_keeps = kept
        with pytest.raises(SimCrash):
            file.pwrite(b"after", 6)
        host.drive.faults.crash_at = 0
        assert restart(host, Loss.ALL).read("f") == b"before" + b"after"[:kept]


def test_a_full_disk_takes_what_fits() -> None:
    with Simulation(1) as sim:
        host, disk = boot(sim)
        host.drive.faults.capacity_bytes = 10
        file = disk.open("f", create=True)
        with pytest.raises(OSError, match="No space left") as caught:
            file.pwrite(b"0123456789abcdef", 0)
        assert caught.value.errno == errno.ENOSPC
        assert disk.read("f") == b"0123456789"
        file.pwrite(b"over", 0)
        with pytest.raises(OSError, match="No space left"):
            file.allocate(20)
        disk.remove("f")
        disk.open("g", create=True).pwrite(b"1234567890", 0)


def test_an_operation_may_fail() -> None:
    with Simulation(1) as sim:
        host, disk = boot(sim)
        file = disk.open("f", create=True)
        host.drive.faults.fail_at[host.drive.operations + 2] = errno.EIO
        file.pwrite(b"x", 0)
        with pytest.raises(OSError, match="Input/output"):
            file.sync()
        file.sync()


def test_locks_die_with_their_process() -> None:
    with Simulation(1) as sim:
        host, disk = boot(sim)
        file = disk.open("lock", create=True)
        disk.sync_dir("")
        assert file.try_lock()
        other = disk.open("lock")
        assert not other.try_lock()
        file.close()
        assert other.try_lock()
        disk = restart(host, Loss.ALL)
        assert disk.open("lock").try_lock()


def test_errors_are_the_system_s_own() -> None:
    with Simulation(1) as sim:
        _, disk = boot(sim)
        with pytest.raises(FileNotFoundError):
            disk.open("missing")
        with pytest.raises(FileNotFoundError):
            disk.read("missing/deeper")
        disk.mkdir("d/e")
        with pytest.raises(IsADirectoryError):
            disk.read("d")
        disk.open("d/f", create=True)
        with pytest.raises(FileExistsError):
            disk.open("d/f", create=True, exclusive=True)
        with pytest.raises(NotADirectoryError):
            disk.listdir("d/f")
        with pytest.raises(OSError, match="Bad file"):
            disk.open("d/f", readonly=True).pwrite(b"x", 0)
        disk.remove_tree("d")
        assert disk.listdir("") == []


def test_lanes_run_in_order_and_answer_when_the_sync_is_done() -> None:
    with Simulation(1) as sim:
        host, disk = boot(sim)
        host.drive.faults.sync_seconds = lambda: 1.0
        file = disk.open("f", create=True)
        lane, other = disk.lane("wal"), disk.lane("backend")
        answers: list[tuple[str, float]] = []

        def write(data: bytes) -> None:
            file.pwrite(data, file.size())
            file.datasync()

        for name in ("a", "b"):
            lane.submit(
                lambda name=name: write(name.encode()),  # type: ignore[misc]
                lambda _, name=name: answers.append((name, sim.now)),  # type: ignore[misc]
                lambda error: pytest.fail(str(error)),
            )
        other.submit(
            lambda: 1 // 0, lambda _: pytest.fail("done"), lambda e: answers.append((repr(e), sim.now))
        )
        sim.run_for(5)
        assert [name for name, _ in answers] == [
            "ZeroDivisionError('integer division or modulo by zero')",
            "a",
            "b",
        ]
        assert [at for _, at in answers] == [pytest.approx(0.0), pytest.approx(1.0), pytest.approx(2.0)]
        lane.submit(lambda: write(b"c"), lambda _: answers.append(("c", sim.now)), lambda _: None)
        lane.close()
        assert disk.read("f") == b"abc"


def test_a_clone_is_independent_and_synced() -> None:
    with Simulation(1) as sim:
        host, disk = boot(sim)
        file = disk.open("f", create=True)
        file.pwrite(b"one", 0)
        clone = host.drive.clone()
        file.pwrite(b"two", 0)
        clone.crash(Loss.ALL)
        assert clone.files() == {"f": b"one"}
        assert host.drive.files() == {"f": b"two"}
