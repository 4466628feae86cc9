"""How the three programs end early: nobody reads any more, an interrupt, a decoder that fails them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.etcdutl.conftest import Source
from tests.etcdutl.sources import run
from tests.servers import clean_environment

PROGRAMS = {
    "etcdutl": ("dump-logs",),
    "etcdutl.dumplogs": (),
    "etcdutl.dumpdb": ("list-bucket",),
}


def start(
    program: str, source: Source, stdout: int, before: str = "pass"
) -> subprocess.CompletedProcess[bytes]:
    code = f"import sys; from petcd.cli.{program} import main; {before}; sys.exit(main())"
    return subprocess.run(
        [sys.executable, "-c", code, *PROGRAMS[program], str(source.whole.data_dir)],
        stdout=stdout,
        stderr=subprocess.PIPE,
        env=clean_environment({}),
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_closed_pipe(program: str, petcd_source: Source) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = start(program, petcd_source, writing)
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (-signal.SIGPIPE, b"")


@pytest.mark.parametrize("program", PROGRAMS)
def test_an_interrupt(program: str, petcd_source: Source) -> None:
    """While the files are being opened."""
    before = (
        "import os, signal; from petcd.seams.real import RealDisk; "
        "RealDisk.open = lambda *_, **__: os.kill(os.getpid(), signal.SIGINT)"
    )
    done = start(program, petcd_source, subprocess.DEVNULL, before)
    assert (done.returncode, done.stderr) == (-signal.SIGINT, b"")


def dump_logs(source: Source, decoder: str) -> subprocess.CompletedProcess[bytes]:
    return run("etcdutl.dumplogs", "-stream-decoder", decoder, str(source.whole.data_dir))


@pytest.mark.parametrize(
    ("decoder", "text"),
    [
        ('decode "it', 'decode "it: no closing quotation'),
        ("   ", "-stream-decoder names no program"),
        ("/nosuch/program", "/nosuch/program: no such file or directory"),
        ("true", "the decoder has ended"),
        ("head -c 1", "the decoder has ended"),
    ],
)
def test_a_decoder_that_cannot_be_used(decoder: str, text: str, petcd_source: Source) -> None:
    done = dump_logs(petcd_source, decoder)
    assert (done.returncode, done.stderr.decode()) == (1, f"Error: {text}\n")


def test_a_decoder_that_answers_some_bytes(petcd_source: Source, tmp_path: Path) -> None:
    """They are passed on as they are."""
    program = tmp_path / "decoder.py"
    program.write_text(
        "import sys\n"
        "for line in sys.stdin.buffer:\n"
        "    sys.stdout.buffer.write(b'OK|\\xff\\xc3\\xa4\\n')\n"
        "    sys.stdout.buffer.flush()\n"
    )
    done = dump_logs(petcd_source, f"{sys.executable} {program}")
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.count(b"\tOK\t\xff\xc3\xa4\n") > 100
