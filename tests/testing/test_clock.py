"""Virtual time: order, processes that die or pause, and runs that never really wait."""

from __future__ import annotations

import asyncio
import time

import pytest

from petcd.testing.clock import Process, SimClock, SimCrash, SimDeadlock, SimLoop
from petcd.testing.world import Simulation


def test_an_hour_passes_at_once() -> None:
    started = time.monotonic()
    with Simulation(1) as sim:

        async def wait() -> float:
            await asyncio.sleep(3500)
            return sim.now

        assert sim.run(wait()) == pytest.approx(3500)
    assert time.monotonic() - started < 1.0


def test_callbacks_run_in_order_and_timers_by_time() -> None:
    with Simulation(1) as sim:
        world = sim.host("a").boot()
        seen: list[object] = []
        world.clock.call_later(0.2, seen.append, "late")
        world.clock.call_later(0.1, seen.append, "early")
        world.clock.call_soon(seen.append, 1)
        world.clock.call_soon(seen.append, 2)
        cancelled = world.clock.call_later(0.15, seen.append, "never")
        cancelled.cancel()
        sim.run_for(1)
        assert seen == [1, 2, "early", "late"]


def test_nothing_of_a_dead_process_runs_again() -> None:
    with Simulation(1) as sim:
        host = sim.host("a")
        world = host.boot()
        seen: list[str] = []

        async def loop_for_ever() -> None:
            try:
                while True:
                    seen.append("turn")
                    await asyncio.sleep(1)
            finally:
                world.clock.call_soon(seen.append, "words after death")

        assert host.process is not None
        host.process.spawn(loop_for_ever())
        world.clock.call_later(5, seen.append, "timer")
        sim.run_for(2.5)
        host.crash()
        sim.run_for(10)
        assert seen == ["turn"] * 3


def test_a_crash_inside_a_callback_ends_only_its_own_process() -> None:
    with Simulation(1) as sim:
        a, b = sim.host("a"), sim.host("b")
        world_a, world_b = a.boot(), b.boot()
        seen: list[str] = []

        def die() -> None:
            a.stop_here()
            seen.append("not reached")

        world_a.failpoints.arm("raftBeforeSave", die)
        world_a.clock.call_soon(world_a.failpoints.hit, "raftBeforeSave")
        world_a.clock.call_soon(seen.append, "a")
        world_b.clock.call_soon(seen.append, "b")
        sim.run_for(1)
        assert seen == ["b"]
        assert not a.running
        assert b.running


def test_a_task_that_crashes_takes_its_process_along() -> None:
    with Simulation(1) as sim:
        host = sim.host("a")
        world = host.boot()
        seen: list[str] = []

        async def die_later() -> None:
            await asyncio.sleep(1)
            host.stop_here()

        assert host.process is not None
        host.process.spawn(die_later())
        world.clock.call_later(2, seen.append, "late")
        sim.run_for(5)
        assert not host.running
        assert seen == []


def test_a_paused_process_catches_up_in_order() -> None:
    with Simulation(1) as sim:
        host = sim.host("a")
        world = host.boot()
        seen: list[int] = []
        for number in range(5):
            world.clock.call_later(number + 0.5, seen.append, number)
        sim.run_for(1)
        host.pause()
        sim.run_for(3)
        assert seen == [0]
        host.resume()
        sim.run_for(0.1)
        assert seen == [0, 1, 2, 3]
        sim.run_for(1)
        assert seen == [0, 1, 2, 3, 4]


def test_clocks_may_run_at_their_own_rate_and_jump() -> None:
    loop = SimLoop()
    try:
        process = Process(loop, "a")
        fast = SimClock(process, rate=2.0)
        fired: list[float] = []
        fast.call_later(10, lambda: fired.append(loop.now))
        loop.call_later(20, loop.stop)
        loop.run_forever()
        assert fired == [pytest.approx(5.0)]
        assert fast.monotonic() == pytest.approx(40.0)
        before = fast.wall_ns()
        fast.wall_offset_ns -= 10**12
        assert fast.wall_ns() == before - 10**12
        assert fast.monotonic() == pytest.approx(40.0)
    finally:
        loop.close()


def test_waiting_for_nothing_is_an_error() -> None:
    with Simulation(1) as sim:

        async def wait() -> None:
            await sim.loop.create_future()

        task = sim.loop.create_task(wait())
        with pytest.raises(SimDeadlock):
            sim.loop.run_until_complete(task)
        task.cancel()


def test_an_exception_nobody_handles_fails_the_run() -> None:
    with Simulation(1) as sim:
        world = sim.host("a").boot()
        world.clock.call_soon(lambda: 1 // 0)
        with pytest.raises(ZeroDivisionError):
            sim.run_for(1)


def test_a_dead_process_refuses_calls() -> None:
    with Simulation(1) as sim:
        host = sim.host("a")
        world = host.boot()
        host.crash()
        with pytest.raises(SimCrash):
            world.disk.mkdir("x")
