"""Restored members serve what the snapshot's member served, whoever saved it and whoever restores it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.etcdutl.conftest import Source
from tests.etcdutl.sources import (
    LATEST,
    LIVE,
    b64,
    everything,
    go_ctl,
    hash_kv,
    members,
    put,
    restore_flags,
    restored_as,
    rpc,
    run,
)
from tests.rpc import Rpc
from tests.servers import Kind, Server, needs_go_etcd, needs_go_etcdctl

from petcd.cli import etcdutl
from petcd.pb.etcdserverpb import WatchCreateRequest, WatchRequest
from petcd.seams.real import RealDisk
from petcd.server.config import Config
from petcd.server.restoring import RestoreError, RestoreOptions, restore
from petcd.storage import schema
from petcd.storage.bbolt import BboltFile, write_database
from petcd.storage.errors import WriteFailed
from petcd.storage.wal import read_log

DISK = RealDisk()


def utl(*words: str) -> None:
    assert etcdutl.main(list(words)) == 0


@pytest.fixture
def target(tmp_path: Path) -> Any:
    """A server to be restored; ended with the test."""
    started: list[Server] = []

    def make(kind: Kind, name: str = "default", **more: Any) -> Server:
        server = Server(kind, tmp_path / f"{kind}-{name}", name=name, **more)
        started.append(server)
        return server

    yield make
    for server in started:
        server.kill()


@pytest.mark.parametrize("which", ["whole", "compacted"])
def test_a_restored_member_serves_the_same(source: Source, which: str, target: Callable[..., Server]) -> None:
    snapshot = getattr(source, which)
    server = target("petcd")
    utl("snapshot", "restore", str(snapshot.path), *restore_flags(server))
    server.start()
    assert hash_kv(server) == snapshot.hash
    assert {rev: hash_kv(server, rev) for rev in snapshot.hashes} == snapshot.hashes
    assert everything(server) == snapshot.keys
    assert len(snapshot.keys) == LIVE
    lease = rpc(server, "lease/timetolive", ID="77", keys=True)
    assert (lease["grantedTTL"], len(lease["keys"])) == ("600", 1)
    (member,) = members(server)
    assert member["peerURLs"] == [f"http://127.0.0.1:{server.peer_port}"]

    # What came after the snapshot survives, and so does the new membership.
    put(server, b"after", b"v")
    after = hash_kv(server)
    server.kill()
    server.start()
    assert (hash_kv(server), members(server)[0]["ID"]) == (after, member["ID"])


@needs_go_etcd
@needs_go_etcdctl
@pytest.mark.go
@pytest.mark.parametrize("which", ["whole", "compacted"])
def test_go_restores_and_serves_ours(petcd_source: Source, which: str, target: Callable[..., Server]) -> None:
    snapshot = getattr(petcd_source, which)
    server = target("go")
    done = go_ctl("snapshot", "restore", str(snapshot.path), *restore_flags(server))
    assert done.returncode == 0, done.stderr
    server.start()
    assert hash_kv(server) == snapshot.hash
    assert everything(server) == snapshot.keys


def test_bare_databases_are_taken_when_no_digest_is_asked_for(
    source: Source, target: Callable[..., Server]
) -> None:
    """The file of a stopped member, Go's or ours."""
    snap = source.compacted.data_dir / "member" / "snap"
    path = str(snap / ("db" if source.compacted.kind == "go" else "petcd.mdb"))
    server = target("petcd")
    with pytest.raises(RestoreError, match="snapshot missing hash but --skip-hash-check=false"):
        restore(DISK, path, restored_as(server))
    assert not server.data_dir.exists()
    restore(DISK, path, restored_as(server), RestoreOptions(skip_hash_check=True))
    server.start()
    assert hash_kv(server) == source.compacted.hash


def test_three_members_from_one_file(petcd_source: Source, target: Callable[..., Server]) -> None:
    servers = [target("petcd", name) for name in ("a", "b", "c")]
    cluster = ",".join(f"{s.name}=http://127.0.0.1:{s.peer_port}" for s in servers)
    for server in servers:
        server.args = [f"--initial-cluster={cluster}"]
        utl(
            "snapshot",
            "restore",
            str(petcd_source.whole.path),
            *restore_flags(server),
            f"--initial-cluster={cluster}",
            "--initial-cluster-token=tk",
            f"--wal-dir={server.directory / 'wal'}",
        )
        server.args = [*server.args, f"--wal-dir={server.directory / 'wal'}"]
    for _ in range(2):
        for server in servers:
            server.spawn()
        for server in servers:
            server.wait_ready()
            assert hash_kv(server, LATEST) == petcd_source.whole.hash
            assert sorted(m["name"] for m in members(server)) == ["a", "b", "c"]
        put(servers[1], b"together", b"v")
        # A member that is killed has its configuration from its files again.
        for server in servers:
            server.kill()
    assert not (servers[0].data_dir / "member" / "wal").exists()


def test_a_bumped_revision_reads_as_compacted(petcd_source: Source, target: Callable[..., Server]) -> None:
    server = target("petcd")
    words = ["--bump-revision", "1000", "--mark-compacted"]
    utl("snapshot", "restore", str(petcd_source.whole.path), *restore_flags(server), *words)
    server.start()
    answer = rpc(server, "kv/range", key=b64(b"one"))
    assert (answer["header"]["revision"], answer["count"]) == (str(LATEST + 1000), "1")
    assert everything(server) == petcd_source.whole.keys
    status, body = server.http(
        "POST", "/v3/kv/range", json.dumps({"key": b64(b"one"), "revision": LATEST}).encode()
    )
    assert status == 400 and b"required revision has been compacted" in body
    # A watcher of the old cluster learns that it missed something.
    with Rpc(server.endpoint) as client:
        watch = client.watch()
        request = WatchRequest(create_request=WatchCreateRequest(key=b"one", start_revision=LATEST))
        created, event = watch.ask(request), watch.receive()
        watch.cancel()
    assert created.created
    assert (event.canceled, event.compact_revision) == (True, LATEST + 1000)
    put(server, b"one", b"newer")
    assert rpc(server, "kv/range", key=b64(b"one"))["kvs"][0]["mod_revision"] == str(LATEST + 1001)


@needs_go_etcd
@needs_go_etcdctl
@pytest.mark.go
def test_a_bumped_revision_hashes_as_go_s(
    petcd_source: Source, target: Callable[..., Server], tmp_path: Path
) -> None:
    """Debian's etcdctl cannot bump, so its file gets the same two records from our writer."""
    raised = schema.encode_compact_rev(LATEST + 1000)
    bumped = tmp_path / "bumped.db"
    file, made = DISK.open(str(petcd_source.whole.path), readonly=True), DISK.open(str(bumped), create=True)
    changes = {(schema.KEY, raised): b"", (schema.META, schema.SCHEDULED_COMPACT_REV): raised}
    for _ in write_database(BboltFile(file), made, overrides=changes):
        pass
    file.close()
    made.close()
    go, ours = target("go"), target("petcd")
    done = go_ctl("snapshot", "restore", str(bumped), "--skip-hash-check", *restore_flags(go))
    assert done.returncode == 0, done.stderr
    options = RestoreOptions(bump_revision=1000, mark_compacted=True)
    restore(DISK, str(petcd_source.whole.path), restored_as(ours), options)
    found = []
    for server in (go, ours):
        server.start()
        states = [hash_kv(server)]
        put(server, b"new", b"v")
        states.append(hash_kv(server))
        rpc(server, "kv/compaction", revision=LATEST + 1001, physical=True)
        states.append(hash_kv(server))
        found.append(states)
    assert found[0] == found[1]


# ---------------------------------------------------------------------- refusals


@pytest.fixture
def files(petcd_source: Source, tmp_path: Path) -> Path:
    """Good and bad files to be restored or looked at."""
    whole = petcd_source.whole.path.read_bytes()
    flipped = bytearray(whole)
    flipped[8192 + 100] ^= 1
    for name, content in {
        "good": whole,
        "bare": whole[:-32],
        "flipped": bytes(flipped),
        "cut": whole[: len(whole) // 2],
        "empty": b"",
        "small": b"x" * 100,
        "garbage": b"garbage!" * 8192,
    }.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "directory").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    return tmp_path


REFUSED = {
    "no such file": ["nosuch"],
    "an empty file": ["empty"],
    "a small file": ["small"],
    "garbage": ["garbage"],
    "a directory": ["directory"],
    "cut short": ["cut"],
    "no digest": ["bare"],
    "another digest": ["flipped"],
    "another name": ["good", "--name=m1"],
    "a WAL directory that exists": ["good", "--wal-dir=full"],
    "another address": ["good", "--initial-advertise-peer-urls=http://127.0.0.1:2381"],
    "one address more": [
        "good",
        "--initial-advertise-peer-urls=http://localhost:2380,http://localhost:2381",
    ],
    "no URL": ["good", "--initial-advertise-peer-urls=xx"],
    "no URL in the cluster": ["good", "--initial-cluster=default=xx"],
    "an address twice": [
        "good",
        "--initial-cluster=default=http://localhost:2380,b=http://localhost:2380",
    ],
    "no argument": [],
    "two arguments": ["good", "bare"],
}


@needs_go_etcdctl
@pytest.mark.go
@pytest.mark.parametrize("words", REFUSED.values(), ids=REFUSED)
def test_refusals_are_go_s(
    words: list[str], files: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    monkeypatch.chdir(files)
    line = ["snapshot", "restore", *words]
    status = etcdutl.main([*line, "--data-dir=ours"])
    ours = capfdbinary.readouterr()
    theirs = go_ctl(*line, "--data-dir=theirs")
    assert status == theirs.returncode != 0
    assert (ours.out, errors(ours.err)) == (theirs.stdout, errors(theirs.stderr))
    assert not (files / "ours").exists()


def errors(text: bytes) -> list[bytes]:
    """The lines that are not the log's."""
    return [line for line in text.splitlines() if not line.startswith(b"{") and b"\tinfo\t" not in line]


def test_further_refusals(
    files: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(files)

    def refused(status: int, text: str, *words: str) -> None:
        assert etcdutl.main(["snapshot", "restore", *words]) == status
        assert capfd.readouterr().err.splitlines()[-1] == f"Error: {text}"

    refused(1, 'data-dir "full" not empty or could not be read', "good", "--data-dir=full")
    refused(1, 'data-dir "good" not empty or could not be read', "good", "--data-dir=good")
    refused(1, "invalid database", "garbage", "--data-dir=d", "--skip-hash-check")
    only_both = "--mark-compacted required if --revision-bump > 0"
    refused(128, only_both, "good", "--bump-revision=1")
    too_far = f"--bump-revision={2**63 - LATEST}"
    text = f"the revision {LATEST} cannot be raised by {2**63 - LATEST}"
    refused(1, text, "good", "--data-dir=d", too_far, "--mark-compacted")
    refused(128, only_both, "good", "--mark-compacted")
    assert not (files / "d").exists()


def test_an_empty_directory_is_used_and_left_as_it_was(files: Path) -> None:
    directory = files / "directory"
    config = Config(data_dir=str(directory))
    with pytest.raises(RestoreError, match="expected sha256"):
        restore(DISK, str(files / "flipped"), config)
    assert list(directory.iterdir()) == []
    restore(DISK, str(files / "good"), config)
    assert sorted(path.name for path in directory.iterdir()) == ["member"]
    assert (directory / "member" / "snap" / "petcd.mdb").stat().st_mode & 0o777 == 0o600


def test_names_need_not_be_known_here(files: Path) -> None:
    """A restore often runs where the new members' names mean nothing yet."""
    url = "http://member.invalid:2380"
    words = [f"--initial-cluster=default={url}", f"--initial-advertise-peer-urls={url}"]
    utl("snapshot", "restore", str(files / "good"), f"--data-dir={files / 'd'}", *words)


def test_without_a_data_directory_the_name_gives_one(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(files)
    utl("snapshot", "restore", "good")
    assert (files / "default.etcd" / "member" / "wal").is_dir()


class FailingDisk(RealDisk):
    """Refuses everything that changes something after a number of them; removals still work."""

    def __init__(self, left: int) -> None:
        super().__init__()
        self.left = left

    def _step(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise OSError(28, os.strerror(28))

    def mkdir(self, path: str, /, *, mode: int = 0o700) -> None:
        self._step()
        super().mkdir(path, mode=mode)

    def rename(self, source: str, target: str, /) -> None:
        self._step()
        super().rename(source, target)

    def sync_dir(self, path: str, /) -> None:
        self._step()
        super().sync_dir(path)


def test_whatever_fails_nothing_is_left(files: Path) -> None:
    """And so a second try finds an empty place."""
    config = Config(data_dir=str(files / "data"), wal_dir=str(files / "wal"))
    failures = 0
    while True:
        try:
            restore(FailingDisk(failures), str(files / "good"), config)
        except WriteFailed:
            failures += 1
            assert not list(files.glob("data*"))
            assert not list(files.glob("wal*"))
        else:
            break
    assert failures >= 8


def test_an_interrupt_leaves_nothing(files: Path) -> None:
    """The process ends by the signal, but first it cleans up."""
    code = (
        "import os, signal; from petcd.cli import etcdutl; from petcd.storage import atrest\n"
        "atrest.build_file = lambda *_, **__: os.kill(os.getpid(), signal.SIGINT)\n"
        "etcdutl.main()"
    )
    words = ["snapshot", "restore", str(files / "good"), f"--data-dir={files / 'data'}"]
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, check=False)
    assert done.returncode == -signal.SIGINT
    assert not (files / "data").exists()


# ---------------------------------------------------------------------- the older form


def test_etcdctl_still_restores(
    petcd_source: Source, target: Callable[..., Server], capfd: pytest.CaptureFixture[str]
) -> None:
    server = target("petcd")
    done = run("etcdctl", "snapshot", "restore", str(petcd_source.whole.path), *restore_flags(server))
    assert (done.returncode, done.stdout) == (0, b"")
    assert done.stderr.startswith(b"Deprecated: Use `etcdutl snapshot restore` instead.\n\n")
    server.start()
    assert hash_kv(server) == petcd_source.whole.hash


@needs_go_etcdctl
@pytest.mark.go
def test_ids_are_those_that_go_gives(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that members restored by either tool come together."""
    monkeypatch.chdir(files)
    flags = [
        "--initial-cluster=a=http://127.0.0.1:1,b=http://127.0.0.1:2,b=http://127.0.0.1:3",
        "--initial-cluster-token=some",
        "--name=b",
        "--initial-advertise-peer-urls=http://127.0.0.1:3,http://127.0.0.1:2",
    ]
    utl("snapshot", "restore", "good", *flags, "--data-dir=ours")
    assert go_ctl("snapshot", "restore", "good", *flags, "--data-dir=theirs").returncode == 0
    ours, theirs = (read_log(DISK, str(files / name / "member" / "wal")) for name in ("ours", "theirs"))
    assert (ours.metadata, ours.hard_state) == (theirs.metadata, theirs.hard_state)
    assert ours.entries == theirs.entries
    assert [(s.index, s.term) for s in ours.snapshots] == [(s.index, s.term) for s in theirs.snapshots]
