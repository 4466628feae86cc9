"""defrag, migrate, backup, dump-db, dump-logs, and what every command line has in common."""

from __future__ import annotations

import random
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.etcdutl.conftest import Source
from tests.etcdutl.sources import LATEST, everything, hash_kv, members, put
from tests.servers import Kind, Server, needs_go_etcd

from petcd.cli import etcdutl
from petcd.cli.etcdutl import dumpdb, dumplogs
from petcd.cli.etcdutl.tree import ROOT
from petcd.pb import splice
from petcd.pb.etcdserverpb import DowngradeVersionTestRequest, InternalRaftRequest
from petcd.seams.real import RealDisk
from petcd.storage.wal import Wal

Capture = pytest.CaptureFixture[str]
Ran = tuple[int, str, str]


@pytest.fixture
def utl(capfd: Capture) -> Callable[..., Ran]:
    """Run etcdutl: exit status, stdout, stderr."""

    def run(*words: object) -> Ran:
        capfd.readouterr()
        status = etcdutl.main([str(word) for word in words])
        said = capfd.readouterr()
        return status, said.out, said.err

    return run


@pytest.fixture
def stopped(source: Source, tmp_path: Path) -> Iterator[Server]:
    """A stopped member of its own, which may be started."""
    server = Server(source.compacted.kind, tmp_path / "member")
    shutil.copytree(source.compacted.data_dir, server.data_dir)
    yield server
    server.kill()


def database(server: Server) -> Path:
    return server.data_dir / "member" / "snap" / ("db" if server.kind == "go" else "petcd.mdb")


# ---------------------------------------------------------------------- defrag


def test_defrag(source: Source, stopped: Server, utl: Callable[..., Ran]) -> None:
    before = utl("snapshot", "status", database(stopped), "-wjson")[1]
    assert utl("defrag", "--data-dir", stopped.data_dir) == (0, "", "")
    after = utl("snapshot", "status", database(stopped), "-wjson")[1]
    size = re.compile(r'"totalSize":(\d+)')
    assert size.sub("", after) == size.sub("", before)
    assert int(size.findall(after)[0]) <= int(size.findall(before)[0])
    stopped.start()
    assert hash_kv(stopped) == source.compacted.hash
    leftovers = {path.name for path in database(stopped).parent.iterdir()}
    assert not {name for name in leftovers if ".tmp" in name or name.endswith(".defrag")}


def test_defrag_waits_for_a_running_member_and_gives_up(stopped: Server, utl: Callable[..., Ran]) -> None:
    stopped.start()
    put(stopped, b"before", b"v")
    status, out, err = utl("defrag", "--data-dir", stopped.data_dir, "--timeout=1100ms")
    path = database(stopped)
    assert (status, out) == (1, "")
    waiting, refusal = err.splitlines()
    assert waiting == (
        f'waiting for etcd to close and release its lock on "{path}". '
        "To defrag a running etcd instance, use `etcdctl defrag` instead."
    )
    assert refusal == f"Error: Failed to defragment etcd data[{stopped.data_dir}] (timeout)"
    for words in (["hashkv"], ["snapshot", "status"], ["snapshot", "restore", "--skip-hash-check"]):
        status, _, err = utl(*words, path, "--timeout=1ms")
        assert (status, err.splitlines()[-1]) == (1, "Error: timeout")
    put(stopped, b"after", b"v")


def test_defrag_without_a_database(tmp_path: Path, utl: Callable[..., Ran]) -> None:
    path = tmp_path / "member" / "snap" / "db"
    text = f"Error: Failed to defragment etcd data[{tmp_path}] (stat {path}: no such file or directory)\n"
    assert utl("defrag", "--data-dir", tmp_path) == (1, "", text)


# ---------------------------------------------------------------------- migrate


def version(server: Server, utl: Callable[..., Ran]) -> str:
    return (
        utl("snapshot", "status", database(server), "-wfields")[1]
        .splitlines()[-1]
        .removeprefix('"Version" : ')
    )


def test_migrate_down_and_up(petcd_source: Source, tmp_path: Path, utl: Callable[..., Ran]) -> None:
    """A fresh log has nothing that an older release would not understand."""
    server = Server("petcd", tmp_path)
    path = str(petcd_source.whole.path)
    assert utl("snapshot", "restore", path, "--data-dir", server.data_dir)[0] == 0
    for target, found in (("3.5", ""), ("3.6", "3.6.0"), ("3.7", "3.7.0"), ("3.6", "3.6.0")):
        status, out, err = utl("migrate", "--data-dir", server.data_dir, "--target-version", target)
        assert (status, out, version(server, utl)) == (0, "", found)
        assert "updated storage version" in err
    status, _, err = utl("migrate", "--data-dir", server.data_dir, "--target-version", "3.6")
    assert (status, "storage version up-to-date" in err) == (0, True)


def test_migrate_refuses_what_is_not_known(
    petcd_source: Source, tmp_path: Path, utl: Callable[..., Ran]
) -> None:
    server = Server("petcd", tmp_path)
    shutil.copytree(petcd_source.whole.data_dir, server.data_dir)
    words = ("migrate", "--data-dir", server.data_dir, "--target-version")
    assert utl(*words, "3.8")[::2] == (1, 'Error: version "3.8.0" is not supported\n')
    assert utl(*words, "4.0")[::2] == (1, "Error: changing major storage version is not supported\n")
    assert version(server, utl) == "3.7.0"
    # Nothing here could open that database again.
    assert utl(*words, "3.8", "--force")[::2] == (1, 'Error: version "3.8.0" is not supported\n')
    assert version(server, utl) == "3.7.0"


def test_migrate_by_force(petcd_source: Source, tmp_path: Path, utl: Callable[..., Ran]) -> None:
    """A test of a downgrade names the release that it needs."""
    server = Server("petcd", tmp_path)
    shutil.copytree(petcd_source.whole.data_dir, server.data_dir)
    request = InternalRaftRequest(downgrade_version_test=DowngradeVersionTestRequest(ver="3.7.0"))
    wal, contents = Wal.open(RealDisk(), str(server.data_dir / "member" / "wal"))
    index = contents.last_index + 1
    wal.write(wal.encode([(index, splice.entry(0, 2, index, request.encode()))], None, True))
    wal.close()
    words = ("migrate", "--data-dir", server.data_dir, "--target-version", "3.6")
    refusal = (
        "cannot downgrade storage, WAL contains newer entries, as the target version (3.6.0) "
        "is lower than the version (3.7.0) detected from WAL logs"
    )
    assert utl(*words) == (1, "", f"Error: {refusal}\n")
    status, _, err = utl(*words, "--force")
    assert (status, version(server, utl)) == (0, "3.6.0")
    assert "normal migrate failed, trying with force" in err
    assert "forcefully set storage version" in err


@pytest.mark.go
def test_migrate_a_database_of_go(go_source: Source, tmp_path: Path, utl: Callable[..., Ran]) -> None:
    """One of 3.4 has no term in it: its version cannot be told."""
    server = Server("go", tmp_path)
    shutil.copytree(go_source.whole.data_dir, server.data_dir)
    status, _, err = utl("migrate", "--data-dir", server.data_dir, "--target-version", "3.6")
    assert (status, err.splitlines()[-1]) == (1, "Error: missing term information")
    assert "failed to detect storage version" in err


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["3"], 'wrong target version format, expected "X.Y", got "3"'),
        (["3.6.1"], 'wrong target version format, expected "X.Y", got "3.6.1"'),
        (["3.x"], 'failed to parse target version: strconv.ParseInt: parsing "x": invalid syntax'),
        (["3.4"], 'target version "3.4" not supported. Minimal "3.5"'),
    ],
)
def test_versions_that_are_none(words: list[str], text: str, utl: Callable[..., Ran]) -> None:
    assert utl("migrate", "--data-dir=d", "--target-version", *words) == (128, "", f"Error: {text}\n")


# ---------------------------------------------------------------------- backup


def backed_up(target: Path, kind: Kind = "petcd") -> Server:
    server = Server(kind, target.parent / "copy", args=["--force-new-cluster"])
    server.directory.mkdir()
    target.rename(server.data_dir)
    return server


def test_a_backup_stands_for_itself(
    source: Source, stopped: Server, tmp_path: Path, utl: Callable[..., Ran]
) -> None:
    target = tmp_path / "backup"
    status, out, err = utl("backup", "--data-dir", stopped.data_dir, "--backup-dir", target)
    assert (status, out) == (0, "")
    assert "ignoring EntryConfChange raft entry" in err
    copy = backed_up(target)
    try:
        copy.start()
        assert hash_kv(copy) == source.compacted.hash
        assert everything(copy) == source.compacted.keys
        (member,) = members(copy)
        assert member["name"] == "default"
        copy.kill()
        copy.args = []
        copy.start()
        put(copy, b"after", b"v")
    finally:
        copy.kill()
    # The original is what it was.
    stopped.start()
    assert members(stopped)[0]["ID"] != member["ID"]
    assert hash_kv(stopped) == source.compacted.hash


def test_a_backup_without_keys(petcd_source: Source, tmp_path: Path, utl: Callable[..., Ran]) -> None:
    target = tmp_path / "backup"
    words = ("--data-dir", petcd_source.whole.data_dir, "--backup-dir", target, "--with-v3=false")
    status, _, err = utl("backup", *words)
    assert (status, "ignoring v3 raft entry" in err) == (0, True)
    copy = backed_up(target)
    try:
        copy.start()
        assert everything(copy) == []
    finally:
        copy.kill()


def test_backup_refusals(petcd_source: Source, tmp_path: Path, utl: Callable[..., Ran]) -> None:
    snap = tmp_path / "none" / "member" / "snap"
    assert utl("backup", "--data-dir", tmp_path / "none", "--backup-dir", tmp_path / "b") == (
        1,
        "",
        f"Error: open {snap}: no such file or directory\n",
    )
    data_dir = petcd_source.whole.data_dir
    status, _, err = utl("backup", "--data-dir", data_dir, "--backup-dir", data_dir)
    assert status == 1
    assert err.startswith(f'Error: expected "{data_dir}/member/snap" to be empty, got [')


# ---------------------------------------------------------------------- check


def test_no_content_of_the_v2_api(source: Source, utl: Callable[..., Ran]) -> None:
    text = "No custom content found in both v2store and WAL records.\n"
    assert utl("check", "v2store", "--data-dir", source.whole.data_dir) == (0, text, "")


@needs_go_etcd
@pytest.mark.go
def test_content_of_the_v2_api(tmp_path: Path, utl: Callable[..., Ran]) -> None:
    words = ("check", "v2store", "--data-dir", tmp_path / "data.etcd")
    server = Server("go", tmp_path, args=["--enable-v2"])
    try:
        server.start()
        assert server.http("PUT", "/v2/keys/k?value=v")[0] == 201
        server.stop()
        found = [utl(*words)]
        # Enough to make a snapshot; the log behind it has reads only.
        server.args = ["--enable-v2", "--snapshot-count=8"]
        server.start()
        for _ in range(12):
            assert server.http("GET", "/v2/keys/k?quorum=true")[0] == 200
        server.stop()
        found.append(utl(*words))
        server.args = ["--enable-v2"]
        server.start()
        assert server.http("PUT", "/v2/keys/k?value=w")[0] == 200
        server.stop()
        found.append(utl(*words))
    finally:
        server.kill()
    assert found == [
        (1, "", "Error: detected custom v2 content in WAL records\n"),
        (1, "", "Error: detected custom content in v2store\n"),
        (1, "", "Error: detected custom v2 content in both v2store and WAL records\n"),
    ]


def test_check_refusals(tmp_path: Path, utl: Callable[..., Ran]) -> None:
    snap = tmp_path / "member" / "snap"
    text = f"Error: open {snap}: no such file or directory\n"
    assert utl("check", "v2store", "--data-dir", tmp_path) == (1, "", text)
    assert utl("check", "v2store")[2].startswith('Error: required flag(s) "data-dir" not set\n')


# ---------------------------------------------------------------------- dump-db


BUCKETS = "alarm auth authRoles authUsers cluster key lease members members_removed meta"


def test_dump_db(source: Source, utl: Callable[..., Ran], capfd: Capture) -> None:
    data_dir = source.whole.data_dir
    assert utl("dump-db", "list-bucket", data_dir) == (0, BUCKETS.replace(" ", "\n") + "\n", "")
    status, out, _ = utl("dump-db", "iterate-bucket", data_dir, "key", "--limit=2", "--decode")
    assert status == 0
    assert out.splitlines() == [
        f"rev={{Revision:{{Main:{rev} Sub:0}} tombstone:false}}, "
        f'value=[key "one" | val "{value}" | created 3 | mod {rev} | ver {version}]'
        for rev, value, version in ((LATEST, "all", 104), (LATEST - 1, "of", 103))
    ]
    # Undecoded, and by its own name.
    assert dumpdb.main(["iterate-bucket", str(source.whole.path), "lease"]) == 0
    assert (
        capfd.readouterr().out == 'key="\\x00\\x00\\x00\\x00\\x00\\x00\\x00M", value="\\bM\\x10\\xd8\\x04"\n'
    )
    assert utl("dump-db", "iterate-bucket", data_dir, "lease", "--decode")[1] == (
        "lease ID=000000000000004d, TTL=600s, remaining TTL=0s\n"
    )
    meta = utl("dump-db", "iterate-bucket", data_dir, "meta", "--decode")[1]
    assert re.search(r'^key="consistent_index", value=\d+$', meta, re.M)
    assert f'key="finishedCompactRev", value={{Main:{LATEST - 1} Sub:0}}' in meta
    status, out, _ = utl("dump-db", "hash", data_dir)
    assert re.fullmatch(rf"db path: {data_dir}/member/snap/(db|petcd.mdb)\nHash: \d+\n", out)


@pytest.mark.go
def test_dump_db_of_users_and_roles(go_source: Source, utl: Callable[..., Ran]) -> None:
    def lines(bucket: str) -> list[str]:
        return utl("dump-db", "iterate-bucket", go_source.whole.path, bucket, "--decode")[1].splitlines()

    assert lines("authUsers") == ['user="u", roles=["r"], option=']
    assert lines("authRoles") == ['role="r", keyPermission=[permType:READWRITE key:"k" range_end:"l"]']
    assert lines("auth") == ['key="authRevision", value=5']


def test_dump_db_scans_what_is_left(petcd_source: Source, tmp_path: Path, utl: Callable[..., Ran]) -> None:
    """Without its bucket of buckets a file is no database any more, and its records are still there."""
    content = bytearray(petcd_source.whole.path.read_bytes()[:-32])
    content[-4096:] = bytes(4096)
    path = tmp_path / "broken.db"
    path.write_bytes(content)
    assert utl("dump-db", "list-bucket", path)[0] == 1
    status, out, err = utl("dump-db", "scan-keys", path, LATEST - 1)
    assert status == 0
    found = re.findall(r"pageID=\d+, index=\d+/\d+, rev=\{Revision:\{Main:(\d+) Sub:0\}", out)
    assert found == [str(LATEST - 1), str(LATEST)]
    assert re.search(r"Reading page \d+ failed: .*\. Continuing\.\.\.", err)


def test_dump_db_scans_behind_a_damaged_record(
    petcd_source: Source, tmp_path: Path, utl: Callable[..., Ran]
) -> None:
    content = bytearray(petcd_source.whole.path.read_bytes())
    content[content.index(b"\x0a\x03one\x10")] = 0xFF
    path = tmp_path / "broken.db"
    path.write_bytes(content)
    whole = utl("dump-db", "scan-keys", petcd_source.whole.path, 0)[1].splitlines()
    status, out, err = utl("dump-db", "scan-keys", path, 0)
    assert status == 0
    (lost,) = set(whole) - set(out.splitlines())
    match = re.match(r'pageID=(\d+), index=(\d+)/.* value=\[key "one" ', lost)
    assert match is not None
    assert err.startswith(f"Reading page {match[1]} failed: record {match[2]}: ")
    assert err.endswith(". Continuing...\n")


def test_dump_db_refusals(petcd_source: Source, utl: Callable[..., Ran], capfd: Capture) -> None:
    def refused(text: str, *words: object) -> None:
        status, out, err = utl("dump-db", *words)
        assert (status, out) == (1, "")
        assert re.fullmatch(rf"\d{{4}}/\d\d/\d\d \d\d:\d\d:\d\d {re.escape(text)}\n", err)

    refused('"nosuch" does not exist', "list-bucket", "nosuch")
    refused("Must provide 2 arguments (got [])", "iterate-bucket")
    refused("got nil bucket for x", "iterate-bucket", petcd_source.whole.path, "x")
    refused('strconv.ParseInt: parsing "z": invalid syntax', "scan-keys", petcd_source.whole.path, "z")
    assert dumpdb.main(["nosuch"]) == 1
    assert capfd.readouterr().out == 'unknown command "nosuch" for "etcd-dump-db"\n'


# ---------------------------------------------------------------------- dump-logs


def test_dump_logs(source: Source, utl: Callable[..., Ran]) -> None:
    status, out, err = utl("dump-logs", source.whole.data_dir)
    assert (status, err) == (0, "")
    head, _, rest = out.partition("term\t     index\ttype\tdata\n")
    lines = rest.splitlines()
    match = re.fullmatch(
        r"Snapshot:\nempty\nStart dumping log entries from snapshot\.\nWAL metadata:\n"
        r"nodeID=([0-9a-f]+) clusterID=[0-9a-f]+ term=\d+ commitIndex=(\d+) vote=([0-9a-f]+)\n"
        r"WAL entries: (\d+)\nlastIndex=(\d+)\n",
        head,
    )
    assert match is not None
    assert match[1] == match[3]
    assert match[4] == match[5] == str(len(lines) - 2)
    assert lines[0] == f"   1\t         1\tconf\tmethod=ConfChangeAddNode id={match[1]}"
    assert lines[1] == "   2\t         2\tnorm\tnoop"
    assert lines[-2:] == ["", f"Entry types (Normal,ConfigChange) count is : {match[4]}"]
    (one,) = [line for line in lines if 'value:"last"' in line]
    assert re.fullmatch(r'   2\t {5,9}\d+\tnorm\theader:\{ID:\d+\} put:\{key:"one" value:"last"\}', one)
    assert any(re.search(r"norm\theader:\{ID:\d+\} lease_grant:\{TTL:600 ID:77\}$", line) for line in lines)


@pytest.mark.go
def test_dump_logs_shows_v2_requests_and_no_password(go_source: Source, utl: Callable[..., Ran]) -> None:
    out = utl("dump-logs", go_source.whole.data_dir)[1]
    assert 'norm\tmethod=PUT path="/0/version" val="3.4.0"\n' in out
    assert 'auth_user_add:{name:"u" password:"<value removed>"' in out


def test_dump_logs_from_and_to(petcd_source: Source, utl: Callable[..., Ran]) -> None:
    data_dir = petcd_source.whole.data_dir
    status, out, _ = utl("dump-logs", "-start-index", 20, "-end-index=23", data_dir)
    assert status == 0
    assert out.startswith("Start dumping log entries from index 20.\nWAL metadata:\n")
    assert "\nWAL entries: 3\nlastIndex=22\n" in out
    assert re.findall(r"^ +\d+\t +(\d+)\t", out, re.M) == ["20", "21", "22"]
    out = utl("dump-logs", "-entry-type", "IRRLeaseGrant,IRRCompaction", data_dir)[1]
    kinds = re.findall(r"norm\theader:\{ID:\d+\} (\w+):", out)
    assert kinds == ["lease_grant", "compaction"]
    assert out.endswith("\nEntry types (IRRLeaseGrant,IRRCompaction) count is : 2\n")


def test_dump_logs_behind_a_snapshot(petcd_source: Source, tmp_path: Path, utl: Callable[..., Ran]) -> None:
    data_dir = tmp_path / "data"
    utl("snapshot", "restore", petcd_source.whole.path, "--data-dir", data_dir)
    out = utl("dump-logs", data_dir)[1]
    match = re.match(r'Snapshot:\nterm=1 index=1 nodes=\[([0-9a-f]+)\] confstate=\{"voters":\[(\d+)\],', out)
    assert match is not None
    assert int(match[1], 16) == int(match[2])
    assert "\nWAL entries: 0\nlastIndex=1\n" in out
    assert utl("dump-logs", "-start-snap", "0000000000000001-0000000000000001", data_dir)[1] == out
    assert utl("dump-logs", "-start-snap", "nosuch", data_dir)[0] == 1


def test_dump_logs_raw(petcd_source: Source, tmp_path: Path, capfd: Capture, utl: Callable[..., Ran]) -> None:
    data_dir = tmp_path / "data"
    utl("snapshot", "restore", petcd_source.whole.path, "--data-dir", data_dir)
    assert dumplogs.main(["-raw", str(data_dir)]) == 0
    lines = capfd.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in lines] == [
        "CRC",
        "Metadata",
        "Snapshot",
        "Entry",
        "HardState",
        "Snapshot",
        "EOF",
    ]
    assert lines[0] == "CRC: 0"
    assert re.fullmatch(
        r'Entry: Term:1 Index:1 Type:EntryConfChange Data:"\\010\\000\\020\\000\\030.*" ', lines[3]
    )
    assert re.fullmatch(r"HardState: term:1 vote:\d+ commit:1 ", lines[4])
    assert lines[-1] == "EOF: All entries were processed."


def test_dump_logs_asks_a_decoder(petcd_source: Source, tmp_path: Path, utl: Callable[..., Ran]) -> None:
    program = tmp_path / "decoder.py"
    program.write_text(
        "import sys\n"
        "for line in sys.stdin:\n"
        "    size = len(line.strip()) // 2\n"
        "    print(f'OK|{size}' if 0 < size < 40 else 'a|b|c' if size else 'short', flush=True)\n"
    )
    decoder = f"{sys.executable} {program}"
    out = utl("dump-logs", "-stream-decoder", decoder, petcd_source.whole.data_dir)[1]
    assert "term\t     index\ttype\tdata\tdecoder_status\tdecoded_data\n" in out
    assert "norm\tnoop\tdecoder output format is not right, print output anyway\tshort\n" in out
    assert re.search(r"\tOK\t2\d\n", out)
    assert "\ta(*WARNING: data might contain deliminator used by etcd-dump-logs)\tbc\n" in out


def test_dump_logs_refusals(petcd_source: Source, utl: Callable[..., Ran]) -> None:
    data_dir = petcd_source.whole.data_dir
    both = "Error: start-snap and start-index flags cannot be used together.\n"
    assert utl("dump-logs", "-start-snap=x", "-start-index=3", data_dir) == (1, "", both)
    assert utl("dump-logs") == (1, "", "Error: Must provide data-dir argument (got [])\n")
    status, _, err = utl("dump-logs", "-entry-type=X", data_dir)
    assert (status, err.splitlines()[0]) == (0, "[X] is not a valid entry-type, ignored.")
    assert utl("dump-logs", "nosuch")[0] == 1


def test_no_damage_breaks_the_tools(petcd_source: Source, tmp_path: Path, utl: Callable[..., Ran]) -> None:
    """Whatever is in the files, the answer is a text and a status."""
    path, log = tmp_path / "file.db", tmp_path / "member" / "wal" / f"{0:016x}-{0:016x}.wal"
    whole = petcd_source.whole.path.read_bytes()
    (source_log,) = (petcd_source.whole.data_dir / "member" / "wal").glob("*0.wal")
    records = source_log.read_bytes()[:16384]
    (tmp_path / "member" / "snap").mkdir(parents=True)
    log.parent.mkdir()
    draw = random.Random(9)
    seen = set()
    for _ in range(40):
        for target, content in ((path, bytearray(whole)), (log, bytearray(records))):
            for _ in range(draw.randrange(1, 4)):
                content[draw.randrange(len(content))] = draw.randrange(256)
            target.write_bytes(content)
        for words in (
            ["dump-db", "iterate-bucket", path, draw.choice(BUCKETS.split()), "--decode"],
            ["dump-db", "scan-keys", path, 0],
            ["dump-db", "hash", path],
            ["dump-logs", tmp_path],
            ["dump-logs", "-raw", tmp_path],
            ["check", "v2store", "--data-dir", tmp_path],
        ):
            seen.add((words[0], utl(*words)[0]))
    assert seen == {(name, status) for name in ("dump-db", "dump-logs", "check") for status in (0, 1)}


# ---------------------------------------------------------------------- the command line


def test_help_and_versions(utl: Callable[..., Ran]) -> None:
    assert utl("version") == (0, "etcdutl version: 3.7.1\nAPI version: 3.7\n", "")
    status, out, err = utl()
    assert (status, err) == (0, "")
    assert utl("--help")[1] == utl("help")[1] == out
    for title in ("Usage:", "Available Commands:", "Flags:"):
        assert f"\n{title}\n" in out
    assert out.endswith('\nUse "etcdutl [command] --help" for more information about a command.\n')
    group = utl("snapshot")[1]
    assert "\nGlobal Flags:\n" in group
    assert utl("snapshot", "nosuch") == (0, group, "")
    assert utl("help", "snapshot", "restore") == utl("snap", "rest", "--help")
    assert utl("help", "nosuch")[2].startswith("Unknown help topic [`nosuch`]\n")


def test_mistakes_are_told_twice(utl: Callable[..., Ran]) -> None:
    missing = 'Error: required flag(s) "data-dir" not set\n'
    status, out, err = utl("defrag")
    assert (status, out) == (1, "")
    assert err.startswith(f"{missing}Usage:\n  etcdutl defrag [flags]\n")
    assert err.endswith(f"\n\n{missing}")
    assert utl("migrate")[2].startswith('Error: required flag(s) "data-dir", "target-version" not set\n')
    unknown = 'Error: unknown command "nosuch" for "etcdutl"\n'
    assert utl("nosuch") == (1, "", f"{unknown}Run 'etcdutl --help' for usage.\n{unknown}")
    assert "Did you mean this?\n\tsnapshot\n" in utl("snapshit")[2]
    assert utl("version", "--nope")[2].startswith("Error: unknown flag: --nope\nUsage:\n")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish", "powershell"])
def test_completion_scripts(shell: str, utl: Callable[..., Ran]) -> None:
    """They ask the tool itself."""
    status, out, err = utl("completion", shell)
    assert (status, err) == (0, "")
    assert f"# {shell} completion for etcdutl\n" in out
    assert "__complete" in out


def test_what_may_follow(utl: Callable[..., Ran]) -> None:
    def following(*words: str) -> list[str]:
        status, out, _ = utl("__completeNoDesc", *words)
        assert status == 0
        return out.splitlines()[:-1]

    assert following("") == sorted([*(child.name for child in ROOT.children), "help"])
    assert following("snapshot", "") == ["restore", "status"]
    assert following("snapshot", "restore", "--b") == ["--bump-revision"]
    assert following("completion", "") == ["bash", "fish", "powershell", "zsh"]
    assert following("hashkv", "-w", "") == ["fields", "json", "protobuf", "simple", "table"]
    assert (
        utl("__complete", "snapshot", "s")[1] == "status\tGets backend snapshot status of a given file\n:4\n"
    )


def test_completion_refusals(utl: Callable[..., Ran]) -> None:
    assert utl("completion")[2].endswith("\nError: accepts 1 arg(s), received 0\n")
    assert utl("completion", "csh")[::2] == (1, 'Error: invalid argument "csh" for "etcdutl completion"\n')


def test_progress_is_drawn_on_a_terminal_and_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    from petcd.cli import progress

    class Screen:
        text = ""

        def isatty(self) -> bool:
            return True

        def write(self, text: str) -> None:
            self.text += text

        def flush(self) -> None:
            return None

    now = [0.0]
    screen: Any = Screen()
    monkeypatch.setattr(progress.sys, "stderr", screen)
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    bar = progress.Bar()
    bar("restoring", 1, 4_000_000)
    assert screen.text == ""
    for second, done in ((1.0, 1_000_000), (1.05, 1_100_000), (2.0, 4_000_000)):
        now[0] = second
        bar("restoring", done, 4_000_000)
    first, second_line = screen.text.split("\r")[1:]
    assert first == "restoring [==========>" + " " * 29 + "] 25% of 4.0 MB"
    assert second_line.startswith("restoring [" + "=" * 40 + "] 100% of 4.0 MB")
    bar.close()
    assert screen.text.endswith("\r" + " " * len(second_line) + "\r")
