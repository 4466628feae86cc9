"""Snapshots to restore, from a petcd and from a Go member with the same history."""

from __future__ import annotations

import json
import subprocess
import sys
from base64 import b64decode, b64encode
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.rpc import Rpc
from tests.servers import GO_ETCDCTL, Kind, Server, clean_environment

from petcd.pb.etcdserverpb import HashKVRequest, HashKVResponse
from petcd.server.config import Config
from petcd.server.url import parse_urls

LATEST = 112
"""The newest revision of the history."""
COMPACTED = 111
LIVE = 101


def rpc(server: Server, path: str, **body: object) -> dict[str, Any]:
    """A call through the JSON gateway."""
    status, answer = server.http("POST", f"/v3/{path}", json.dumps(body).encode())
    assert status == 200, answer
    shape: dict[str, Any] = json.loads(answer)
    return shape


def b64(data: bytes) -> str:
    return b64encode(data).decode()


def put(server: Server, key: bytes, value: bytes, **more: object) -> None:
    rpc(server, "kv/put", key=b64(key), value=b64(value), **more)


def everything(server: Server) -> list[tuple[bytes, bytes, int, int]]:
    """All keys: key, value, create and mod revision."""
    answer = rpc(server, "kv/range", key=b64(b"\0"), range_end=b64(b"\0"))
    return [
        (
            b64decode(kv["key"]),
            b64decode(kv.get("value", "")),
            int(kv["create_revision"]),
            int(kv["mod_revision"]),
        )
        for kv in answer.get("kvs", ())
    ]


def hash_kv(server: Server, rev: int = 0) -> tuple[int, int]:
    """Hash and compact revision; the gateway of 3.4 has no way there."""
    with Rpc(server.endpoint) as client:
        answer = client.call(HashKVRequest(revision=rev))
        assert isinstance(answer, HashKVResponse)
        return answer.hash, answer.compact_revision


def members(server: Server) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = rpc(server, "cluster/member/list")["members"]
    return found


def write_history(server: Server) -> None:
    """Puts in one transaction and one by one, old versions, deletions, a lease; and users."""
    keys = [b"many/%03d" % n for n in range(100)]
    rpc(
        server,
        "kv/txn",
        success=[{"request_put": {"key": b64(key), "value": b64(key * 40)}} for key in keys],
    )
    for n in range(3, 104):
        put(server, b"one", b"%d" % n)
    put(server, b"large", bytes(range(256)) * 80)
    put(server, b"\xff\x00<&", b"")
    rpc(server, "kv/deleterange", key=b64(b"many/000"), range_end=b64(b"many/003"))
    rpc(server, "lease/grant", TTL="600", ID="77")
    put(server, b"leased", b"v", lease="77")
    put(server, b"gone", b"v")
    rpc(server, "kv/deleterange", key=b64(b"gone"))
    for value in (b"last", b"of", b"all"):
        put(server, b"one", value)
    if server.kind == "go":
        rpc(server, "auth/role/add", name="r")
        permission = {"permType": 2, "key": b64(b"k"), "range_end": b64(b"l")}
        rpc(server, "auth/role/grant", name="r", perm=permission)
        rpc(server, "auth/user/add", name="u", password="p")
        rpc(server, "auth/user/grant", user="u", role="r")


@dataclass(frozen=True)
class Snapshot:
    """A saved snapshot and what its member said at that moment."""

    kind: Kind
    path: Path
    hash: tuple[int, int]
    hashes: dict[int, tuple[int, int]]
    """HashKV at older revisions."""
    keys: list[tuple[bytes, bytes, int, int]]
    data_dir: Path
    """Of the member, which is stopped."""


def run(*words: str, env: dict[str, str] = {}) -> subprocess.CompletedProcess[bytes]:  # noqa: B006
    """One of our tools in a process of its own."""
    code = f"import sys; from petcd.cli.{words[0]} import main; sys.exit(main())"
    return subprocess.run(
        [sys.executable, "-c", code, *words[1:]],
        capture_output=True,
        env=clean_environment(env),
        timeout=60,
        check=False,
    )


def go_ctl(*words: str) -> subprocess.CompletedProcess[bytes]:
    """Debian's etcdctl."""
    return subprocess.run(
        [GO_ETCDCTL, *words],
        capture_output=True,
        env=clean_environment({"ETCDCTL_API": "3"}),
        timeout=60,
        check=False,
    )


def save(server: Server, path: Path) -> None:
    done = run("etcdctl", f"--endpoints={server.endpoint}", "snapshot", "save", str(path))
    assert done.returncode == 0, done.stderr


def restored_as(server: Server, **more: Any) -> Config:
    """What ``server`` will want to find in its data directory."""
    urls = parse_urls(f"http://127.0.0.1:{server.peer_port}")
    return Config(
        name=server.name,
        data_dir=str(server.data_dir),
        initial_cluster={server.name: urls},
        advertise_peer_urls=urls,
        **more,
    )


def restore_flags(server: Server) -> list[str]:
    """The same for a command line."""
    url = f"http://127.0.0.1:{server.peer_port}"
    return [
        f"--name={server.name}",
        f"--data-dir={server.data_dir}",
        f"--initial-cluster={server.name}={url}",
        f"--initial-advertise-peer-urls={url}",
    ]
