"""A database written beside a member's requests: slices here, the disk in a lane, whatever goes wrong."""

from __future__ import annotations

from typing import Any

import pytest
from tests.storage.bbolt.build import Contents, Shown, revision, written
from tests.storage.fakes import FakeDisk, ManualClock, ManualLane, settle

from petcd.storage.bbolt import DatabaseExport
from petcd.storage.bbolt.export import WRITE_BYTES
from petcd.storage.schema import KEY, META

CONTENTS: Contents = {KEY: {revision(main): bytes([main % 251]) * 3000 for main in range(1500)}}
PATH = "/tmp-1"


class Bench:
    """An export whose callbacks and jobs run when told."""

    def __init__(self, contents: Contents = CONTENTS, **options: Any) -> None:
        self.disk = FakeDisk()
        self.clock = ManualClock()
        self.lane = ManualLane(self.clock)
        self.view = Shown(contents)
        self.done: list[tuple[Any, int]] = []
        self.errors: list[BaseException] = []
        self.closed = 0
        opened = self.disk.open

        def open_counting(path: str, /, **how: Any) -> Any:
            file = opened(path, **how)

            def close() -> None:
                self.closed += 1

            file.close = close
            return file

        self.disk.open = open_counting  # type: ignore[method-assign]
        self.export = DatabaseExport(
            self.view,
            PATH,
            disk=self.disk,
            clock=self.clock,
            lane=self.lane,
            done=lambda file, size: self.done.append((file, size)),
            failed=self.errors.append,
            **options,
        )

    def settle(self) -> None:
        settle(self.clock, self.lane)


def test_the_file() -> None:
    bench = Bench()
    bench.settle()
    [(file, size)] = bench.done
    assert file.pread(size + 1, 0) == written(CONTENTS)
    assert file.inode.durable == written(CONTENTS)
    assert (bench.view.closed, bench.closed, bench.errors) == (True, 0, [])
    assert bench.disk.exists(PATH)


def test_small_and_with_overrides() -> None:
    bench = Bench({META: {b"term": bytes(8)}}, overrides={(META, b"term"): b"12345678"})
    bench.settle()
    [(file, size)] = bench.done
    assert file.pread(size, 0) == written({META: {b"term": b"12345678"}})


def test_anonymous_and_not_synced() -> None:
    bench = Bench(anonymous=True, sync=False)
    bench.settle()
    [(file, size)] = bench.done
    assert not bench.disk.exists(PATH)
    assert file.pread(size, 0) == written(CONTENTS)
    assert not any(operation.startswith("sync") for operation in bench.disk.operations)


def test_a_slow_disk_holds_the_pages_up() -> None:
    """With two writes on their way no more is made; memory is theirs."""
    bench = Bench()
    while bench.clock.turn():
        pass
    assert bench.export.size <= 2 * WRITE_BYTES
    assert len(bench.lane.jobs) == 2
    before = bench.export.size
    bench.lane.run_one()
    while bench.clock.turn():
        pass
    assert before < bench.export.size <= before + 2 * WRITE_BYTES
    bench.settle()
    assert bench.done


@pytest.mark.parametrize("turns", [0, 1, 3, 10, 16])
@pytest.mark.parametrize("anonymous", [False, True])
def test_abandoned(turns: int, anonymous: bool) -> None:
    bench = Bench(anonymous=anonymous)
    for _ in range(turns):
        bench.clock.turn()
        bench.lane.run_one()
    bench.export.abandon()
    assert bench.view.closed
    bench.settle()
    bench.export.abandon()
    bench.settle()
    assert (bench.done, bench.errors, bench.closed) == ([], [], 1)


def test_abandoned_when_it_is_done() -> None:
    bench = Bench()
    bench.settle()
    bench.export.abandon()
    bench.settle()
    assert (len(bench.done), bench.closed) == (1, 0), "the file is its receiver's"


def test_no_room() -> None:
    bench = Bench()
    bench.disk.room = 0
    bench.settle()
    [error] = bench.errors
    assert isinstance(error, OSError)
    assert (bench.done, bench.view.closed, bench.closed) == ([], True, 1)


def test_a_sync_that_fails() -> None:
    bench = Bench()
    bench.disk.sync_fails = True
    bench.settle()
    assert len(bench.errors) == 1
    assert (bench.done, bench.closed) == ([], 1)


def test_a_directory_that_is_not_there() -> None:
    bench = Bench()
    bench.disk.names.pop("/")
    bench.settle()
    assert isinstance(bench.errors[0], FileNotFoundError)
    assert len(bench.errors) == 1
    assert (bench.done, bench.view.closed, bench.closed) == ([], True, 0)


def test_a_view_that_fails() -> None:
    class Failing(Shown):
        def iterate(self, *_: Any) -> Any:
            yield revision(1), bytes(9)
            raise ValueError("damaged")

    bench = Bench()
    bench.export.abandon()
    failing = Failing({})
    errors: list[BaseException] = []
    DatabaseExport(
        failing,
        PATH,
        disk=bench.disk,
        clock=bench.clock,
        lane=bench.lane,
        done=lambda *_: None,
        failed=errors.append,
    )
    bench.settle()
    assert [str(error) for error in errors] == ["damaged"]
    assert failing.closed
    assert bench.closed == 2
