"""The process around a member: its lines, its signals, its exit codes."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from petcd.cli.etcd import hostinfo
from petcd.cli.etcd.report import describe, expected
from petcd.server.url import parse_url

FAKE = str(Path(__file__).with_name("fake_member.py"))
READY = "successfully notified init daemon"


@contextmanager
def member(*arguments: str, **variables: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, FAKE, "--name=m1", *arguments],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **variables},
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        if process.stderr is not None:
            process.stderr.close()


def read_until(process: subprocess.Popen[str], message: str) -> list[dict[str, Any]]:
    records = []
    assert process.stderr is not None
    for line in process.stderr:
        records.append(json.loads(line))
        if records[-1]["msg"] == message:
            return records
    raise AssertionError(f"{message!r} never came: {records}")


def run_to_end(*arguments: str, **variables: str) -> tuple[list[dict[str, Any]], int]:
    with member(*arguments, **variables) as process:
        assert process.stderr is not None
        records = [json.loads(line) for line in process.stderr]
        return records, process.wait(10)


@pytest.mark.parametrize(
    ("number", "name"), [(signal.SIGTERM, "terminated"), (signal.SIGINT, "interrupt")], ids=str
)
def test_a_signal_ends_the_member_and_then_the_process(
    number: signal.Signals, name: str, tmp_path: Path
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as daemon:
        daemon.bind(str(tmp_path / "notify"))
        daemon.settimeout(10)
        with member("--data-dir=d", NOTIFY_SOCKET=str(tmp_path / "notify")) as process:
            records = read_until(process, READY)
            assert daemon.recv(100) == b"READY=1"
            process.send_signal(number)
            last = read_until(process, "received signal; shutting down")[-1]
            assert last["signal"] == name
            assert process.wait(10) == -number
            assert daemon.recv(100) == b"STOPPING=1"
    assert [record["msg"] for record in records] == [
        "Running http and grpc server on single port. This is not recommended for production.",
        "Running: ",
        "Initialize and start etcd server",
        "configuring peer listeners",
        "configuring client listeners",
        "starting an etcd server",
        "ready to serve client requests",
        "notifying init daemon",
        READY,
    ]
    assert {record["level"] for record in records[1:]} == {"info"}
    whole = records[5]
    assert (whole["etcd-version"], whole["name"], whole["data-dir"]) == ("3.7.1", "m1", "d")
    assert whole["initial-cluster"] == "m1=http://localhost:2380"
    assert whole["heartbeat-interval"] == "100ms"


def test_a_second_signal_ends_it_at_once() -> None:
    with member(FAKE="slow-stop") as process:
        read_until(process, READY)
        process.send_signal(signal.SIGTERM)
        read_until(process, "received signal; shutting down")
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == -signal.SIGINT


def test_a_quit_shows_the_stacks() -> None:
    with member() as process:
        read_until(process, READY)
        process.send_signal(signal.SIGQUIT)
        assert process.wait(10) == 2


def test_a_hangup_kills() -> None:
    with member() as process:
        read_until(process, READY)
        process.send_signal(signal.SIGHUP)
        assert process.wait(10) == -signal.SIGHUP


@pytest.mark.parametrize(
    ("how", "code", "level", "message", "error"),
    [
        ("start-error", 1, "fatal", "discovery failed", "member 1f has already been bootstrapped"),
        ("port", 1, "fatal", "discovery failed", "listen tcp 127.0.0.1:"),
        ("start-bug", 2, "panic", "KeyError: this is a bug in petcd", "'oops'"),
        ("fail", 1, "fatal", "etcd server failed", "no space left on device"),
        ("crash", 2, "panic", "KeyError: this is a bug in petcd", "'gone'"),
    ],
)
def test_a_failure_is_one_record_and_an_exit_code(
    how: str, code: int, level: str, message: str, error: str
) -> None:
    records, got = run_to_end(FAKE=how)
    assert got == code
    assert (records[-1]["level"], records[-1]["msg"]) == (level, message)
    assert records[-1]["error"].startswith(error)
    if level == "panic":
        assert records[-1]["location"].startswith("cli_etcd/fake_member.py:")


def test_a_traceback_comes_with_the_debug_level_only() -> None:
    with member("--log-level=debug", FAKE="start-bug") as process:
        assert process.stderr is not None
        text = process.stderr.read()
        assert process.wait(10) == 2
    assert "Traceback (most recent call last):" in text


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (
            ["--initial-cluster=m2=http://a:1"],
            'couldn\'t find local name "m1" in the initial cluster configuration',
        ),
        (
            ["--initial-cluster=m1"],
            "error setting up initial cluster: URL scheme must be http, https, unix, or unixs: ",
        ),
        (["--auto-compaction-retention=x"], 'error parsing CompactionRetention: time: invalid duration "x"'),
        (["--listen-peer-urls=http://127.0.0.1:99999"], "listen tcp: address 99999: invalid port"),
    ],
)
def test_refused_while_starting(arguments: list[str], error: str) -> None:
    records, code = run_to_end(*arguments)
    assert (code, records[-1]["level"], records[-1]["msg"]) == (1, "fatal", "discovery failed")
    assert records[-1]["error"] == error


def test_an_initialised_directory_ignores_the_cluster_flags(tmp_path: Path) -> None:
    (tmp_path / "d" / "member" / "wal").mkdir(parents=True)
    (tmp_path / "d" / "member").chmod(0o700)
    (tmp_path / "d").chmod(0o755)
    (tmp_path / "d" / "lost+found").mkdir()
    with member(
        "--data-dir=d", "--initial-cluster=zz=http://a:1", "--initial-cluster-state=existing"
    ) as process:
        records = read_until(process, READY)
    by_message = {record["msg"]: record for record in records}
    assert by_message["server has already been initialized"]["dir-type"] == "member"
    assert by_message["found invalid file under data directory"]["filename"] == "lost+found"
    assert by_message["starting an etcd server"]["member-initialized"] is True
    assert by_message["check file permission"]["error"] == (
        'directory "d" exist, but the permission is "drwxr-xr-x". The recommended permission is "-rwx------" '
        "to prevent possible unprivileged access to the data"
    )


def test_a_data_dir_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "d").write_text("")
    records, code = run_to_end("--data-dir=d")
    assert (code, records[-1]["msg"]) == (1, "failed to list data directory")
    assert records[-1]["error"] == "open d: not a directory"


def test_a_data_dir_is_named_after_the_member() -> None:
    with member() as process:
        records = read_until(process, READY)
    told = [record for record in records if record["msg"] == "'data-dir' was empty; using default"]
    assert told[0]["data-dir"] == "m1.etcd"


def test_the_default_route_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    head = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n"
    routes = tmp_path / "route"
    routes.write_text(
        head
        + "eth1\t0000A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n"
        + "eth0\t00000000\t0100A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n"
    )
    monkeypatch.setattr(hostinfo, "_interface_address", lambda name: f"address of {name}")
    assert hostinfo.default_host(str(routes)) == "address of eth0"
    routes.write_text(head)
    with pytest.raises(OSError, match="no default route"):
        hostinfo.default_host(str(routes))


@pytest.mark.parametrize("text", ["http://127.0.0.1:1", "http://localhost:1", "http://[::1]:1", "unix:///x"])
def test_addresses_and_localhost_are_not_looked_up(text: str) -> None:
    assert hostinfo.resolve(parse_url(text)) == text


def test_errors_in_one_line() -> None:
    assert describe(OSError(98, "error while attempting to bind on address ('::1', 80, 0, 0): in use")) == (
        "listen tcp [::1]:80: bind: address already in use"
    )
    assert (
        describe(FileNotFoundError(2, "No such file or directory", "/x")) == "/x: no such file or directory"
    )
    assert describe(ValueError("a\nb")) == "a"
    assert describe(ValueError()) == "ValueError"
    assert expected(OSError())
    assert not expected(ValueError())
