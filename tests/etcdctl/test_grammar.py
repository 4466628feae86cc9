"""pflag's and cobra's rules (contract cli section 2.4)."""

from __future__ import annotations

import pytest

from petcd.cli.etcdctl import commands, main
from petcd.cli.etcdctl.commands import find
from petcd.cli.etcdctl.grammar import (
    FlagError,
    FlagSet,
    HelpRequested,
    boolean,
    duration,
    integer,
    string,
    strings,
    usages,
)
from petcd.cli.etcdctl.tree import ROOT


def flags() -> FlagSet:
    return FlagSet(
        [
            string("write-out", "format", "w", default="simple"),
            integer("limit", "most"),
            boolean("prefix", "by prefix"),
            boolean("interactive", "ask", "i"),
            strings("endpoints", "where", default=("127.0.0.1:2379",)),
            duration("dial-timeout", "patience", default=2_000_000_000),
        ]
    )


@pytest.mark.parametrize(
    ("line", "positional", "dash", "values"),
    [
        ("a b", ["a", "b"], -1, {}),
        ("a --limit 3 b", ["a", "b"], -1, {"limit": 3}),
        ("--limit=3 a", ["a"], -1, {"limit": 3}),
        ("a -w json", ["a"], -1, {"write-out": "json"}),
        ("a -wjson", ["a"], -1, {"write-out": "json"}),
        ("a -w=json", ["a"], -1, {"write-out": "json"}),
        ("a -iwjson", ["a"], -1, {"interactive": True, "write-out": "json"}),
        ("--prefix true", ["true"], -1, {"prefix": True}),
        ("--prefix=false a", ["a"], -1, {"prefix": False}),
        ("a -- --limit 3", ["a", "--limit", "3"], 1, {}),
        ("-- -k", ["-k"], 0, {}),
        ("a --", ["a"], 1, {}),
        ("- a", ["-", "a"], -1, {}),
        ("--limit -5", [], -1, {"limit": -5}),
        ("--endpoints a,b --endpoints c", [], -1, {"endpoints": ["a", "b", "c"]}),
        ("--dial-timeout 1.5s", [], -1, {"dial-timeout": 1_500_000_000}),
    ],
)
def test_parse(line: str, positional: list[str], dash: int, values: dict[str, object]) -> None:
    given = flags()
    assert given.parse(line.split()) == (positional, dash)
    for name, value in values.items():
        assert given[name] == value
    assert given.changed == set(values)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--x", "unknown flag: --x"),
        ("--x=1", "unknown flag: --x"),
        ("-v", "unknown shorthand flag: 'v' in -v"),
        ("-iv", "unknown shorthand flag: 'v' in -v"),
        ("-5", "unknown shorthand flag: '5' in -5"),
        ("--limit", "flag needs an argument: --limit"),
        ("-w", "flag needs an argument: 'w' in -w"),
        ("---x", "bad flag syntax: ---x"),
        ("--=x", "bad flag syntax: --=x"),
        (
            "--limit x",
            'invalid argument "x" for "--limit" flag: strconv.ParseInt: parsing "x": invalid syntax',
        ),
        (
            "--prefix=x",
            'invalid argument "x" for "--prefix" flag: strconv.ParseBool: parsing "x": invalid syntax',
        ),
        (
            "-i=x",
            (
                'invalid argument "x" for "-i, --interactive" flag: '
                'strconv.ParseBool: parsing "x": invalid syntax'
            ),
        ),
    ],
)
def test_refusals(line: str, message: str) -> None:
    with pytest.raises(FlagError) as caught:
        flags().parse(line.split())
    assert str(caught.value) == message


@pytest.mark.parametrize("line", ["--help", "-h", "-ih"])
def test_help_is_asked_for(line: str) -> None:
    with pytest.raises(HelpRequested):
        flags().parse(line.split())


@pytest.mark.parametrize(
    ("line", "path", "rest"),
    [
        ("get k", "etcdctl get", ["k"]),
        ("-w json get k", "etcdctl get", ["-w", "json", "k"]),
        ("--hex get k", "etcdctl get", ["--hex", "k"]),
        ("compact 5", "etcdctl compaction", ["5"]),
        ("endp --cluster health", "etcdctl endpoint health", ["--cluster"]),
        ("member li", "etcdctl member list", []),
        ("lease nosuch", "etcdctl lease", ["nosuch"]),
        ("nosuch", "etcdctl", ["nosuch"]),
        ("l", "etcdctl", ["l"]),
        ("get get", "etcdctl get", ["get"]),
    ],
)
def test_find(line: str, path: str, rest: list[str]) -> None:
    command, arguments, _ = find(ROOT, line.split())
    assert (command.path, arguments) == (path, rest)


def run(capfdbinary: pytest.CaptureFixture[bytes], *line: str) -> tuple[bytes, bytes, int]:
    status = main(list(line))
    out = capfdbinary.readouterr()
    return out.out, out.err, status


def test_unknown_command(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    out, err, status = run(capfdbinary, "gett")
    assert (out, status) == (b"", 1)
    assert err == (
        b'Error: unknown command "gett" for "etcdctl"\n\nDid you mean this?\n\tget\n\n'
        b"Run 'etcdctl --help' for usage.\n"
    )


def test_a_flag_error_prints_usage_on_stderr(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    out, err, status = run(capfdbinary, "get", "a", "--nosuch")
    assert (out, status) == (b"", 1)
    assert err.startswith(b"Error: unknown flag: --nosuch\nUsage:\n  etcdctl get [options] <key>")
    assert err.endswith(b"\n\n")


def test_every_command_has_help(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    def visit(command: commands.Command, words: list[str]) -> None:
        out, err, status = run(capfdbinary, *words, "--help")
        assert (err, status) == (b"", 0)
        assert b"Usage:\n  " + command.path.encode() in out
        assert out.endswith(
            b'Use "etcdctl options" for a list of global command-line options (applies to all commands).\n'
        )
        for child in command.children:
            visit(child, [*words, child.name])

    visit(ROOT, [])


def test_root_help(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    out, _, status = run(capfdbinary)
    assert status == 0
    assert out == run(capfdbinary, "help")[0] == run(capfdbinary, "--help")[0]
    titles = [line for line in out.decode().splitlines() if line.endswith("commands:")]
    assert titles[:2] == ["Key-value commands:", "Cluster maintenance commands:"]


def test_group_without_subcommand_prints_help(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    assert run(capfdbinary, "lease") == run(capfdbinary, "lease", "nosuch")
    assert run(capfdbinary, "help", "lease") == run(capfdbinary, "lease", "--help")


def test_usages_are_aligned() -> None:
    assert usages(flags().flags.values()) == (
        "      --dial-timeout duration   patience (default 2s)\n"
        "      --endpoints strings       where (default [127.0.0.1:2379])\n"
        "  -i, --interactive             ask\n"
        "      --limit int               most\n"
        "      --prefix                  by prefix\n"
        '  -w, --write-out string        format (default "simple")\n'
    )


def test_api_version(monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    for version, status in (("2", 0), ("3", 0), ("7", 1)):
        monkeypatch.setenv("ETCDCTL_API", version)
        out, err, got = run(capfdbinary, "version")
        assert got == status
        assert err == (b"unsupported API version 7\n" if status else b"")
        assert out == (b"" if status else b"etcdctl version: 3.7.1\nAPI version: 3.7\n")


def test_conflicting_environment(
    monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    monkeypatch.setenv("ETCDCTL_ENDPOINTS", "")
    out, err, status = run(capfdbinary, "get", "a", "--endpoints", "127.0.0.1:1")
    assert (out, status) == (b"", 1)
    assert b'"level":"fatal"' in err
    assert b'"environment-variable":"ETCDCTL_ENDPOINTS"' in err
    assert b"Error" not in err
