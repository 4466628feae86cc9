"""Every program in examples/ runs and prints what its reader is told it prints."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.servers import Server, clean_environment, serving

EXAMPLES = Path(__file__).resolve().parent.parent.parent / "examples"

OUTPUT = {
    "cluster_in_one_process.py": """\
written through m1, read through m3: b'green'
the leader is gone, somebody else leads: True
written without it: b'blue'
back again, it knows: b'blue'
""",
    "put_get_watch.py": """\
transaction succeeded: True
greetings/de = hallo (version 1)
greetings/en = good morning (version 2)
PUT greetings/en: nothing -> hello
PUT greetings/de: nothing -> hallo
PUT greetings/en: hello -> good morning
DELETE greetings/de: hallo -> nothing
""",
    "lease_keepalive.py": """\
announced: b'10.0.0.7:8080'
still there: b'10.0.0.7:8080'
granted seconds: 2 keys: (b'services/web/1',)
after leaving: None
""",
    "embedded_member.py": """\
seen: green
seen: blue
after a restart: blue, version 2
""",
}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving("petcd") as running:
        yield running


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(OUTPUT))
def test_it_prints_what_it_promises(name: str, server: Server) -> None:
    command = [sys.executable, "-W", "error", str(EXAMPLES / name)]
    if "argv" in (EXAMPLES / name).read_text():
        command.append(server.endpoint)
    result = subprocess.run(
        command, capture_output=True, text=True, timeout=60, env=clean_environment(), check=False
    )
    assert (result.returncode, result.stdout) == (0, OUTPUT[name]), result.stderr
    assert result.stderr == ""


def test_none_is_left_out() -> None:
    assert {path.name for path in EXAMPLES.glob("*.py")} == set(OUTPUT)
