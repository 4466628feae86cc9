"""What the operator is told: help, refusals, exit statuses, and never a traceback."""

from __future__ import annotations

import subprocess

import pytest
from tests.benchmark.tool import COMMAND, Run
from tests.servers import Server, free_port

from petcd.cli.benchmark.process import COMMANDS, execute

NAMES = [
    "put",
    "range",
    "txn-put",
    "txn-mixed",
    "watch",
    "watch-latency",
    "watch-get",
    "lease-keepalive",
    "stm",
]


def run(capfd: pytest.CaptureFixture[str], *line: str) -> tuple[int, str, str]:
    """In this process: for what is decided before anything is connected."""
    status = execute(line)
    out, err = capfd.readouterr()
    return status, out, err


@pytest.mark.parametrize("line", [[], ["--help"], ["-h"], ["help"], ["--conns", "3"]])
def test_without_a_command_there_is_help(capfd: pytest.CaptureFixture[str], line: list[str]) -> None:
    status, out, err = run(capfd, *line)
    assert (status, err) == (0, "")
    assert out.startswith("benchmark measures")
    for name in NAMES:
        assert f"\n  {name} " in out


@pytest.mark.parametrize("name", NAMES)
def test_every_command_has_help(capfd: pytest.CaptureFixture[str], name: str) -> None:
    status, out, err = run(capfd, name, "--help")
    assert (status, err) == (0, "")
    assert f"Usage:\n  benchmark {name}" in out
    assert "Global Flags:\n" in out
    assert run(capfd, "help", name) == (0, out, "")
    assert run(capfd, "--clients", "2", name, "-h") == (0, out, "")


def test_every_command_is_known() -> None:
    assert [command.name for command in COMMANDS] == NAMES


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("putt", 'unknown command "putt" for "benchmark"'),
        ("help putt", 'unknown command "putt" for "benchmark"'),
        ("put foo", 'unexpected argument "foo"'),
        ("range a b c", 'unexpected argument "c"'),
        ("put --bogus", "unknown flag: --bogus"),
        ("--bogus", "unknown flag: --bogus"),
        ("put --total", "flag needs an argument: --total"),
        (
            "put --total many",
            'invalid argument "many" for "--total" flag: strconv.ParseInt: parsing "many": invalid syntax',
        ),
        (
            "txn-mixed --rw-ratio x",
            'invalid argument "x" for "--rw-ratio" flag: strconv.ParseFloat: parsing "x": invalid syntax',
        ),
        (
            "--clients=-1 put",
            'invalid argument "-1" for "--clients" flag: strconv.ParseUint: parsing "-1": invalid syntax',
        ),
        ("range", "range needs a key, or --prefix"),
    ],
)
def test_lines_that_are_no_command(capfd: pytest.CaptureFixture[str], line: str, error: str) -> None:
    status, out, err = run(capfd, *line.split())
    assert (status, out) == (255, "")
    assert err.startswith(f"Error: {error}\n")
    assert "sage" in err


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("--conns=0 put", "expected positive --conns, got (0)"),
        ("--clients=0 put", "expected positive --clients, got (0)"),
        ("put --total=-5", "expected --total not below 0, got (-5)"),
        ("put --rate=-5", "expected --rate not below 0, got (-5)"),
        ("put --key-space-size=0", "expected positive --key-space-size, got (0)"),
        ("put --key-size=0", "--key-size 0 is too small for --key-space-size 1: it takes 1 bytes"),
        ("watch --streams=0", "expected positive --streams, got (0)"),
        ("range k --consistency=x", "expected --consistency l or s, got (x)"),
        (
            "range k --count-only --keys-only",
            "`--keys-only` and `--count-only` cannot be set at the same time",
        ),
        ("range k --paginate --limit=5", "--paginate and --limit are mutually exclusive"),
        ("range k --paginate --stream", "--paginate and --stream are mutually exclusive"),
        ("range k l --prefix", "--prefix and an end-range are mutually exclusive"),
        (
            "txn-put --txn-ops=3 --key-space-size=2",
            "expected --txn-ops no larger than --key-space-size, got txn-ops(3) key-space-size(2)",
        ),
        ("txn-mixed --rw-ratio=-1", "expected --rw-ratio not below 0, got (-1)"),
        ("txn-mixed --rw-ratio=nan", "expected --rw-ratio not below 0, got (nan)"),
        ("txn-mixed a b --end-key=c", "--end-key and an end-range are mutually exclusive"),
        ("stm --keys=0", "expected positive --keys, got (0)"),
        ("stm --keys=2 --keys-per-txn=3", "expected --keys-per-txn between 0 and 2, got (3)"),
        ("stm --txn-wr-percent=101", "expected [0, 100] --txn-wr-percent, got (101)"),
        ("stm --isolation=x", "expected --isolation c, r, s or ss, got (x)"),
        ("stm --stm-locker=x", 'unexpected stm locker "x"'),
        ("put --endpoints=nowhere", "endpoint 'nowhere' has no port"),
        ("put --endpoints=", "no endpoints"),
        ("put --cacert=/nonexistent", "bad tls config: /nonexistent: no such file or directory"),
        ("put --cert=/nonexistent", "bad tls config: --cert and --key must both be given"),
    ],
)
def test_values_that_cannot_be_meant(capfd: pytest.CaptureFixture[str], line: str, error: str) -> None:
    assert run(capfd, *line.split()) == (1, "", f"Error: {error}\n")


def test_nobody_answers() -> None:
    port = free_port()
    done = Run("put", endpoint=f"127.0.0.1:{port}")
    assert (done.status, done.out) == (1, "")
    assert done.err.startswith(f"Error: cannot connect to 127.0.0.1:{port}: connection error: ")
    assert "onnection refused" in done.err
    assert done.err.count("\n") == 1


def test_a_host_that_cannot_be_a_name() -> None:
    done = Run("put", endpoint="a..b:2379")
    assert (done.status, done.out) == (1, "")
    assert done.err.startswith("Error: cannot connect to a..b:2379: ")
    assert done.err.count("\n") == 1


def test_a_server_that_speaks_something_else(petcd: Server) -> None:
    done = Run("put", endpoint=f"https://{petcd.endpoint}")
    assert (done.status, done.out) == (1, "")
    assert done.err.startswith(f"Error: cannot connect to https://{petcd.endpoint}: ")


def test_an_endpoint_of_several_that_does_not_answer_is_told(petcd: Server) -> None:
    port = free_port()
    done = Run("--conns=3", "put", "--total=50", endpoint=f"127.0.0.1:{port},{petcd.endpoint}")
    assert done.status == 0
    assert done.counted() == [50]
    assert done.err.startswith(f"warning: 127.0.0.1:{port}: ")
    assert done.err.count("\n") == 1


def test_a_report_nobody_reads(petcd: Server) -> None:
    with subprocess.Popen(
        [*COMMAND, f"--endpoints={petcd.endpoint}", "range", "k", "--total=10"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.wait(20) == 141
        assert process.stderr.read() == b""


def test_a_report_there_is_no_room_for(petcd: Server) -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [*COMMAND, f"--endpoints={petcd.endpoint}", "range", "k", "--total=10"],
            stdout=full,
            stderr=subprocess.PIPE,
            timeout=20,
            check=False,
        )
    assert (done.returncode, done.stderr) == (1, b"Error: [Errno 28] No space left on device\n")


def test_more_connections_than_the_process_may_have(petcd: Server) -> None:
    done = subprocess.run(
        ["prlimit", "--nofile=40", *COMMAND, f"--endpoints={petcd.endpoint}", "--conns=60", "put"],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("Error: ")
    assert "Too many open files" in done.stderr
    assert "Traceback" not in done.stderr
