"""The command line and the environment, beside Go's own flag package."""

from __future__ import annotations

import pytest
from tests.cli_etcd.support import go_complaint, needs_go

from petcd.cli.etcd.flags import FLAGS
from petcd.cli.etcd.grammar import HelpAsked, UsageError, apply_environment, parse_arguments
from petcd.server.config import ConfigError

ACCEPTED = [
    (["-name", "x"], "name", "x"),
    (["--name", "x"], "name", "x"),
    (["--name=x"], "name", "x"),
    (["-name=x"], "name", "x"),
    (["--name="], "name", ""),
    (["--name", "-x"], "name", "-x"),
    (["--name=a", "--name=b"], "name", "b"),
    (["--pre-vote"], "pre-vote", True),
    (["--pre-vote=F"], "pre-vote", False),
    (["--snapshot-count", "0x10"], "snapshot-count", 16),
    (["--quota-backend-bytes=-1"], "quota-backend-bytes", -1),
    (["--quota-backend-bytes=1_0"], "quota-backend-bytes", 10),
    (["--grpc-keepalive-min-time=1m.5s"], "grpc-keepalive-min-time", 60.5),
    (["--log-outputs=stdout,a.log"], "log-outputs", ("stdout", "a.log")),
    (["--host-whitelist=b,a,b"], "host-whitelist", ("a", "b")),
    (["--cors=http://b:1,http://a:1"], "cors", ("http://a:1", "http://b:1")),
]

# Also asked of Go etcd 3.4.23.
REFUSED = [
    ["--foo"],
    ["-foo=1"],
    ["--name"],
    ["--snapshot-count", "abc"],
    ["--snapshot-count=-1"],
    ["--snapshot-count=+5"],
    ["--snapshot-count="],
    ["--snapshot-count=99999999999999999999"],
    ["--max-snapshots", "-3"],
    ["--quota-backend-bytes=1.5"],
    ["--quota-backend-bytes=99999999999999999999"],
    ["--quota-backend-bytes=010_"],
    ["--max-concurrent-streams=abc"],
    ["--max-concurrent-streams=99999999999"],
    ["--pre-vote=maybe"],
    ["--grpc-keepalive-min-time", "5"],
    ["--grpc-keepalive-min-time", "9999999h"],
    ["---name", "x"],
    ["--=x"],
    ["-=x"],
    ["--initial-cluster-state", "foo"],
    ["--discovery-fallback=xx"],
    ["--proxy=foo"],
    ["--listen-peer-urls", "foo"],
    ["--listen-peer-urls", "http://a"],
    ["--listen-peer-urls", "http://1.2.3.4:80/path"],
    ["--listen-peer-urls", "127.0.0.1:99"],
    ["--listen-peer-urls", "http://a b:1"],
    ["--listen-peer-urls", ":foo"],
    ["--listen-peer-urls", "http://[::1"],
    ["--listen-peer-urls", "http://[::1]:x"],
    ["--listen-peer-urls", "http://a:1:2"],
    ["--listen-peer-urls", "http://1.2\x01:5"],
    ["--listen-peer-urls", "http://%41:5"],
    ["--listen-peer-urls", "http://%zz:5"],
    ["--listen-peer-urls", "http://1.2.3.4:1,"],
    ["--listen-client-urls", "ftp://1.2.3.4:1"],
    ["--cors", "foo"],
    ["--cors", "http://a/b"],
]

TEXTS = {
    "--foo": "flag provided but not defined: -foo",
    "--name": "flag needs an argument: -name",
    "--pre-vote=maybe": 'invalid boolean value "maybe" for -pre-vote: parse error',
    "--snapshot-count abc": 'invalid value "abc" for flag -snapshot-count: parse error',
    "---name x": "bad flag syntax: ---name",
    "--cors foo": 'invalid value "foo" for flag -cors: URL scheme must be http, https, unix, or unixs: foo',
}


@pytest.mark.parametrize(("arguments", "name", "value"), ACCEPTED)
def test_accepts(arguments: list[str], name: str, value: object) -> None:
    given = parse_arguments(arguments)
    assert given.values[name] == value
    assert name in given.names


def complaint(arguments: list[str]) -> str:
    with pytest.raises(UsageError) as caught:
        parse_arguments(arguments)
    return str(caught.value)


@pytest.mark.parametrize(("line", "text"), TEXTS.items())
def test_refuses_with_these_texts(line: str, text: str) -> None:
    assert complaint(line.split()) == text


@pytest.mark.parametrize("arguments", REFUSED, ids=" ".join)
def test_refuses(arguments: list[str]) -> None:
    assert complaint(arguments)


class TestBesideGo:
    pytestmark = needs_go

    @pytest.mark.parametrize("arguments", REFUSED, ids=" ".join)
    def test_refuses_in_the_same_words(self, arguments: list[str]) -> None:
        assert (complaint(arguments), 2) == go_complaint(arguments)

    @pytest.mark.parametrize(
        "arguments",
        [["extra"], ["--", "--name"], ["-"], ["--name", "a", "b", "--foo"]],
        ids=" ".join,
    )
    def test_a_leftover_argument_ends_parsing(self, arguments: list[str]) -> None:
        rest = parse_arguments(arguments).rest
        text, code = go_complaint(arguments)
        assert (f"'{rest[0]}' is not a valid flag", 1) == (text, code)


@pytest.mark.parametrize("argument", ["-h", "--help", "-help", "--h", "-h=true"])
def test_help_is_asked_for(argument: str) -> None:
    with pytest.raises(HelpAsked):
        parse_arguments([argument, "--foo"])


def test_ignored_flags_take_no_separate_argument() -> None:
    given = parse_arguments(["--force", "--vv=zzz", "--snapshot", "rest"])
    assert given.values == {}
    assert given.rest == ["rest"]


def test_an_empty_list_of_urls_keeps_the_default() -> None:
    given = parse_arguments(["--listen-peer-urls", ""])
    assert given.names == {"listen-peer-urls"}
    assert given.values == {}


def test_the_environment_sets_what_the_command_line_did_not() -> None:
    given = parse_arguments(["--name", "x"])
    told = apply_environment(
        given, {"ETCD_DATA_DIR": "/d", "ETCD_SNAPSHOT_COUNT": "5", "ETCD_WAL_DIR": "", "HOME": "/"}
    )
    assert given.values == {"name": "x", "data-dir": "/d", "snapshot-count": 5}
    assert told.used == [("ETCD_DATA_DIR", "/d"), ("ETCD_SNAPSHOT_COUNT", "5")]
    assert not told.shadowed
    assert told.error is None


def test_a_variable_beside_its_flag_is_shadowed() -> None:
    told = apply_environment(parse_arguments(["--name", "x"]), {"ETCD_NAME": "y"})
    assert told.shadowed == "ETCD_NAME"


def test_unknown_variables_are_told_and_special_ones_are_not() -> None:
    told = apply_environment(
        parse_arguments([]),
        {"ETCD_FOO": "1", "ETCD_VERSION": "3", "ETCD_UNSUPPORTED_ARCH": "arm", "ETCDCTL_API": "3"},
    )
    assert told.unrecognized == ["ETCD_FOO=1"]
    assert told.version == "3"


def test_a_bad_variable_is_an_error_after_all_were_read() -> None:
    given = parse_arguments([])
    told = apply_environment(given, {"ETCD_NAME": "x", "ETCD_SNAPSHOT_COUNT": "abc", "ETCD_FOO": "1"})
    assert isinstance(told.error, ConfigError)
    assert str(told.error) == 'invalid value "abc" for ETCD_SNAPSHOT_COUNT: parse error'
    assert told.unrecognized == ["ETCD_FOO=1"]


class TestEnvironmentBesideGo:
    pytestmark = needs_go

    @pytest.mark.parametrize(
        "variables",
        [{"ETCD_SNAPSHOT_COUNT": "abc"}, {"ETCD_PRE_VOTE": "maybe"}, {"ETCD_LISTEN_PEER_URLS": "foo"}],
        ids=str,
    )
    def test_refuses_in_the_same_words(self, variables: dict[str, str]) -> None:
        told = apply_environment(parse_arguments([]), variables)
        assert (str(told.error), 1) == go_complaint([], variables)


def test_every_flag_has_a_place_in_the_configuration() -> None:
    for flag in FLAGS.values():
        if flag.field:
            flag.default()  # raises AttributeError for a field that is not there
        if flag.zero is not None:
            assert flag.zero == flag.default(), flag.name


def test_the_shown_defaults_parse_to_the_defaults() -> None:
    from petcd.cli.etcd.usage import shown_default

    for flag in FLAGS.values():
        if flag.field and flag.shown is None and shown_default(flag):
            assert flag.kind.parse(shown_default(flag)) == flag.default(), flag.name
