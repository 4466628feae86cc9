"""Completion: what ``__complete`` offers, and that the shells' scripts ask for it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from petcd.cli.etcdctl import main


def offered(capfdbinary: pytest.CaptureFixture[bytes], *words: str) -> tuple[list[str], str]:
    """The candidates for a line, and the directive."""
    assert main(["__completeNoDesc", *words]) == 0
    *candidates, directive = capfdbinary.readouterr().out.decode().splitlines()
    return candidates, directive


@pytest.mark.parametrize(
    ("line", "candidates", "directive"),
    [
        (["l"], ["lease", "lock"], ":4"),
        (["lease", ""], ["grant", "keep-alive", "list", "revoke", "timetolive"], ":4"),
        (["lease", "gr"], ["grant"], ":4"),
        (["help", "le"], ["lease"], ":4"),
        (["get", "--p"], ["--password", "--prefix", "--print-value-only"], ":4"),
        (["get", "-w", "j"], ["json"], ":4"),
        (["get", "--write-out=", ""], [], ":0"),
        (["get", "--write-out=p"], ["protobuf"], ":4"),
        (["-w", "json", "member", "l"], ["list"], ":4"),
        (["get", "--order", "D"], ["DESCEND"], ":4"),
        (["completion", ""], ["bash", "fish", "powershell", "zsh"], ":4"),
        (["get", "--cacert", ""], [], ":0"),
        (["snapshot", "save", ""], [], ":0"),
        (["get", "--", "--p"], [], ":0"),
        (["nosuch", ""], [], ":0"),
        (["get", "--nosuch", ""], [], ":0"),
        ([], [], ":4"),
    ],
)
def test_what_is_offered(
    line: list[str], candidates: list[str], directive: str, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    found, got = offered(capfdbinary, *line)
    assert got == directive
    if line:
        assert found == candidates
    else:
        assert {"get", "help", "watch"} <= set(found)


def test_descriptions(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    assert main(["__complete", "lease", "gr"]) == 0
    out = capfdbinary.readouterr()
    assert out.out == b"grant\tCreates leases\n:4\n"
    assert out.err == b"Completion ended with directive: ShellCompDirectiveNoFileComp\n"


@pytest.fixture
def shell(tmp_path: Path) -> dict[str, str]:
    """An environment in which ``etcdctl`` is ours, and an empty folder with two files."""
    tool = tmp_path / "bin" / "etcdctl"
    tool.parent.mkdir()
    program = "import sys; from petcd.cli.etcdctl import main; raise SystemExit(main(sys.argv[1:]))"
    tool.write_text(f'#!/bin/sh\nexec "{sys.executable}" -c \'{program}\' "$@"\n')
    tool.chmod(0o755)
    (tmp_path / "snap.db").touch()
    (tmp_path / "snow.txt").touch()
    return {**os.environ, "PATH": f"{tool.parent}:{os.environ['PATH']}", "HOME": str(tmp_path)}


def script(name: str, env: dict[str, str]) -> Path:
    path = Path(env["HOME"]) / f"script.{name}"
    with path.open("wb") as file:
        subprocess.run(["etcdctl", "completion", name], stdout=file, env=env, check=True)
    return path


LINES = [
    ("etcdctl le", {"lease"}),
    ("etcdctl lease ", {"grant", "keep-alive", "list", "revoke", "timetolive"}),
    ("etcdctl lease gr", {"grant"}),
    ("etcdctl -w json member l", {"list"}),
    ("etcdctl get --write-o", {"--write-out"}),
    ("etcdctl get -w ", {"fields", "json", "protobuf", "simple", "table"}),
    ("etcdctl endpoint --cluster h", {"hashkv", "health"}),
]


@pytest.mark.skipif(not shutil.which("bash"), reason="bash is not installed")
def test_bash(shell: dict[str, str]) -> None:
    path = script("bash", shell)
    for line, expected in [
        *LINES,
        ("etcdctl get --write-out=j", {"json"}),
        ("etcdctl snapshot save s", set()),
    ]:
        # As readline does: the words cut at its breaks, and the line with the cursor at its end.
        program = (
            f"source {path}; COMP_LINE='{line}'; COMP_POINT=${{#COMP_LINE}}; _etcdctl_complete; "
            'printf "%s\\n" "${COMPREPLY[@]}"; complete -p etcdctl'
        )
        done = subprocess.run(["bash", "-c", program], env=shell, capture_output=True, text=True, check=True)
        *found, registered = done.stdout.splitlines()
        assert {name for name in found if name} == expected, (line, done)
        assert registered == "complete -o default -F _etcdctl_complete etcdctl"
        assert not done.stderr


@pytest.mark.skipif(not shutil.which("fish"), reason="fish is not installed")
def test_fish(shell: dict[str, str]) -> None:
    path = script("fish", shell)
    lines = [
        *LINES,
        ("etcdctl get --write-out=j", {"--write-out=json"}),
        ("etcdctl snapshot save s", {"snap.db", "snow.txt", "script.fish"}),
    ]
    for line, expected in lines:
        program = f"source {path}; complete -C '{line}'"
        done = subprocess.run(
            ["fish", "-N", "-c", program],
            env=shell,
            cwd=shell["HOME"],
            capture_output=True,
            text=True,
            check=True,
        )
        assert {found.split("\t")[0] for found in done.stdout.splitlines()} == expected, (line, done)


@pytest.mark.skipif(not shutil.which("zsh"), reason="zsh is not installed")
def test_zsh(shell: dict[str, str]) -> None:
    path = script("zsh", shell)
    # The system of completion needs a terminal; its helpers are put in place to see what they are given.
    stand_ins = (
        "compdef() { print registered $@ }; compset() { : }; _files() { print files };"
        '_describe() { local one; for one in "${(@P)2}"; do print -r -- "${one%%:*}"; done };'
    )
    lines = [
        *LINES,
        ("etcdctl get --write-out=j", {"json"}),
        ("etcdctl snapshot save s", {"files"}),
    ]
    for line, expected in lines:
        given = line.split(" ")
        words = " ".join(f"'{word}'" for word in given)
        program = f"{stand_ins} source {path}; words=({words}); CURRENT={len(given)}; _etcdctl"
        done = subprocess.run(
            ["zsh", "-f", "-c", program], env=shell, capture_output=True, text=True, check=True
        )
        registered, *found = done.stdout.splitlines()
        assert registered == "registered _etcdctl etcdctl"
        assert set(found) == expected, (line, done)


def test_powershell_knows_its_tool(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    assert main(["completion", "powershell"]) == 0
    assert b"-CommandName 'etcdctl'" in capfdbinary.readouterr().out
