"""completion: scripts that let a shell ask the tool itself what may follow (contract cli section 3.21).

The scripts are thin: they hand the words typed so far to ``__complete`` (see ``complete.py``), so that they
never fall behind the tool, and offer file names where it says that they may fit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from petcd.cli.etcdctl.commands import ERROR, Exit, Leaf, write
from petcd.cli.etcdctl.golang import quote, raw

if TYPE_CHECKING:
    from petcd.cli.etcdctl.context import Context

_BASH: Final = """\
# bash completion for TOOL
_TOOL_complete() {
  local current="" lines directive
  local -a words
  # From the line itself: bash's own words are cut at "=" and ":".
  read -ra words <<<"${COMP_LINE:0:COMP_POINT}"
  [[ "${COMP_LINE:0:COMP_POINT}" == *[[:space:]] ]] || current="${words[${#words[@]}-1]}"
  [[ -n "$current" ]] || words+=("")
  lines=$("${words[0]}" __completeNoDesc "${words[@]:1}" 2>/dev/null) || return
  directive="${lines##*:}"
  lines="${lines%:*}"
  [[ "$current" == -*=* ]] && current="${current#*=}"
  mapfile -t COMPREPLY < <(compgen -W "$lines" -- "$current")
  if (( directive & 4 )); then
    compopt +o default 2>/dev/null
  fi
  # What stands before the last ":" of the word is already on the line.
  if [[ "$current" == *:* && "$COMP_WORDBREAKS" == *:* ]]; then
    COMPREPLY=("${COMPREPLY[@]#"${current%"${current##*:}"}"}")
  fi
}
complete -o default -F _TOOL_complete TOOL
"""

_ZSH: Final = """\
#compdef TOOL
# zsh completion for TOOL
_TOOL() {
  local -a lines choices
  local line name directive
  lines=("${(@f)$("${words[1]}" __complete "${(@Q)words[2,CURRENT]}" 2>/dev/null)}")
  directive="${lines[-1]#:}"
  lines[-1]=()
  [[ "${words[CURRENT]}" == -*=* ]] && compset -P '*='
  for line in "${lines[@]}"; do
    name="${${line%%$'\\t'*}//:/\\\\:}"
    if [[ "$line" == *$'\\t'* ]]; then
      choices+=("${name}:${line#*$'\\t'}")
    else
      choices+=("$name")
    fi
  done
  if (( ${#choices} )); then
    _describe 'completion' choices
  elif (( ! (directive & 4) )); then
    _files
  fi
}
if [[ "${funcstack[1]}" == "_TOOL" ]]; then
  _TOOL "$@"
else
  compdef _TOOL TOOL
fi
"""

_FISH: Final = """\
# fish completion for TOOL
function __TOOL_complete
    set -l words (commandline -opc)
    set -l current (commandline -ct)
    set -l tool $words[1]
    set -e words[1]
    set -l lines ($tool __complete $words "$current" 2>/dev/null)
    set -l directive (string sub -s 2 -- $lines[-1])
    set -e lines[-1]
    set -l prefix (string match -r -- '^-[^=]*=' "$current")
    if test (count $lines) -gt 0
        printf "$prefix%s\\n" $lines
    else if test "$directive" != 4
        __fish_complete_path (string replace -r -- '^-[^=]*=' '' "$current")
    end
end
complete -c TOOL -e
complete -c TOOL -f -a '(__TOOL_complete)'
"""

_POWERSHELL: Final = """\
# powershell completion for TOOL
Register-ArgumentCompleter -Native -CommandName 'TOOL' -ScriptBlock {
  param($wordToComplete, $commandAst, $cursorPosition)
  $line = $commandAst.ToString().Substring(0, [Math]::Min($cursorPosition, $commandAst.ToString().Length))
  $tool, $words = $line -split '\\s+', 2
  if (-not $wordToComplete) { $words = "$words ''" }
  $lines = Invoke-Expression "$tool __complete $words" 2>$null
  $lines | Where-Object { $_ -notmatch '^:\\d+$' } | ForEach-Object {
    $name, $text = $_ -split "`t", 2
    if (-not $text) { $text = $name }
    [System.Management.Automation.CompletionResult]::new($name, $name, 'ParameterValue', $text)
  }
}
"""

SCRIPTS: Final = {"bash": _BASH, "fish": _FISH, "powershell": _POWERSHELL, "zsh": _ZSH}


def _completion(context: Context) -> None:
    arguments = context.arguments
    tool = context.command.path.partition(" ")[0]
    if len(arguments) != 1:
        raise Exit(ERROR, f"accepts 1 arg(s), received {len(arguments)}")
    script = SCRIPTS.get(arguments[0])
    if script is None:
        raise Exit(ERROR, f'invalid argument {quote(raw(arguments[0]))} for "{tool} completion"')
    write(script.replace("TOOL", tool))


COMMANDS: Final = {
    "completion": Leaf(
        _completion,
        "completion [bash|zsh|fish|powershell]",
        (),
        "Generate the autocompletion script for the specified shell",
    ),
}
