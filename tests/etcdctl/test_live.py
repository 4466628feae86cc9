"""Commands that go on until they are told to stop: watch, lock, elect, keep-alive, make-mirror, check."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.servers import (
    Kind,
    Server,
    clean_environment,
    needs_go_etcd,
    needs_go_etcdctl,
    serving,
)

# Debian's etcdctl plays the other party against either server.
pytestmark = [pytest.mark.go, pytest.mark.slow, needs_go_etcdctl]


@pytest.fixture(scope="module", params=[pytest.param("go", marks=needs_go_etcd), "petcd"])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    with serving(request.param) as running:
        yield running


_running: list[subprocess.Popen[bytes]] = []
"""Of the present test."""


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Iterator[None]:
    """What a failed test would leave makes the collector's warning fail an innocent one."""
    yield
    while _running:
        process = _running.pop()
        process.kill()
        process.communicate()
        if process.stdin is not None:
            process.stdin.close()


class Tool:
    """Our etcdctl, running; what it has printed so far can be waited for."""

    def __init__(self, server: Server, *line: str, stdin: int = subprocess.DEVNULL) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", "from petcd.cli.etcdctl import main; raise SystemExit(main())", *line],
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=clean_environment({"ETCDCTL_ENDPOINTS": server.endpoint}),
        )
        _running.append(self.process)
        self.seen = b""
        assert self.process.stdout is not None
        os.set_blocking(self.process.stdout.fileno(), False)

    def until(self, text: bytes, seconds: float = 30.0) -> bytes:
        end = time.monotonic() + seconds
        while text not in self.seen:
            assert time.monotonic() < end, f"no {text!r} in {self.seen!r}"
            assert self.process.stdout is not None
            self.seen += self.process.stdout.read() or b""
            time.sleep(0.01)
        return self.seen

    def write(self, data: bytes) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(data)
        self.process.stdin.flush()

    def end(self, number: int | None = None) -> tuple[bytes, bytes, int]:
        if number is not None:
            self.process.send_signal(number)
        out, err = self.process.communicate(timeout=30)
        return self.seen + out, err, self.process.returncode


def keys_under(server: Server, prefix: str, number: int, seconds: float = 30.0) -> None:
    """Wait until so many keys have this prefix: each waiter for a lock or an election has one."""
    end = time.monotonic() + seconds
    while len(server.etcdctl("get", "--prefix", prefix, "--keys-only").stdout.split()) != number:
        assert time.monotonic() < end, f"not {number} keys under {prefix}"
        time.sleep(0.02)


@pytest.mark.parametrize("kind", [pytest.param("go", marks=needs_go_etcd), "petcd"])
def test_watch_goes_on_over_a_restart(kind: Kind) -> None:
    with serving(kind) as server:
        watch = Tool(server, "watch", "w", "--prefix", "--prev-kv", "--rev=1")
        server.etcdctl("put", "w1", "a")
        watch.until(b"PUT\nw1\na\n")
        server.kill()
        server.start()
        server.etcdctl("put", "w1", "b")
        server.etcdctl("del", "w1")
        watch.until(b"DELETE\nw1\nb\nw1\n\n")
        out, _, status = watch.end(signal.SIGINT)
        assert out == b"PUT\nw1\na\nPUT\nw1\na\nw1\nb\nDELETE\nw1\nb\nw1\n\n"
        assert status == -signal.SIGINT


def test_interactive_watch(server: Server) -> None:
    watch = Tool(server, "watch", "-i", stdin=subprocess.PIPE)
    watch.write(b"watch i1 --rev=1\nwatch i2 i3 --rev=1 -- echo ran\nbogus\n")
    server.etcdctl("put", "i1", "a")
    watch.until(b"PUT\ni1\na\n")
    server.etcdctl("put", "i2", "b")
    watch.until(b"ran\n")
    watch.write(b"progress\n")
    watch.until(b"progress notify: ")
    assert watch.process.stdin is not None
    watch.process.stdin.close()
    watch.process.stdin = None
    out, err, status = watch.end()
    assert out.startswith(b"PUT\ni1\na\nPUT\ni2\nb\nran\nprogress notify: ")
    assert err == (
        b"Invalid command bogus (only support watch)\nError: error reading watch request line: EOF\n"
    )
    assert status == 3


def test_lock_waits_for_its_holder(server: Server) -> None:
    holder = Tool(server, "lock", "m")
    first = holder.until(b"\n\n")
    assert first.startswith(b"m/")
    waiter = Tool(server, "lock", "m", "--", "sh", "-c", "echo $ETCD_LOCK_KEY; exit 7")
    keys_under(server, "m/", 2)
    assert waiter.process.poll() is None
    assert holder.end(signal.SIGTERM)[2] == 0
    out, err, status = waiter.end()
    assert out.startswith(b"m/")
    assert out.strip() != first.strip()
    assert (err, status) == (b"Error: exit status 7\n", 7)
    assert server.etcdctl("get", "--prefix", "m/").stdout == ""


def test_an_interrupted_waiter_leaves_no_key(server: Server) -> None:
    holder = Tool(server, "lock", "n")
    holder.until(b"\n\n")
    waiter = Tool(server, "lock", "n")
    keys_under(server, "n/", 2)
    out, err, status = waiter.end(signal.SIGINT)
    assert (out, err, status) == (b"", b"Error: context canceled\n", 1)
    assert len(server.etcdctl("get", "--prefix", "n/", "--keys-only").stdout.split()) == 1
    holder.end(signal.SIGINT)


def test_lock_is_told_of_a_lost_session(server: Server) -> None:
    holder = Tool(server, "lock", "l", "--ttl=3")
    lease = holder.until(b"\n\n").split()[0].split(b"/")[1].decode()
    server.etcdctl("lease", "revoke", lease)
    assert holder.end()[1:] == (b"Error: session expired\n", 1)


def test_election(server: Server) -> None:
    observer = Tool(server, "elect", "-l", "e")
    one = Tool(server, "elect", "e", "p1")
    one.until(b"\np1\n")
    observer.until(b"\np1\n")
    two = Tool(server, "elect", "e", "p2")
    keys_under(server, "e/", 2)
    assert one.end(signal.SIGINT)[2] == 0
    two.until(b"\np2\n")
    observer.until(b"\np2\n")
    assert two.end(signal.SIGTERM)[2] == 0
    assert observer.end(signal.SIGINT)[2] == 0


def test_keep_alive(server: Server) -> None:
    lease = server.etcdctl("lease", "grant", "3").stdout.split()[1]
    tool = Tool(server, "lease", "keep-alive", lease)
    line = f"lease {lease} keepalived with TTL(3)\n".encode()
    tool.until(line + line)
    server.etcdctl("lease", "revoke", lease)
    out, _, status = tool.end()
    assert out.endswith(f"lease {lease} expired or revoked.\n".encode())
    assert status == 0


def test_make_mirror(server: Server) -> None:
    with serving("petcd") as other:
        server.etcdctl("put", "mirror/a", "1")
        mirror = Tool(server, "make-mirror", "--prefix=mirror/", "--dest-prefix=copy/", other.endpoint)
        for _ in range(100):
            if other.etcdctl("get", "copy/a").stdout:
                break
            time.sleep(0.05)
        server.etcdctl("put", "mirror/b", "2")
        server.etcdctl("del", "mirror/a")
        for _ in range(100):
            if not other.etcdctl("get", "copy/a").stdout:
                break
            time.sleep(0.05)
        assert other.etcdctl("get", "--prefix", "").stdout == "copy/b\n2\n"
        assert mirror.end(signal.SIGINT)[2] == -signal.SIGINT


@needs_go_etcd
def test_snapshot_save(tmp_path: Path) -> None:
    with serving("go") as server:
        server.etcdctl("put", "snap", "1")
        path = tmp_path / "snap.db"
        out, err, status = Tool(server, "snapshot", "save", str(path)).end()
        assert (out, err, status) == (f"Snapshot saved at {path}\n".encode(), b"", 0)
        assert server.etcdctl("snapshot", "status", str(path)).stdout
        assert [child.name for child in tmp_path.iterdir()] == ["snap.db"]


def test_unreachable_server_is_a_deadline(server: Server) -> None:
    tool = Tool(server, "get", "a", "--command-timeout=300ms")
    tool.end()
    line = ("--command-timeout=300ms", "get", "a")
    gone = Server("go", Path("/nonexistent"))
    assert Tool(gone, *line).end() == (b"", b"Error: context deadline exceeded\n", 1)
    assert Tool(gone, *line, "--user=u:p").end() == (b"", b"Error: context deadline exceeded\n", 2)
    out, err, status = Tool(gone, "endpoint", "status", "--command-timeout=300ms", "-w", "json").end()
    assert (out, status) == (b"null\n", 1)
    assert (
        err == f"Failed to get the status of endpoint {gone.endpoint} (context deadline exceeded)\n".encode()
    )


def test_check_perf_in_small(server: Server, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    from petcd.cli.etcdctl.check import COMMANDS, Load, measure
    from petcd.cli.etcdctl.commands import find
    from petcd.cli.etcdctl.context import Context
    from petcd.cli.etcdctl.grammar import FlagSet
    from petcd.cli.etcdctl.tree import ROOT

    command, _, _ = find(ROOT, ["check", "perf"])
    flags = FlagSet([*COMMANDS["check perf"].flags, *command.inherited()])
    flags.parse(["--endpoints", server.endpoint, "--auto-compact", "--auto-defrag"])
    context = Context(command, flags, [], -1, [])
    assert measure(context, Load(150, 20, 2))
    context.close()
    lines = capfdbinary.readouterr().out.decode().splitlines()
    assert lines[0].startswith("Compacting with revision ")
    assert lines[3] == f'Defragmented "{server.endpoint}"'
    assert lines[4].startswith("PASS: Throughput is 1")
    assert lines[-1] == "PASS"
    assert server.etcdctl("get", "--prefix", "/etcdctl-check-perf/").stdout == ""


def test_check_datascale_in_small(server: Server, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    from petcd.cli.etcdctl.check import COMMANDS, Scale, grow
    from petcd.cli.etcdctl.commands import find
    from petcd.cli.etcdctl.context import Context
    from petcd.cli.etcdctl.grammar import FlagSet
    from petcd.cli.etcdctl.tree import ROOT

    command, _, _ = find(ROOT, ["check", "datascale"])
    flags = FlagSet([*COMMANDS["check datascale"].flags, *command.inherited()])
    flags.parse(["--endpoints", server.endpoint])
    context = Context(command, flags, [], -1, [])
    grow(context, Scale(300, 20))
    context.close()
    lines = capfdbinary.readouterr().out.decode().splitlines()
    assert lines[0] == (
        "Start data scale check for work load "
        "[300 key-value pairs, 1024 bytes per key-value, 20 concurrent clients]."
    )
    assert lines[1].startswith("PASS: Approximate system memory used : ")
    assert server.etcdctl("get", "--prefix", "/etcdctl-check-datascale/").stdout == ""


def test_a_bar_only_on_a_terminal(server: Server) -> None:
    """A mirror's progress is drawn where stderr is a terminal; its stdout stays as it is."""
    server.etcdctl("put", "bar/a", "1")
    for terminal in (True, False):
        master, slave = pty.openpty()
        line = ["make-mirror", "--prefix=bar/", "--dest-prefix=drawn/", server.endpoint]
        tool = subprocess.Popen(
            [sys.executable, "-c", "from petcd.cli.etcdctl import main; raise SystemExit(main())", *line],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=slave if terminal else subprocess.PIPE,
            env=clean_environment({"ETCDCTL_ENDPOINTS": server.endpoint}),
        )
        os.close(slave)
        if terminal:
            seen = b""
            number = 0
            while b"operations" not in seen:
                # Drawn once the work has taken a moment: keep it busy.
                number += 1
                server.etcdctl("put", f"bar/{number}", "1")
                if select.select([master], [], [], 0)[0]:
                    seen += os.read(master, 4096)
                assert number < 500
            assert b"mirrored" in seen
        else:
            keys_under(
                server, "drawn/", len(server.etcdctl("get", "--prefix", "bar/", "--keys-only").stdout.split())
            )
        tool.terminate()
        out, err = tool.communicate(timeout=30)
        assert out == b""
        assert not err
        os.close(master)


def test_mirror_from_a_revision(server: Server) -> None:
    """From ``--rev`` on, without a prefix to put it under: the source's is cut off (3.6 and later)."""
    server.etcdctl("put", "from/old", "1")
    header = server.etcdctl("put", "from/mark", "1", "-w", "json").stdout
    revision = json.loads(header)["header"]["revision"]
    mirror = Tool(server, "make-mirror", "--prefix=from/", f"--rev={revision}", server.endpoint)
    keys_under(server, "mark", 1)
    server.etcdctl("put", "from/new", "2")
    keys_under(server, "new", 1)
    assert server.etcdctl("get", "old").stdout == ""
    mirror.end(signal.SIGINT)


def test_a_get_imports_little(server: Server) -> None:
    """Start-up is nearly all that a short command costs, and imports are nearly all of that."""
    heavy = "{'asyncio', 'ssl', 'argparse', 'json', 'subprocess', 'concurrent.futures', 'urllib.request'}"
    program = f"""
import sys
from petcd.cli.etcdctl import main
sys.argv = ["etcdctl", "get", "cost"]
status = main()
print(status, sorted({heavy} & set(sys.modules)), len(sys.modules) < 200)
"""
    server.etcdctl("put", "cost", "1")
    answer = subprocess.run(
        [sys.executable, "-c", program],
        env=clean_environment({"ETCDCTL_ENDPOINTS": server.endpoint}),
        capture_output=True,
        check=True,
    )
    assert answer.stdout == b"cost\n1\n0 [] True\n"
