"""The pages keep their word: commands print what is shown, programs run, links and files named exist."""

from __future__ import annotations

import re
import shlex
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.servers import Server, clean_environment, serving

ROOT = Path(__file__).resolve().parent.parent.parent
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]

ETCDCTL = [sys.executable, "-c", "import sys; from petcd.cli.etcdctl import main; sys.exit(main())"]
USUAL = "127.0.0.1:2379"
"""Where the pages' programs look for a member."""


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving("petcd") as running:
        yield running


def run_program(text: str) -> str:
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", text],
        capture_output=True,
        text=True,
        timeout=60,
        env=clean_environment(),
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def run_command(command: str, server: Server) -> str:
    """A line of the README's terminal, against our member."""
    words = shlex.split(command)
    if words[0] == "curl":
        path = words[1].removeprefix("localhost:2379")
        return server.http("GET", path)[1].decode().rstrip("\n") + "\n"
    assert words[0] == ".venv/bin/etcdctl"
    result = subprocess.run(
        [*ETCDCTL, *words[1:]],
        capture_output=True,
        text=True,
        timeout=60,
        env=clean_environment({"ETCDCTL_ENDPOINTS": server.endpoint}),
        check=True,
    )
    return result.stdout


def test_the_minute_of_the_readme(server: Server) -> None:
    block, _ = blocks(ROOT / "README.md", "console")
    turns = re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", block, re.MULTILINE)
    assert len(turns) == block.count("$ ")
    for command, shown in turns:
        assert run_command(command, server) == shown, command


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


@pytest.mark.slow
def test_the_three_members_of_the_readme(tmp_path: Path) -> None:
    """Word for word in one shell, but for the ports, which somebody may have taken."""
    start = next(block for block in blocks(ROOT / "README.md", "sh") if "CLUSTER=" in block)
    _, block = blocks(ROOT / "README.md", "console")
    programs = tmp_path / ".venv" / "bin"
    programs.mkdir(parents=True)
    for name in ("etcd", "etcdctl"):
        text = f"import sys; from petcd.cli.{name} import main; sys.exit(main())"
        (programs / name).write_text(f"#!/bin/sh\nexec {sys.executable} -c '{text}' \"$@\"\n")
        (programs / name).chmod(0o755)
    commands = re.findall(r"^\$ (.*)$", block, re.MULTILINE)
    health = ".venv/bin/etcdctl --endpoints 127.0.0.1:12379,127.0.0.1:22379,127.0.0.1:32379 endpoint health"
    script = "\n".join(
        [
            "trap 'kill -9 $(jobs -p)' EXIT",
            start,
            f"until {health} >/dev/null 2>&1; do sleep 0.1; done",
            *(f"echo {shlex.quote('$ ' + command)}\n{command}" for command in commands),
        ]
    )
    ports = next(
        two
        for two in range(23, 30)
        if all(is_free(int(f"{n}{two}{end}")) for n in (1, 2, 3) for end in ("79", "80"))
    )
    moved = re.sub(r"23(79|80)\b", rf"{ports}\1", script)
    shown = re.sub(r"23(79|80)\b", rf"{ports}\1", block)
    result = subprocess.run(
        ["bash", "-c", moved],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        env=clean_environment(),
        check=False,
    )
    assert result.stdout == shown, result.stderr


def test_the_program_of_the_readme(server: Server) -> None:
    (program,) = blocks(ROOT / "README.md", "python")
    assert USUAL in program
    printed = run_program(program.replace(USUAL, server.endpoint))
    assert printed == "sold: True\nb'orders/17' b'new'\n"
    promised = "It prints " + " and ".join(f"`{line}`" for line in printed.splitlines())
    assert promised in (ROOT / "README.md").read_text()


@pytest.mark.slow
def test_the_programs_about_embedding(tmp_path: Path) -> None:
    page = ROOT / "docs" / "embedding.md"
    program, cluster, test = blocks(page, "python")
    assert run_program(program) == "b'hello'\n"
    printed = run_program(cluster).splitlines()
    assert printed[0] == "one of three is gone: b'hello'"
    *most, last = (f"`{line}`" for line in printed)
    assert f"It prints {', '.join(most)} and {last}.\n" in page.read_text()
    run_program(f"{test}\n\ntest_a_counter(Path({str(tmp_path)!r}))\n")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        linked = page.parent / name if name else page
        assert linked.exists(), f"{page.name} links to {target}"
        if anchor:
            headings = re.findall(r"^#+ (.*)$", linked.read_text(), re.MULTILINE)
            slugs = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
            assert anchor in slugs, f"{page.name} links to {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_that_are_named_exist(page: Path) -> None:
    for name in re.findall(r"`((?:src|tests|docs|examples|benchmarks)/[\w./-]*)`", page.read_text()):
        assert (ROOT / name).exists(), f"{page.name} names {name}"
