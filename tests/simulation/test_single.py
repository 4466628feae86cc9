"""A single member, crashed at every failpoint and at every disk operation, restarted, compared.

Source: contract/history.md section 2, rows 3.5 postmortem, 14370, 17780, 14098, 6368, 5230, LazyFS 16-18.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator

import pytest
from tests.simulation import single
from tests.simulation.history import history
from tests.simulation.single import Golden, check_recovery, crash_at_failpoint, golden_run, new_run

from petcd.testing.drive import Loss
from petcd.testing.world import Simulation

SEED = 20
REQUESTS = 60
LOSSES = [Loss.SOME, Loss.ALL, Loss.NONE]


@pytest.fixture(autouse=True)
def _small_segments() -> Iterator[None]:
    with single.small_segments():
        yield


@pytest.fixture(scope="module")
def golden() -> Golden:
    with single.small_segments():
        return golden_run(history(SEED, REQUESTS), SEED)


def test_the_history_reaches_what_it_is_meant_to(golden: Golden) -> None:
    kinds = {type(request).__name__ for request in golden.requests}
    assert len(kinds) == 6
    assert golden.states[-1][1] > 0, "no compaction took place"
    assert {"raftBeforeSave", "raftAfterSave", "beforeCommit", "afterCommit"} <= set(golden.failpoints)
    assert {"raftBeforeSaveSnap", "raftAfterSaveSnap"} <= set(golden.failpoints)
    assert any(isinstance(answer, str) for answer in golden.answers.values()), "nothing was refused"


def test_a_seed_is_a_run(golden: Golden) -> None:
    def digest() -> str:
        with Simulation(SEED) as sim:
            run = new_run(sim, golden.requests)
            assert run.boot()
            run.give(20)
            run.die(Loss.SOME)
            assert run.boot()
            return sim.digest()

    assert digest() == digest()


@pytest.mark.slow
def test_crash_at_every_failpoint(golden: Golden) -> None:
    for name, count in sorted(golden.failpoints.items()):
        for number in sorted({1, min(2, count), count // 3, count // 2, count} - {0}):
            for loss in LOSSES:
                with Simulation(SEED) as sim:
                    sim.note("test", f"crash at hit {number} of {name}, loss {loss.value}")
                    run = new_run(sim, golden.requests)
                    run.prepare = crash_at_failpoint(run, name, number)
                    if run.boot():
                        run.give(REQUESTS)
                    assert not run.host.running, f"{name} was not hit {number} times"
                    check_recovery(run, golden, loss)


@pytest.mark.slow
def test_crash_at_every_disk_operation(golden: Golden) -> None:
    """Each operation of the whole run, the first start included; the kind of loss takes turns."""
    for number in range(1, golden.operations + 1):
        crash_at_operation(golden, number, LOSSES[number % 3])


def crash_at_operation(golden: Golden, number: int, loss: Loss, again: Loss | None = None) -> None:
    with Simulation(SEED + number) as sim:
        sim.note("test", f"crash at operation {number}, loss {loss.value}")
        run = new_run(sim, golden.requests)
        run.host.drive.faults.crash_at = number
        if run.boot():
            run.give(REQUESTS)
        check_recovery(run, golden, loss, again=again)


@pytest.mark.slow
def test_crash_again_while_recovering(golden: Golden) -> None:
    """Every operation of a restart is crashed, too."""
    for first in range(25, golden.operations, max(1, golden.operations // 6)):
        number = 0
        while True:
            number += 1
            with Simulation(SEED + first) as sim:
                run = new_run(sim, golden.requests)
                faults = run.host.drive.faults
                faults.crash_at = first
                if run.boot():
                    run.give(REQUESTS)
                run.die(Loss.SOME)
                faults.crash_at = run.host.drive.operations + number
                started = run.boot()
                if started:
                    break  # the restart takes fewer operations than that
                sim.note("test", f"crash at {first}, then at operation {number} of the restart")
                check_recovery(run, golden, LOSSES[number % 3])


@pytest.mark.slow
def test_the_last_log_write_torn_at_every_byte(golden: Golden) -> None:
    """A write to the log stops at each byte of it, and nothing else unsynced survives."""
    writes = log_writes(golden)
    for operation, size in (writes[len(writes) // 2], writes[-1]):
        for kept in range(size + 1):
            with Simulation(SEED) as sim:
                sim.note("test", f"operation {operation} torn after {kept} of {size} bytes")
                run = new_run(sim, golden.requests)
                run.host.drive.faults.crash_at = operation
                run.host.drive.faults.crash_keeps = kept
                assert run.boot()
                run.give(REQUESTS)
                assert not run.host.running
                check_recovery(run, golden, Loss.ALL)


def log_writes(golden: Golden) -> list[tuple[int, int]]:
    """The writes of batches to the log in a run without faults: operation number and bytes."""
    from petcd.testing.disk import SimFile

    found: list[tuple[int, int]] = []
    original = SimFile.pwrite

    def pwrite(self: SimFile, data: bytes, offset: int, /) -> None:
        original(self, data, offset)
        if self.path.endswith(".wal") and offset:
            found.append((self._disk.drive.operations, len(data)))

    SimFile.pwrite = pwrite  # type: ignore[method-assign]
    try:
        with Simulation(SEED) as sim:
            run = new_run(sim, golden.requests)
            assert run.boot()
            run.give(REQUESTS)
    finally:
        SimFile.pwrite = original  # type: ignore[method-assign]
    return found


@pytest.mark.slow
@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC], ids=["EIO", "ENOSPC"])
def test_a_failing_operation_never_costs_what_was_acknowledged(golden: Golden, code: int) -> None:
    """The member may go on or stop; it may not lie. After the fault is gone it starts and has everything."""
    stopped = 0
    step = 2 if code == errno.EIO else 3
    for number in range(1, golden.operations + 1, step):
        with Simulation(SEED + number) as sim:
            sim.note("test", f"{errno.errorcode[code]} at operation {number}")
            run = new_run(sim, golden.requests)
            run.host.drive.faults.fail_at[number] = code
            if run.boot():
                run.give(REQUESTS)
            stopped += run.failure is not None
            check_recovery(run, golden, Loss.SOME)
    assert stopped > 0


FOUND = (150, 167, 564, 735, 803, 823, 930)
"""Seeds that failed once, with 60 requests: what a killed process had written without a sync was read at the
restart, counted as persisted, and lost with the power after that."""


@pytest.mark.slow
@pytest.mark.parametrize("seed", FOUND)
def test_seeds_that_failed_once(seed: int) -> None:
    with single.small_segments():
        single.random_crashes(seed, 60)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(12))
def test_random_crashes_of_random_histories(seed: int) -> None:
    single.random_crashes(seed, REQUESTS)
