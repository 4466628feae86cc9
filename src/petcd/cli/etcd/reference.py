"""Writes docs/configuration.md from the flag table: ``python -m petcd.cli.etcd.reference``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from petcd.cli.etcd.checks import UNSUPPORTED
from petcd.cli.etcd.flags import FLAGS, GROUPS, Flag
from petcd.cli.etcd.kinds import IGNORED
from petcd.cli.etcd.usage import shown_default
from petcd.server.features import FEATURES

_HEAD: Final = """\
# Configuration of a member

<!-- Written by `python -m petcd.cli.etcd.reference`; change the flag table, not this page. -->

A member is configured by flags, by environment variables, or by one file.

- **Flags** are Go's: `-name x`, `--name x` and `--name=x` are the same; a boolean is set by its bare name and
  cleared with `--name=false`; of a repeated flag the last one counts; integers take `0x`, `0o` and `0b`;
  durations look like `100ms`, `1m30s`, `2h`. A mistake ends with exit code 2.
- **Environment**: every flag has a variable. Setting a variable *and* its flag is an error (exit code 1).
  An empty variable counts as unset. `ETCD_` variables that belong to no flag are warned of.
- **File**: `--config-file` or `ETCD_CONFIG_FILE`, YAML or JSON. When there is one, **all other flags and
  variables are ignored**. Keys are those of the tables below, dots meaning nesting; unknown keys are ignored.
  Durations are integers (nanoseconds), lists of URLs are one comma-separated text, `log-outputs`,
  `cipher-suites` and the allowed names are YAML lists.

What follows from what: `--name` without `--initial-cluster` founds a cluster of that one member; with
`--listen-client-urls` on the command line, `--advertise-client-urls` has to be given too; when a listen URL
is `0.0.0.0` and nothing is advertised, the address of the default route is.
"""
_UNSUPPORTED_HEAD: Final = """
## Not in this release

These parse, and a member that is asked for them refuses to start (exit code 1), rather than to run without:

"""
_EFFECTLESS: Final = """
Accepted without effect, with a warning where that matters: `backend-bbolt-freelist-type` and
`bootstrap-defrag-threshold-megabytes` (the backend has no freelist and reuses its pages), `v2-deprecation`
(always `write-only`).
"""


def page() -> str:
    out = [_HEAD]
    for group, flags in GROUPS.items():
        out.append(f"\n## {group}\n\n{_table(flags)}")
    out.append(_gates())
    out.append(_UNSUPPORTED_HEAD + "".join(f"- {what}\n" for what in UNSUPPORTED))
    out.append(_EFFECTLESS)
    out.append(_older())
    return "".join(out)


def _table(flags: Iterable[Flag]) -> str:
    lines = ["| flag | variable | key in a file | type | default | meaning |", "|---|---|---|---|---|---|"]
    lines.extend(
        f"| `{flag.name}` | `{flag.environment}` | {_code(flag.key)} | {_escape(flag.kind.label)} "
        f"| {_code(shown_default(flag))} | {_escape(flag.help)} |"
        for flag in flags
    )
    return "\n".join(lines) + "\n"


def _code(text: str) -> str:
    return f"`{text}`" if text else "-"


def _escape(text: str) -> str:
    return text.replace("|", "\\|").replace("*", "\\*")


def _gates() -> str:
    lines = ["\n## Feature gates\n", "| gate | stage | default |", "|---|---|---|"]
    for name, (stage, on) in FEATURES.items():
        lines.append(f"| `{name}` | {stage.lower()} | {'true' if on else 'false'} |")
    lines.append("\n`AllAlpha` and `AllBeta` set all gates of a stage; a gate's own setting wins.")
    return "\n".join(lines) + "\n"


def _older() -> str:
    lines = [
        "\n## Names of older releases\n",
        "etcd 3.7 refuses these; petcd takes them, with a warning, so that older settings still work.",
        "Giving an old name and its new one together is an error.\n",
        "| flag | now |",
        "|---|---|",
    ]
    for flag in FLAGS.values():
        if flag.group != "older":
            continue
        if flag.replaced_by:
            now = f"`{flag.replaced_by}`"
        elif flag.gate:
            now = f"gate `{flag.gate}`"
        else:
            now = _escape(flag.help)
        lines.append(f"| `{flag.name}` | {now} |")
    ignored = ", ".join(f"`{flag.name}`" for flag in FLAGS.values() if flag.kind is IGNORED)
    lines.append(f"\nAccepted and ignored, as etcd does: {ignored}.")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(page(), end="")
