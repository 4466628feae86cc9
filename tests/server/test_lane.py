"""The real lane: when a job is run here and now, and how a wrong opinion of the disk is corrected."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import pytest

from petcd.seams import real
from petcd.seams.real import ThreadLane


def with_lane(body: Callable[[ThreadLane], None]) -> None:
    async def main() -> None:
        lane = ThreadLane(asyncio.get_running_loop(), "test")
        try:
            body(lane)
        finally:
            lane.close()

    asyncio.run(main())


def nothing() -> None:
    pass


def test_short_jobs_are_run_at_once_while_the_lane_is_idle() -> None:
    def body(lane: ThreadLane) -> None:
        ran: list[int] = []
        assert lane.is_quick() and lane.try_now(lambda: ran.append(1)) and ran == [1]
        lane.submit(lambda: time.sleep(0.05), lambda _: None, lambda _: None)
        assert not lane.is_quick() and not lane.try_now(lambda: ran.append(2)) and ran == [1]

    with_lane(body)


def test_what_fails_is_told_to_the_caller() -> None:
    def body(lane: ThreadLane) -> None:
        def fails() -> None:
            raise OSError("disk")

        with pytest.raises(OSError, match="disk"):
            lane.try_now(fails)

    with_lane(body)


def test_after_a_while_a_lane_that_seemed_slow_is_tried_again() -> None:
    def body(lane: ThreadLane) -> None:
        lane._usual_seconds = 0.002
        asked = 1
        while not lane.is_quick():
            asked += 1
        assert asked == real._REFUSALS
        assert lane.is_quick(), "until it was tried"
        assert lane.try_now(nothing)
        assert lane.is_quick(), "what was seen here counts, not what the thread saw before"

    with_lane(body)


def test_one_that_is_slow_stays_so_after_a_trial() -> None:
    def body(lane: ThreadLane) -> None:
        lane._usual_seconds = 0.002
        assert sum([lane.try_now(lambda: time.sleep(0.003)) for _ in range(10 * real._REFUSALS)]) == 10
        assert not lane.is_quick()

    with_lane(body)


def test_one_that_is_very_slow_is_never_tried() -> None:
    def body(lane: ThreadLane) -> None:
        lane._usual_seconds = 0.1
        assert not any(lane.try_now(nothing) for _ in range(10 * real._REFUSALS))

    with_lane(body)
