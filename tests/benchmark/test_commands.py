"""Every command against petcd and Go etcd: it does what it says, and reports just that."""

from __future__ import annotations

import json
import re
from itertools import count
from pathlib import Path

import pytest
from tests.benchmark.tool import Run
from tests.servers import Server

_NUMBERS = count()


@pytest.fixture
def prefix() -> str:
    """Keys of this test alone."""
    return f"/{next(_NUMBERS)}/"


def ask(server: Server, path: str, body: dict[str, object]) -> dict[str, object]:
    """Through the JSON gateway: another way in than the one under test."""
    status, answer = server.http("POST", f"/v3/{path}", json.dumps(body).encode())
    assert status == 200, answer
    found = json.loads(answer)
    assert isinstance(found, dict)
    return found


def b64(text: str) -> str:
    import base64

    return base64.b64encode(text.encode()).decode()


def revision(server: Server) -> int:
    header = ask(server, "kv/range", {"key": b64("\0")})["header"]
    assert isinstance(header, dict)
    return int(header["revision"])


def keys(server: Server, prefix: str) -> int:
    end = prefix[:-1] + chr(ord(prefix[-1]) + 1)
    found = ask(server, "kv/range", {"key": b64(prefix), "range_end": b64(end), "count_only": True})
    return int(str(found.get("count", 0)))


def test_put(server: Server, prefix: str) -> None:
    before = revision(server)
    run = Run(
        "put",
        f"--prefix={prefix}",
        "--total=300",
        "--clients=7",
        "--conns=3",
        "--key-space-size=40",
        "--sequential-keys",
        "--sample",
        "--check-hashkv",
        endpoint=server.endpoint,
    )
    assert (run.status, run.err) == (0, "")
    assert run.counted() == [300]
    assert revision(server) == before + 300
    assert keys(server, prefix) == 40
    rows = run.out.split("AVG-THROUGHPUT\n")[1].split("\n\n")[0].splitlines()
    assert sum(int(row.rsplit(",", 1)[1]) for row in rows) == 300
    assert re.search(
        r"HashKV Summary:\n\tHashKV: \d+\n\tEndpoint: 127\.0\.0\.1:\d+\n"
        r"\tTime taken to get hashkv: [\d.]+(µs|ms|s)\n\tDB size: [\d.]+ [kM]?B\n$",
        run.out,
    )


def test_put_at_random_stays_in_the_key_space(server: Server, prefix: str) -> None:
    run = Run(
        "put",
        f"--prefix={prefix}",
        "--total=200",
        "--clients=5",
        "--key-space-size=3",
        endpoint=server.endpoint,
    )
    assert run.counted() == [200]
    assert keys(server, prefix) == 3


def test_put_at_a_rate_with_compaction(server: Server) -> None:
    run = Run(
        "put",
        "--total=120",
        "--rate=100",
        "--clients=10",
        "--compact-interval=300ms",
        "--compact-index-delta=10",
        endpoint=server.endpoint,
    )
    assert (run.status, run.err) == (0, "")
    rate = float(run.out.split("Requests/sec:\t")[1].split()[0])
    assert 80 < rate < 102
    status, answer = server.http("POST", "/v3/kv/range", b'{"key":"AA==","revision":"2"}')
    assert status == 400
    assert b"required revision has been compacted" in answer


@pytest.mark.parametrize(
    "flags", [[], ["--consistency=s"], ["--count-only"], ["--keys-only", "--limit=3"], ["--paginate"]]
)
def test_range(server: Server, flags: list[str]) -> None:
    run = Run("range", "--prefix", *flags, "--total=50", "--clients=4", endpoint=server.endpoint)
    assert (run.status, run.err) == (0, "")
    kind = "serializable" if "--consistency=s" in flags else "linearizable"
    assert run.out.startswith(f"bench with {kind} range\n\nSummary:\n")
    assert run.counted() == [50]


def test_range_in_a_stream(server: Server) -> None:
    run = Run("range", "a", "z", "--stream", "--total=20", endpoint=server.endpoint)
    if server.kind == "petcd":
        assert (run.status, run.counted()) == (0, [20])
    else:
        # 3.4 has no such method: a server that answers every call with an error is told so.
        assert run.status == 1
        assert "[20]\trpc error: code = Unimplemented" in run.out
        assert run.err == "Error: no request succeeded\n"


def test_txn_put(server: Server) -> None:
    before = revision(server)
    run = Run(
        "txn-put",
        "--total=40",
        "--txn-ops=5",
        "--key-space-size=10",
        "--clients=4",
        endpoint=server.endpoint,
    )
    assert (run.status, run.err) == (0, "")
    assert run.counted() == [40]
    assert revision(server) == before + 40


def test_txn_mixed(server: Server) -> None:
    before = revision(server)
    run = Run(
        "txn-mixed", "--total=200", "--rw-ratio=3", "--clients=4", "--precise", endpoint=server.endpoint
    )
    assert (run.status, run.err) == (0, "")
    reads, writes = (int(part.split("\n")[0]) for part in run.out.split(" Ops: ")[1:])
    assert (reads + writes, run.counted()) == (200, [reads, writes])
    assert 100 < reads < 190
    assert revision(server) == before + writes


def test_watch(server: Server) -> None:
    run = Run(
        "watch",
        "--streams=3",
        "--watch-per-stream=10",
        "--watched-key-total=4",
        "--key-space-size=4",
        "--sequential-keys",
        "--put-total=8",
        "--conns=2",
        "--clients=3",
        endpoint=server.endpoint,
    )
    assert (run.status, run.err) == (0, "")
    made, received = run.out.split("Watch events received summary:\n")
    assert made.startswith("Watch creation summary:\n\nSummary:\n")
    assert received.startswith("\nSummary:\n")
    # Thirty watches on four keys, each key put twice.
    assert run.counted() == [30, 60]


def test_watch_latency(server: Server) -> None:
    run = Run(
        "watch-latency",
        "--streams=2",
        "--watchers-per-stream=3",
        "--put-total=20",
        "--put-rate=200",
        "--prevkv",
        endpoint=server.endpoint,
    )
    assert (run.status, run.err) == (0, "")
    assert run.out.startswith("\nPut summary:\n\nSummary:\n")
    assert "\nWatch events summary:\n\nSummary:\n" in run.out
    assert run.counted() == [20, 120]


def test_watch_get(server: Server) -> None:
    run = Run("watch-get", "--watchers=50", "--streams=3", "--events=4", endpoint=server.endpoint)
    assert (run.status, run.err) == (0, "")
    assert run.out.startswith("Get during watch summary:\n\nSummary:\n")
    assert run.counted()[0] > 0


@pytest.mark.parametrize("name", ["lease-keepalive", "lease"])
def test_lease_keepalive(server: Server, name: str) -> None:
    run = Run(name, "--total=50", "--clients=3", endpoint=server.endpoint)
    assert (run.status, run.err) == (0, "")
    assert run.counted() == [50]


@pytest.mark.parametrize("level", ["c", "r", "s", "ss"])
def test_stm(server: Server, level: str) -> None:
    before = revision(server)
    run = Run(
        "stm",
        f"--isolation={level}",
        "--total=40",
        "--clients=6",
        "--keys=4",
        "--keys-per-txn=2",
        endpoint=server.endpoint,
    )
    assert (run.status, run.err) == (0, "")
    assert run.counted() == [40]
    # Each transaction writes one of its two keys, however often it is tried.
    assert revision(server) == before + 40


def test_perf_dash_file(petcd: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARTIFACTS", str(tmp_path))
    run = Run("put", "--total=20", "--report-perfdash", endpoint=petcd.endpoint)
    (path,) = tmp_path.iterdir()
    assert run.out.endswith(f"Successfully created a JSON perf report at {path}\n")
    assert json.loads(path.read_text())["dataItems"][0]["labels"] == {"Operation": "PUT"}
