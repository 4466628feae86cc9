"""docs/migrating.md keeps its word: its commands are run, one way and back, and keep the data."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.servers import GO_ETCD, GO_ETCDCTL, clean_environment, free_port, needs_go_etcd, needs_go_etcdctl

PAGE = Path(__file__).resolve().parents[2] / "docs" / "migrating.md"

pytestmark = [pytest.mark.go, pytest.mark.slow, needs_go_etcd, needs_go_etcdctl]

PUTS = "for n in $(seq 20); do $GO/etcdctl put {}$n v$n; done >/dev/null"
KEYS = "$GO/etcdctl get '' --prefix --keys-only | grep . | sort | tr '\\n' ' '"
START_GO = """
$GO/etcd --name m1 --data-dir m1.etcd $URLS 2>> go.log &
GO_PID=$!
until $GO/etcdctl endpoint health; do sleep 0.1; done
"""


def blocks() -> dict[str, str]:
    """The blocks by the heading above them; several under one heading are one."""
    found: dict[str, str] = {}
    heading = ""
    for part in re.split(r"^(#+ [^\n]*|```sh\n.*?^```)$", PAGE.read_text(), flags=re.MULTILINE | re.DOTALL):
        if part.startswith("#"):
            heading = part.lstrip("# ")
        elif part.startswith("```sh"):
            found[heading] = found.get(heading, "") + part[6:-3]
    return found


def programs(directory: Path) -> tuple[Path, Path]:
    """Where Go's and petcd's programs are, each under its usual name."""
    go, petcd = directory / "go", directory / "petcd"
    go.mkdir()
    petcd.mkdir()
    for name, path in (("etcd", GO_ETCD), ("etcdctl", GO_ETCDCTL)):
        (go / name).symlink_to(path)
    for name in ("etcd", "etcdctl", "etcdutl"):
        text = f"import sys; from petcd.cli.{name} import main; sys.exit(main())"
        (petcd / name).write_text(f"#!/bin/sh\nexec {sys.executable} -c '{text}' \"$@\"\n")
        (petcd / name).chmod(0o755)
    return go, petcd


def test_the_commands_of_the_page(tmp_path: Path) -> None:
    text = blocks()
    settings = text.pop("From Go etcd to petcd, and back")
    there_and_back = text.pop("By a snapshot").split("$GO/etcdctl snapshot save there.db")
    steps = [
        # Away and back again: the backup is what was there when Go was stopped.
        START_GO,
        PUTS.format("first"),
        text.pop("Before"),
        text.pop("The move"),
        text.pop("Afterwards"),
        "$PETCD/etcdctl put ours v",
        f"echo moved: $({KEYS})",
        "until $PETCD/etcdctl endpoint status -w json > status.after; do sleep 0.1; done",
        text.pop("As it was before the move"),
        f"echo returned: $({KEYS})",
        # To petcd by a snapshot, and from there to Go.
        "$GO/etcdctl snapshot save there.db" + there_and_back[1],
        "$PETCD/etcdctl put ours v",
        there_and_back[0],
        f"echo restored: $({KEYS})",
    ]
    assert not text, "a block that is not run"
    go, petcd = programs(tmp_path)
    script = "\n".join(["set -eu", "trap 'kill -9 $(jobs -p)' EXIT", settings, *steps])
    for name, path in (("GO", go), ("PETCD", petcd)):
        script = re.sub(rf"^{name}=.*$", f"{name}={shlex.quote(str(path))}", script, flags=re.MULTILINE)
    client, peer = free_port(), free_port()
    script = script.replace("127.0.0.1:2379", f"127.0.0.1:{client}").replace(
        "127.0.0.1:2380", f"127.0.0.1:{peer}"
    )
    work = tmp_path / "work"
    work.mkdir()
    result = subprocess.run(
        ["bash", "-c", script],
        cwd=work,
        capture_output=True,
        text=True,
        timeout=120,
        env=clean_environment({"ETCDCTL_API": "3", "ETCDCTL_ENDPOINTS": f"127.0.0.1:{client}"}),
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr + (work / "petcd.log").read_text()[-3000:]
    shown = dict(re.findall(r"^(moved|returned|restored): (.*)$", result.stdout, re.MULTILINE))
    first = sorted(f"first{n}" for n in range(1, 21))
    assert shown["moved"].split() == [*first, "ours"]
    assert shown["returned"].split() == first
    assert shown["restored"].split() == [*first, "ours"]
    before, after = (
        json.loads((work / f"hash.{when}").read_text())[0]["HashKV"] for when in ("before", "after")
    )
    assert after["hash"] == before["hash"]
    status = json.loads((work / "status.after").read_text())[0]["Status"]
    assert status["header"]["revision"] == before["header"]["revision"] + 1
    shutil.rmtree(work)


def test_the_log_lines_of_the_page() -> None:
    """They are the ones that the program writes."""
    source = "".join(
        path.read_text() for path in (PAGE.parents[1] / "src/petcd/server/takeover").glob("*.py")
    )
    section = PAGE.read_text().split("### What the log says")[1].split("###")[0]
    lines = re.findall(r"^\| `([^`]+)` \|", section, re.MULTILINE)[1:]
    assert len(lines) == 3
    assert all(f'"{line}"' in source for line in lines)
