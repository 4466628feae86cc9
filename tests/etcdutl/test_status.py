"""snapshot status and hashkv: beside Debian's etcdctl, and beside the member that the file is of."""

from __future__ import annotations

import json
import random
import re
import subprocess
import sys
from pathlib import Path

import pytest
from tests.etcdutl.conftest import Source
from tests.etcdutl.sources import LATEST, LIVE, go_ctl, run
from tests.servers import needs_go_etcdctl

from petcd.cli import etcdctl, etcdutl

Capture = pytest.CaptureFixture[bytes]

FORMATS = ("simple", "json", "fields", "table", "protobuf", "nonsense")


@needs_go_etcdctl
@pytest.mark.go
@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("which", ["whole", "compacted"])
def test_status_is_go_s(
    source: Source, which: str, name: str, monkeypatch: pytest.MonkeyPatch, capfdbinary: Capture
) -> None:
    """The form up to 3.5, which etcdctl still has."""
    monkeypatch.setenv("PETCDCTL_TABLES", "ascii")
    words = ["snapshot", "status", str(getattr(source, which).path), "-w", name]
    status = etcdctl.main(words)
    ours = capfdbinary.readouterr()
    theirs = go_ctl(*words)
    notice = b"Deprecated: Use `etcdutl snapshot status` instead.\n\n"
    assert (status, ours.out, ours.err) == (theirs.returncode, theirs.stdout, notice + theirs.stderr)


def test_status_of_today(source: Source, capfdbinary: Capture) -> None:
    """Keys that live are counted, not records, and the version is told."""
    path = str(source.whole.path)
    version = "3.7.0" if source.whole.kind == "petcd" else ""

    def said(name: str) -> str:
        assert etcdutl.main(["snapshot", "status", path, "-w", name]) == 0
        return capfdbinary.readouterr().out.decode()

    shape = json.loads(said("json"))
    assert list(shape) == ["hash", "revision", "totalKey", "totalSize", "version"]
    assert (shape["revision"], shape["totalKey"], shape["version"]) == (LATEST, LIVE, version)
    assert shape["totalSize"] == source.whole.path.stat().st_size - 32
    human = f"{shape['totalSize'] / 1000:.0f} kB"
    assert said("simple") == f"{shape['hash']:x}, {LATEST}, {LIVE}, {human}, {version}\n"
    assert said("fields").splitlines() == [
        f'"Hash" : {shape["hash"]}',
        f'"Revision" : {LATEST}',
        f'"Keys" : {LIVE}',
        f'"Size" : {shape["totalSize"]}',
        f'"Version" : {version}',
    ]
    assert " │ REVISION │ TOTAL KEYS │ TOTAL SIZE │ VERSION │" in said("table")


@needs_go_etcdctl
@pytest.mark.go
@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, ["file"]),
        (b"", ["file"]),
        (b"x" * 100, ["file"]),
        (b"garbage!" * 8192, ["file"]),
        (None, ["."]),
        (b"", []),
        (b"", ["file", "file"]),
    ],
    ids=["missing", "empty", "small", "garbage", "directory", "no argument", "two arguments"],
)
def test_refusals_are_go_s(
    content: bytes | None,
    words: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfdbinary: Capture,
) -> None:
    monkeypatch.chdir(tmp_path)
    if content is not None:
        (tmp_path / "file").write_bytes(content)
    status = etcdutl.main(["snapshot", "status", *words])
    ours = capfdbinary.readouterr()
    theirs = go_ctl("snapshot", "status", *words)
    assert (status, ours.out, ours.err) == (theirs.returncode, theirs.stdout, theirs.stderr)
    assert status


def test_damage_is_found(petcd_source: Source, tmp_path: Path, capfdbinary: Capture) -> None:
    whole = petcd_source.whole.path.read_bytes()
    path = tmp_path / "file"
    for content, finding in (
        (whole[:4096] + b"\x07" + whole[4097:], None),  # a page number that nobody reads: meta 1
        (whole[:8192] + b"\x09" + whole[8193:], b"it says that it is page 9"),
        (whole[:9000], b"truncated"),
    ):
        path.write_bytes(content)
        status = etcdutl.main(["snapshot", "status", str(path)])
        said = capfdbinary.readouterr()
        if finding is None:
            assert status == 0
            continue
        first, second = said.err.splitlines()
        assert (status, said.out) == (1, b"")
        assert first == b"Error: snapshot file integrity check failed. 1 errors found."
        assert finding in second


@pytest.mark.parametrize("fill", [b"\xff", b"\0"])
def test_damage_of_a_member_s_own_file(petcd_source: Source, tmp_path: Path, fill: bytes) -> None:
    """Where LMDB itself would end the process."""
    content = (petcd_source.whole.data_dir / "member" / "snap" / "petcd.mdb").read_bytes()
    path = tmp_path / "petcd.mdb"
    path.write_bytes(content[:8192] + fill * (20 * 4096) + content[8192 + 20 * 4096 :])
    for words in (("snapshot", "status"), ("hashkv",), ("dump-db", "hash")):
        done = run("etcdutl", *words, str(path))
        *_, reason = done.stderr.decode().splitlines()
        assert done.returncode == 1, done.stderr
        assert re.search("petcd.mdb: page [0-9]+ is not part of a tree", reason)
        assert (b"integrity check failed" in done.stderr) == (words[-1] == "status")


def test_no_damage_breaks_the_tools(petcd_source: Source, tmp_path: Path, capfdbinary: Capture) -> None:
    whole = petcd_source.compacted.path.read_bytes()
    path = tmp_path / "file"
    draw = random.Random(4)
    seen = set()
    for turn in range(150):
        content = bytearray(whole)
        for _ in range(draw.randrange(1, 4)):
            at = draw.randrange(len(content)) if draw.random() < 0.5 else draw.randrange(8192)
            content[at] = draw.randrange(256)
        path.write_bytes(content[: draw.choice((len(content), draw.randrange(len(content))))])
        for words in (["snapshot", "status"], ["hashkv"]):
            seen.add((words[0], etcdutl.main([*words, str(path)])))
        if turn % 8 == 0:
            target = tmp_path / f"data-{turn}"
            words = ["snapshot", "restore", "--skip-hash-check", f"--data-dir={target}"]
            status = etcdutl.main([*words, str(path)])
            seen.add(("restore", status))
            assert target.exists() == (status == 0)
    capfdbinary.readouterr()
    assert seen == {(name, status) for name in ("snapshot", "hashkv", "restore") for status in (0, 1)}


@pytest.mark.parametrize("which", ["whole", "compacted"])
def test_hashkv_is_the_member_s(source: Source, which: str, capfdbinary: Capture) -> None:
    snapshot = getattr(source, which)

    def said(*words: str) -> str:
        assert etcdutl.main(["hashkv", str(snapshot.path), *words]) == 0
        return capfdbinary.readouterr().out.decode()

    crc, compacted = snapshot.hash
    assert said() == f"{crc}, {LATEST}, {compacted}\n"
    for rev, (older, _) in snapshot.hashes.items():
        assert said(f"--rev={rev}") == f"{older}, {rev}, {compacted}\n"
    assert json.loads(said("-w=json")) == {
        "hash": crc,
        "hashRevision": LATEST,
        "compactRevision": compacted,
    }
    assert said("-wfields") == (
        f'"Hash" : {crc}\n"Hash revision" : {LATEST}\n"Compact revision" : {compacted}\n'
    )
    assert "HASH REVISION │ COMPACT REVISION" in said("-w", "table")


def test_hashkv_of_a_stopped_member_s_own_file(source: Source, capfdbinary: Capture) -> None:
    snap = source.compacted.data_dir / "member" / "snap"
    name = "db" if source.compacted.kind == "go" else "petcd.mdb"
    assert etcdutl.main(["hashkv", str(snap / name)]) == 0
    crc, compacted = source.compacted.hash
    assert capfdbinary.readouterr().out.decode() == f"{crc}, {LATEST}, {compacted}\n"


def test_hashkv_refuses_revisions(petcd_source: Source, capfdbinary: Capture) -> None:
    path = str(petcd_source.compacted.path)

    def refused(status: int, *words: str) -> str:
        assert etcdutl.main(["hashkv", *words]) == status
        return capfdbinary.readouterr().err.decode()

    assert refused(1, path, "--rev=5") == "Error: mvcc: required revision has been compacted\n"
    assert refused(1, path, "--rev=500") == "Error: mvcc: required revision is a future revision\n"
    assert refused(1, "nosuch") == "Error: stat nosuch: no such file or directory\n"
    assert refused(4, path, "-w=xml") == "Error: unsupported output format\n"
    assert refused(4, path, "-w=protobuf") == "Error: protobuf not supported as output format\n"
    once = "Error: accepts 1 arg(s), received 0\n"
    said = refused(1)
    assert said.startswith(once + "Usage:\n  etcdutl hashkv <filename> [flags]\n")
    assert said.endswith("\n\n" + once)


def test_nothing_heavy_is_imported_for_a_short_answer() -> None:
    heavy = ("asyncio", "lmdb", "ssl", "petcd.server.config")
    code = (
        "import sys; from petcd.cli.etcdutl import main; main(sys.argv[1:]); "
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    for words in (["version"], ["snapshot", "--help"], ["snapshot", "restore", "--help"]):
        done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, check=True)
        assert done.stdout.splitlines()[-1] == b"[]"
