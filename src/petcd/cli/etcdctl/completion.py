"""completion: scripts that complete command words and flags (contract cli section 3.21)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from petcd.cli.etcdctl.commands import ERROR, Command, Exit, Leaf, write
from petcd.cli.etcdctl.golang import quote, raw

if TYPE_CHECKING:
    from petcd.cli.etcdctl.context import Context

SHELLS: Final = ("bash", "zsh", "fish", "powershell")


def _words(root: Command) -> list[tuple[str, list[str]]]:
    """Each command path (without the root's name) and what may follow it."""
    out: list[tuple[str, list[str]]] = []

    def visit(command: Command) -> None:
        leaf = command.leaf() if command.module else None
        following = [child.name for child in command.children]
        flags = [*(leaf.flags if leaf else ()), *command.inherited()]
        following += sorted({f"--{flag.name}" for flag in flags} | {"--help"})
        out.append((command.path.partition(" ")[2], following))
        for child in command.children:
            visit(child)

    visit(root)
    return out


def _bash(name: str, table: list[tuple[str, list[str]]]) -> str:
    cases = "".join(f'    "{path}") words="{" ".join(words)}" ;;\n' for path, words in table)
    return f"""# bash completion for {name}
_{name}() {{
  local path="" word words=""
  for word in "${{COMP_WORDS[@]:1:COMP_CWORD-1}}"; do
    case "$word" in -*) ;; *) path="${{path:+$path }}$word" ;; esac
  done
  while :; do
    case "$path" in
{cases}    esac
    [[ -n "$words" || -z "$path" ]] && break
    [[ "$path" == *" "* ]] && path="${{path% *}}" || path=""
  done
  COMPREPLY=($(compgen -W "$words" -- "${{COMP_WORDS[COMP_CWORD]}}"))
}}
complete -o default -F _{name} {name}
"""


def _zsh(name: str, table: list[tuple[str, list[str]]]) -> str:
    return f"#compdef {name}\nautoload -U +X bashcompinit && bashcompinit\n" + _bash(name, table)


def _fish(name: str, table: list[tuple[str, list[str]]]) -> str:
    out = [f"# fish completion for {name}\n"]
    for path, words in table:
        seen = path.split()
        condition = (
            " ; and ".join(f"__fish_seen_subcommand_from {word}" for word in seen) or "__fish_use_subcommand"
        )
        flags = [word[2:] for word in words if word.startswith("--")]
        names = [word for word in words if not word.startswith("-")]
        if names:
            out.append(f"complete -c {name} -n '{condition}' -f -a '{' '.join(names)}'\n")
        out.extend(f"complete -c {name} -n '{condition}' -l {flag}\n" for flag in flags)
    return "".join(out)


def _powershell(name: str, table: list[tuple[str, list[str]]]) -> str:
    rows = "".join(f"    '{path}' = @({', '.join(repr(word) for word in words)})\n" for path, words in table)
    return f"""# powershell completion for {name}
Register-ArgumentCompleter -Native -CommandName '{name}' -ScriptBlock {{
  param($wordToComplete, $commandAst, $cursorPosition)
  $table = @{{
{rows}  }}
  $path = @($commandAst.CommandElements | Select-Object -Skip 1 | ForEach-Object {{ "$_" }} |
    Where-Object {{ $_ -notlike '-*' -and $_ -ne $wordToComplete }}) -join ' '
  $table[$path] | Where-Object {{ $_ -like "$wordToComplete*" }}
}}
"""


def _completion(context: Context) -> None:
    arguments = context.arguments
    if len(arguments) != 1:
        raise Exit(ERROR, f"accepts 1 arg(s), received {len(arguments)}")
    root = context.command
    while root.parent is not None:
        root = root.parent
    if arguments[0] not in SHELLS:
        raise Exit(ERROR, f'invalid argument {quote(raw(arguments[0]))} for "{root.name} completion"')
    script = {"bash": _bash, "zsh": _zsh, "fish": _fish, "powershell": _powershell}[arguments[0]]
    write(script(root.name, _words(root)))


COMMANDS: Final = {
    "completion": Leaf(
        _completion,
        "completion [bash|zsh|fish|powershell]",
        (),
        "Generate the autocompletion script for the specified shell",
    ),
}
