"""Help, version, the documentation page, and what starting the command costs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tests.cli_etcd.support import GO, needs_go

from petcd import ETCD_VERSION, __version__
from petcd.cli.etcd.command import run
from petcd.cli.etcd.flags import FLAGS, GROUPS
from petcd.cli.etcd.reference import page
from petcd.cli.etcd.usage import USAGE

DOCS = Path(__file__).parents[2] / "docs" / "configuration.md"


def test_version_has_the_four_lines_that_scripts_parse(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"], {}) == 0
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert lines[0] == f"etcd Version: {ETCD_VERSION}"
    assert lines[1] == f"Git SHA: petcd-{__version__}"
    assert lines[2].startswith("Go Version: none (")
    assert lines[3].startswith("Go OS/Arch: linux/")
    assert lines[4:] == [f"petcd Version: {__version__}"]
    assert err == ""


def test_help_puts_usage_on_stderr_and_the_flags_on_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--help"], {}) == 0
    out, err = capsys.readouterr()
    assert err == USAGE
    assert out.startswith(
        "\nMember:\n  --name 'default'\n"
        "    Name of this member; it must match its entry in the initial cluster.\n"
        "  --data-dir '${name}.etcd'\n"
    )
    for group, flags in GROUPS.items():
        assert f"\n{group}:\n" in out
        for flag in flags:
            assert f"  --{flag.name} '" in out
    assert "\n  --max-concurrent-streams '4294967295'\n" in out
    assert "\n  --grpc-keepalive-interval '2h0m0s'\n" in out
    assert "--experimental-" not in out


def test_a_mistake_shows_the_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--foo"], {}) == 2
    out, err = capsys.readouterr()
    assert err == f"flag provided but not defined: -foo\n{USAGE}"
    assert out == ""


@pytest.mark.parametrize("command", ["gateway", "grpc-proxy"])
def test_proxies_are_refused_clearly(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([command, "start"], {}) == 1
    assert capsys.readouterr().err == f"Error: etcd {command} is not supported by this release of petcd\n"


@pytest.mark.parametrize(
    ("arguments", "variables", "code", "messages"),
    [
        (["extra"], {}, 1, ["Running: ", "failed to verify flags"]),
        (
            ["--name=a", "--listen-client-urls=http://127.0.0.1:1"],
            {},
            1,
            [
                "Running http and grpc server on single port. This is not recommended for production.",
                "Running: ",
                "failed to verify flags",
                "advertise client URLs are not set",
            ],
        ),
        (
            ["--name=a"],
            {"ETCD_NAME": "b"},
            1,
            [
                (
                    "conflicting environment variable is shadowed by corresponding command-line flag "
                    "(either unset environment variable or disable flag))"
                )
            ],
        ),
        (
            [],
            {"ETCD_SNAPSHOT_COUNT": "abc", "ETCD_NAME": "a", "ETCD_X": "1", "ETCD_VERSION": "3"},
            1,
            [
                "cannot set special environment variable",
                "recognized and used environment variable",
                "unrecognized environment variable",
                "Running: ",
                "failed to verify flags",
            ],
        ),
    ],
)
def test_refusals_are_logged(
    arguments: list[str],
    variables: dict[str, str],
    code: int,
    messages: list[str],
    capfd: pytest.CaptureFixture[str],
) -> None:
    assert run(arguments, variables) == code
    records = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    assert [record["msg"] for record in records] == messages


def test_a_bad_level_panics(capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["--log-level=loud"], {}) == 2
    assert capfd.readouterr().err == 'panic: unrecognized level: "loud"\n'


def test_urls_of_a_file_are_refused_on_stderr_as_they_are(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "c.yml").write_text("listen-peer-urls: foo\n")
    assert run(["--config-file=c.yml"], {}) == 1
    assert capfd.readouterr().err.splitlines()[-1] == (
        "unexpected error setting up listen-peer-urls: URL scheme must be http, https, unix, or unixs: foo"
    )


def test_the_documentation_is_fresh() -> None:
    assert DOCS.read_text() == page(), "run: python -m petcd.cli.etcd.reference > docs/configuration.md"


def test_every_flag_is_documented() -> None:
    text = page()
    for name in FLAGS:
        if name != "version":
            assert f"`{name}`" in text, name


@pytest.mark.parametrize("argument", ["--version", "--help", "--foo"])
def test_nothing_heavy_is_imported_for_a_short_answer(argument: str) -> None:
    code = (
        "import sys\n"
        "from petcd.cli.etcd import main\n"
        f"sys.argv = ['etcd', {argument!r}]\n"
        "main()\n"
        "heavy = {'asyncio', 'uvloop', 'lmdb', 'yaml', 'ssl', 'logging', 'argparse', 'dataclasses', 'json'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


class TestBesideGo:
    pytestmark = needs_go

    def test_every_flag_of_go_s_help_is_known(self) -> None:
        assert GO is not None
        text = subprocess.run([GO, "--help"], capture_output=True, text=True, check=True).stdout
        names = [line.split()[0][2:] for line in text.splitlines() if line.startswith("  --")]
        assert len(names) >= 80
        assert [name for name in names if name not in FLAGS] == []
