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
    "distributed_lock.py": """\
one after the other: ['done', 'done', 'done']
the next holder's token is larger: True
written by the stalled one: False by the holder: True
""",
    "leader_election.py": """\
leader: one
leader: two
leader: three
two knows that it leads no longer: True
leader: three, at another address
nobody leads: True
""",
    "distributed_queue.py": """\
cannot do job 0
done: job 0, job 1, job 2, job 3, job 4
left: 0
first: put out the fire
then: sweep the floor
""",
    "barrier.py": """\
the migration is done
a worker starts
a worker starts
phase 1: a, b, c
phase 2: a, b, c
""",
    "service_discovery.py": """\
one is there: ['10.0.0.1:80']
  10.0.0.1:80 in zone a
  10.0.0.2:80 in zone b
the second has left: ['10.0.0.1:80']
registered again: ['10.0.0.1:80']
nobody is there
""",
    "publish_subscribe.py": """\
a: one, two
b: one, two
a, back again: three, four
""",
    "hot_reload.py": """\
Settings(greeting='hello', debug=False, hosts=[], limits=Limits(requests=100, burst=1.5))
Limits(requests=250, burst=1.5) ['a:80', 'b:80']
300 True None
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
