"""The drop-in tour: Debian's etcdctl, unmodified, against the server."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time

import pytest
from tests.servers import GO_ETCDCTL, Server, clean_environment, needs_go_etcdctl

pytestmark = [pytest.mark.go, needs_go_etcdctl]


def out(server: Server, *args: str, stdin: str | None = None) -> str:
    return server.etcdctl(*args, stdin=stdin).stdout


def test_put_get_del(server: Server) -> None:
    assert out(server, "put", "foo", "bar") == "OK\n"
    assert out(server, "get", "foo") == "foo\nbar\n"
    assert out(server, "get", "foo", "--print-value-only") == "bar\n"
    for number in (1, 2, 3):
        assert out(server, "put", f"foo{number}", f"bar{number}") == "OK\n"
    assert out(server, "get", "foo", "foo2") == "foo\nbar\nfoo1\nbar1\n"
    assert out(server, "get", "--prefix", "foo") == "foo\nbar\nfoo1\nbar1\nfoo2\nbar2\nfoo3\nbar3\n"
    assert out(server, "get", "--prefix", "--limit=2", "foo") == "foo\nbar\nfoo1\nbar1\n"
    assert out(server, "get", "--from-key", "foo2", "--keys-only") == "foo2\n\nfoo3\n\n"
    assert out(server, "put", "foo", "new", "--prev-kv") == "OK\nfoo\nbar\n"
    assert out(server, "del", "foo", "foo9", "--prev-kv").startswith("4\nfoo\nnew\n")
    assert out(server, "get", "--prefix", "foo") == ""
    assert out(server, "del", "foo") == "0\n"


def test_get_json_and_revisions(server: Server) -> None:
    out(server, "put", "j", "one")
    first = json.loads(out(server, "get", "j", "-w", "json"))
    out(server, "put", "j", "two")
    revision = first["kvs"][0]["mod_revision"]
    assert out(server, "get", "j", f"--rev={revision}") == "j\none\n"
    assert first["count"] == 1
    later = json.loads(out(server, "get", "j", "-w", "json"))
    assert later["kvs"][0]["version"] == 2
    assert later["header"]["revision"] == revision + 1


def test_binary_and_values_from_stdin(server: Server) -> None:
    assert out(server, "put", "stdin", stdin="from stdin") == "OK\n"
    assert out(server, "get", "stdin", "--print-value-only") == "from stdin\n"
    assert out(server, "get", "stdin", "--hex") == (
        "\\x73\\x74\\x64\\x69\\x6e\n\\x66\\x72\\x6f\\x6d\\x20\\x73\\x74\\x64\\x69\\x6e\n"
    )


def test_txn(server: Server) -> None:
    out(server, "put", "t", "1")
    then = 'value("t") = "1"\n\nput t 2\nget t\n\nput t 3\n\n'
    assert out(server, "txn", stdin=then) == "SUCCESS\n\nOK\n\nt\n2\n"
    assert out(server, "txn", stdin=then) == "FAILURE\n\nOK\n"
    assert out(server, "get", "t", "--print-value-only") == "3\n"
    guarded = 'version("t") > "1"\nmod("t") > "0"\n\ndel t\n\n\n'
    assert out(server, "txn", stdin=guarded) == "SUCCESS\n\n1\n"


def test_watch(server: Server) -> None:
    out(server, "put", "w", "old")
    revision = json.loads(out(server, "get", "w", "-w", "json"))["header"]["revision"]
    watching = subprocess.Popen(
        [GO_ETCDCTL, f"--endpoints={server.endpoint}", "watch", "w", "--prev-kv", f"--rev={revision}"],
        stdout=subprocess.PIPE,
        text=True,
        env=clean_environment({"ETCDCTL_API": "3"}),
    )
    try:
        assert watching.stdout is not None
        assert [watching.stdout.readline() for _ in range(3)] == ["PUT\n", "w\n", "old\n"]
        out(server, "put", "w", "new")
        out(server, "del", "w")
        seen = "".join(watching.stdout.readline() for _ in range(10))
        assert seen == "PUT\nw\nold\nw\nnew\nDELETE\nw\nnew\nw\n\n"
    finally:
        watching.kill()
        watching.communicate()


def test_lease(server: Server) -> None:
    granted = out(server, "lease", "grant", "60")
    match = re.fullmatch(r"lease ([0-9a-f]{16}) granted with TTL\(60s\)\n", granted)
    assert match, granted
    lease = match[1]
    assert out(server, "put", f"--lease={lease}", "leased", "x") == "OK\n"
    living = out(server, "lease", "timetolive", lease, "--keys")
    assert re.fullmatch(
        rf"lease {lease} granted with TTL\(60s\), remaining\(\d+s\), attached keys\(\[leased\]\)\n", living
    ), living
    kept = out(server, "lease", "keep-alive", "--once", lease)
    assert kept == f"lease {lease} keepalived with TTL(60)\n"
    assert lease in out(server, "lease", "list")
    assert out(server, "lease", "revoke", lease) == f"lease {lease} revoked\n"
    assert out(server, "get", "leased") == ""
    assert out(server, "lease", "timetolive", lease) == f"lease {lease} already expired\n"
    refused = server.etcdctl("lease", "revoke", lease, check=False)
    assert refused.returncode != 0
    assert "requested lease not found" in refused.stderr


def test_lease_expires(server: Server) -> None:
    lease = out(server, "lease", "grant", "2").split()[1]
    out(server, "put", f"--lease={lease}", "brief", "x")
    granted = time.monotonic()
    while out(server, "get", "brief"):
        assert time.monotonic() < granted + 6
        time.sleep(0.05)
    assert time.monotonic() - granted > 1.5


def test_compaction(server: Server) -> None:
    for value in "abc":
        out(server, "put", "c", value)
    revision = json.loads(out(server, "get", "c", "-w", "json"))["header"]["revision"]
    assert out(server, "compaction", str(revision)) == f"compacted revision {revision}\n"
    refused = server.etcdctl("get", "c", f"--rev={revision - 1}", check=False)
    assert refused.returncode != 0
    assert "etcdserver: mvcc: required revision has been compacted" in refused.stderr
    again = server.etcdctl("compaction", str(revision), check=False)
    assert "required revision has been compacted" in again.stderr
    ahead = server.etcdctl("compaction", str(revision + 100), "--physical", check=False)
    assert "required revision is a future revision" in ahead.stderr
    assert out(server, "get", "c") == "c\nc\n"


def test_endpoint(server: Server) -> None:
    table = out(server, "endpoint", "status", "-w", "table")
    assert re.search(rf"\| +{re.escape(server.endpoint)} \| [0-9a-f]+ \| +3\.\d+\.\d+ \|", table), table
    assert "IS LEADER" in table
    assert "true" in table
    assert re.fullmatch(rf"{server.endpoint}, \d+\n", out(server, "endpoint", "hashkv"))
    health = server.etcdctl("endpoint", "health")
    assert f"{server.endpoint} is healthy: successfully committed proposal" in health.stdout + health.stderr
    status = json.loads(out(server, "endpoint", "status", "-w", "json"))[0]["Status"]
    assert status["leader"] == status["header"]["member_id"]
    assert status["dbSize"] > 0
    assert status["raftAppliedIndex"] <= status["raftIndex"]


def test_member_list(server: Server) -> None:
    line = out(server, "member", "list")
    assert re.fullmatch(
        rf"[0-9a-f]+, started, default, http://127\.0\.0\.1:{server.peer_port}, {server.url}, false\n", line
    ), line


def test_alarm_list_is_empty(server: Server) -> None:
    assert out(server, "alarm", "list") == ""


def test_errors_have_etcd_s_words(server: Server) -> None:
    for args, words in {
        ("put", "", "x"): "etcdserver: key is not provided",
        ("put", "k", "x", "--lease=123456"): "etcdserver: requested lease not found",
        ("put", "missing", "--ignore-value"): "etcdserver: key not found",
        ("get", "k", "--rev=1000000"): "etcdserver: mvcc: required revision is a future revision",
    }.items():
        refused = server.etcdctl(*args, check=False)
        assert refused.returncode == 1, args
        assert words in refused.stderr, refused.stderr


def test_lock(server: Server) -> None:
    held = out(server, "lock", "mutex", "env")
    assert re.search(r"^ETCD_LOCK_KEY=mutex/[0-9a-f]+$", held, re.MULTILINE), held
    assert re.search(r"^ETCD_LOCK_REV=\d+$", held, re.MULTILINE), held


@pytest.mark.slow
@pytest.mark.skipif(not os.environ.get("PETCD_LONG"), reason="it takes a minute; PETCD_LONG=1 runs it")
def test_check_perf(server: Server) -> None:
    result = server.etcdctl("check", "perf", seconds_max=120)
    assert "PASS" in result.stdout, result.stdout
    assert "FAIL" not in result.stdout, result.stdout
