"""How a run ends before its time: by a signal, with the report so far; by a server that goes away."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from tests.benchmark.tool import COMMAND
from tests.servers import Server, clean_environment, serving


@contextmanager
def running(*line: str) -> Iterator[subprocess.Popen[str]]:
    """A run under way; whatever happens, it is gone afterwards."""
    with subprocess.Popen(
        [*COMMAND, *line],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=clean_environment(),
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def wait_for_revision(server: Server, wanted: int, seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while True:
        status, body = server.http("POST", "/v3/kv/range", b'{"key":"AA=="}')
        if status == 200 and int(json.loads(body)["header"]["revision"]) >= wanted:
            return
        assert time.monotonic() < end, f"no revision {wanted}"
        time.sleep(0.01)


def revision(server: Server) -> int:
    _, body = server.http("POST", "/v3/kv/range", b'{"key":"AA=="}')
    return int(json.loads(body)["header"]["revision"])


def answered(out: str) -> int:
    rows = out.split("Response time histogram:\n")[1].split("\n\n")[0].splitlines()
    return sum(int(row.split("[")[1].split("]")[0]) for row in rows)


LINE = "stopped: the report covers what was done so far\n"


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_with_the_report_so_far(server: Server, number: signal.Signals, status: int) -> None:
    before = revision(server)
    with running(
        f"--endpoints={server.endpoint}", "--clients=4", "put", "--total=1000000", "--rate=500"
    ) as process:
        wait_for_revision(server, before + 50)
        process.send_signal(number)
        out, err = process.communicate(timeout=10)
    assert (process.returncode, err) == (status, LINE)
    assert out.startswith("\nSummary:\n")
    done = revision(server) - before
    # What was under way may have been done without its answer being waited for.
    assert done - 4 <= answered(out) <= done


def test_the_phase_before_has_its_report_too(petcd: Server) -> None:
    """watch has made its watches; taking the events is cut short."""
    before = revision(petcd)
    with running(f"--endpoints={petcd.endpoint}", "watch", "--put-rate=200", "--put-total=100000") as process:
        wait_for_revision(petcd, before + 20)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=10)
    assert (process.returncode, err) == (130, LINE)
    assert out.startswith("Watch creation summary:\n\nSummary:\n")
    assert "\nWatch events received summary:\n\nSummary:\n" in out


def test_a_signal_while_nobody_answers() -> None:
    """A server that accepts and says nothing: the signal ends the wait at once."""
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        running(f"--endpoints=127.0.0.1:{listener.getsockname()[1]}", "--dial-timeout=60s", "put") as process,
    ):
        connection, _ = listener.accept()
        with connection:
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=10)
    assert (process.returncode, out, err) == (130, "", LINE)


@pytest.mark.parametrize("locker", ["stm", "lock-client"])
def test_a_server_that_hangs_cannot_hold_up_the_end(locker: str) -> None:
    with serving("petcd") as server:
        before = revision(server)
        with running(
            f"--endpoints={server.endpoint}",
            "--clients=3",
            "stm",
            f"--stm-locker={locker}",
            "--txn-wr-percent=100",
            "--total=1000000",
        ) as process:
            wait_for_revision(server, before + 20)
            server.pause()
            process.send_signal(signal.SIGINT)
            # Leases are given back; that is waited for two seconds.
            out, err = process.communicate(timeout=6)
        assert (process.returncode, err) == (130, LINE)
        assert out.startswith("\nSummary:\n")


def test_a_server_that_is_back_soon() -> None:
    """What was under way fails and is counted, the rest waits; nothing is sent twice."""
    with serving("petcd") as server:
        before = revision(server)
        with running(
            f"--endpoints={server.endpoint}", "--clients=5", "put", "--total=400", "--rate=200"
        ) as process:
            wait_for_revision(server, before + 30)
            server.kill()
            server.start()
            out, err = process.communicate(timeout=30)
        assert (process.returncode, err) == (0, "")
        errors = out.partition("Error distribution:\n")[2].splitlines()
        failed = sum(int(row.split("[")[1].split("]")[0]) for row in errors if row)
        assert answered(out) + failed == 400
        assert failed <= 5
        assert answered(out) <= revision(server) - before <= 400


@pytest.mark.parametrize(
    ("command", "reports"),
    [
        ("watch", ("\nWatch events received summary:",)),
        ("watch-latency", ("\nPut summary:", "\nWatch events")),
    ],
)
def test_watches_do_not_outlive_the_server(command: str, reports: tuple[str, ...]) -> None:
    """Events may be lost then, so nobody could say when the run is over."""
    with serving("petcd") as server:
        before = revision(server)
        with running(
            f"--endpoints={server.endpoint}", command, "--put-rate=200", "--put-total=100000"
        ) as process:
            wait_for_revision(server, before + 30)
            server.kill()
            out, err = process.communicate(timeout=10)
    assert process.returncode == 1
    assert err.startswith("Error: ")
    for report in reports:
        summary = out.partition(f"{report}")[2]
        assert answered(summary) > 20
