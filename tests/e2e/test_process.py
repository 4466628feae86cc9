"""The process: how fast it starts, how it ends, what it says, what it refuses."""

from __future__ import annotations

import json
import resource
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.rpc import Rpc, Status
from tests.servers import COMMANDS, Kind, Server, clean_environment, serving

from petcd.pb import etcdserverpb as pb


def test_sigterm_ends_cleanly_and_the_data_is_there_again(kind: Kind, tmp_path: Path) -> None:
    server = Server(kind, tmp_path)
    server.start()
    try:
        with Rpc(server.endpoint) as rpc:
            revision = rpc.put(b"kept", b"value")
        assert server.stop() in (-signal.SIGTERM, 143)
        server.start()
        with Rpc(server.endpoint) as rpc:
            assert rpc.value(b"kept") == b"value"
            assert rpc.put(b"next") == revision + 1
        server.signal(signal.SIGINT)
        assert server.wait() in (-signal.SIGINT, 130)
    finally:
        server.kill()


def test_open_watches_do_not_hold_up_the_end(kind: Kind, tmp_path: Path) -> None:
    server = Server(kind, tmp_path)
    server.start()
    try:
        with Rpc(server.endpoint) as rpc:
            stream = rpc.watch()
            stream.send(pb.WatchRequest(create_request=pb.WatchCreateRequest(key=b"a")))
            assert stream.receive().created
            started = time.monotonic()
            server.stop()
            assert time.monotonic() - started < 10
            with pytest.raises(Status):
                stream.receive(5)
    finally:
        server.kill()


def test_the_log_is_zap_json_and_says_what_scripts_wait_for(kind: Kind, tmp_path: Path) -> None:
    server = Server(kind, tmp_path)
    server.start()
    server.stop()
    records = [json.loads(line) for line in server.log().splitlines() if line.startswith("{")]
    messages = {record["msg"] for record in records}
    for record in records:
        assert {"level", "ts", "caller", "msg"} <= set(record)
    assert "published local member to cluster through raft" in messages
    assert "enabled capabilities for version" in messages
    assert any(
        text.startswith("serving client traffic insecurely; this is strongly disc") for text in messages
    ) or (kind == "go")
    if kind == "petcd":
        assert "ready to serve client requests" in messages
    assert "received signal; shutting down" in messages


def test_systemd_is_told(kind: Kind, tmp_path: Path) -> None:
    path = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as waiting:
        waiting.bind(str(path))
        waiting.settimeout(10)
        server = Server(kind, tmp_path / "server", env={"NOTIFY_SOCKET": str(path)})
        try:
            server.start()
            assert waiting.recv(100) == b"READY=1"
        finally:
            server.kill()


def test_environment_and_config_file_configure_it(kind: Kind, tmp_path: Path) -> None:
    server = Server(kind, tmp_path)
    server.args = ()
    peer = f"http://127.0.0.1:{server.peer_port}"
    config = tmp_path / "etcd.yaml"
    config.write_text(
        f"name: from-file\ndata-dir: {server.data_dir}\nlisten-client-urls: {server.url}\n"
        f"advertise-client-urls: {server.url}\nlisten-peer-urls: {peer}\n"
        f"initial-advertise-peer-urls: {peer}\ninitial-cluster: from-file={peer}\nlogger: zap\n"
    )
    for command, env, name in (
        ([*COMMANDS[kind], "--config-file", str(config)], {}, b"from-file"),
        (
            COMMANDS[kind],
            {
                "ETCD_NAME": "from-env",
                "ETCD_DATA_DIR": str(tmp_path / "env.etcd"),
                "ETCD_LISTEN_CLIENT_URLS": server.url,
                "ETCD_ADVERTISE_CLIENT_URLS": server.url,
                "ETCD_LISTEN_PEER_URLS": peer,
                "ETCD_INITIAL_ADVERTISE_PEER_URLS": peer,
                "ETCD_INITIAL_CLUSTER": f"from-env={peer}",
                "ETCD_LOGGER": "zap",
            },
            b"from-env",
        ),
    ):
        with server.log_path.open("ab") as log:
            server.process = subprocess.Popen(command, stdout=log, stderr=log, env=clean_environment(env))
        try:
            server.wait_ready()
            with Rpc(server.endpoint) as rpc:
                members = rpc.call(pb.MemberListRequest()).members
            assert [member.name.encode() for member in members] == [name]
        finally:
            server.kill()


@pytest.mark.parametrize(
    ("args", "status", "words"),
    [
        (["--no-such-flag"], 2, "flag provided but not defined: -no-such-flag"),
        (["--heartbeat-interval=x"], 2, 'invalid value "x" for flag -heartbeat-interval'),
        (["--election-timeout=100", "--heartbeat-interval=100"], 1, "election-timeout"),
        (["--auto-compaction-mode=wrong"], 1, "auto-compaction-mode"),
    ],
)
def test_bad_settings_are_refused_in_go_s_words(
    kind: Kind, tmp_path: Path, args: list[str], status: int, words: str
) -> None:
    result = subprocess.run(
        [*COMMANDS[kind], f"--data-dir={tmp_path}/x", *args],
        capture_output=True,
        text=True,
        timeout=20,
        env=clean_environment(),
        check=False,
    )
    output = result.stdout + result.stderr
    assert result.returncode == status, output
    assert words in output


def test_go_s_spellings_of_flags(kind: Kind, tmp_path: Path) -> None:
    server = Server(kind, tmp_path, args=("-quota-backend-bytes", "16777216", "--pre-vote=true"))
    try:
        server.start()
        assert server.is_healthy()
    finally:
        server.kill()


def test_version_is_what_scripts_parse(kind: Kind) -> None:
    text = subprocess.run(
        [*COMMANDS[kind], "--version"], capture_output=True, text=True, timeout=20, check=True
    ).stdout
    assert text.startswith("etcd Version: 3.")


def test_start_up_figures(kind: Kind, record_property: pytest.RecordProperty) -> None:
    """Printed, not asserted: a machine under other load says nothing about ours."""
    with serving(kind) as server:
        ready = server.ready_seconds
        rss = server.rss_bytes() / 1e6
        with Rpc(server.endpoint) as rpc:
            rpc.put(b"foo", b"bar")
        print(f"\n{kind}: ready {ready * 1000:.0f} ms after its start, {rss:.0f} MB resident")
        record_property("ready_ms", round(ready * 1000))
        if kind == "petcd":
            main = "import sys; from petcd.cli.etcdctl import main; sys.exit(main())"
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            subprocess.run(
                [sys.executable, "-c", main, f"--endpoints={server.endpoint}", "get", "foo"],
                check=True,
                capture_output=True,
                env=clean_environment({"ETCDCTL_API": "3"}),
            )
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
            print(f"etcdctl get: {cpu * 1000:.0f} ms of CPU")
            record_property("etcdctl_cpu_ms", round(cpu * 1000))
        assert ready < 30
