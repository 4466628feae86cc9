"""The live line: on a terminal it moves, elsewhere there is not a byte of it."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import termios

import pytest
from tests.benchmark.tool import COMMAND, Run
from tests.servers import Server, clean_environment


def on_terminal(columns: int, *line: str) -> tuple[list[str], str]:
    """What was drawn on a terminal of that width, frame by frame, and what went to stdout."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    process = subprocess.Popen(
        [*COMMAND, *line],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=theirs,
        env=clean_environment(),
    )
    os.close(theirs)
    drawn = bytearray()
    while True:
        try:
            piece = os.read(ours, 65536)
        except OSError:  # the other end is closed
            break
        if not piece:
            break
        drawn += piece
    os.close(ours)
    assert process.stdout is not None
    out = process.stdout.read().decode()
    process.stdout.close()
    assert process.wait(10) == 0
    text = drawn.decode()
    assert text.endswith("\r\n")  # the terminal makes this of a newline
    frames = text.removesuffix("\r\n").split("\r")
    assert frames.pop(0) == ""
    return frames, out


@pytest.mark.parametrize("columns", [120, 40])
def test_the_line_moves_and_ends_full(petcd: Server, columns: int) -> None:
    frames, out = on_terminal(
        columns, f"--endpoints={petcd.endpoint}", "--clients=5", "put", "--rate=100", "--total=130"
    )
    # It takes 1.3 seconds, and is drawn every half.
    assert len(frames) >= 3
    for frame in frames:
        assert len(frame) == columns - 1
        assert frame.startswith("put ")
        assert ("[" in frame) == (columns > 40)
    shown = [int(frame.split("/130")[0].split()[-1]) for frame in frames]
    assert shown == sorted(shown)
    assert 0 < shown[0] < 130
    assert shown[-1] == 130
    assert "100.00%" in frames[-1]
    assert out.startswith("\nSummary:\n")
    assert "\r" not in out


def test_each_phase_has_its_line(petcd: Server) -> None:
    frames, _ = on_terminal(
        100, f"--endpoints={petcd.endpoint}", "watch-latency", "--put-total=5", "--streams=2"
    )
    assert frames[-1].startswith("watch-latency [====")
    assert "100/100" in frames[-1]


def test_elsewhere_nothing_is_drawn(petcd: Server) -> None:
    run = Run("put", "--rate=100", "--total=80", endpoint=petcd.endpoint)
    assert run.err == ""
    assert "\r" not in run.out
