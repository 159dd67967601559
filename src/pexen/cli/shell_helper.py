r"""``pexen shell-helper``: functions for shell scripts that tell their run something, to be sourced.

A script says more than its exit code by writing JSON lines to a descriptor (`pexen.model.control`). Quoting for JSON is
what shells are bad at, and starting jq for each of a thousand reports would cost more than the tests. So these are
functions of nothing but builtins, the same for dash, bash and busybox:

- **No process is started**, but for one subshell when the text is sourced: POSIX sh has no way to write a control
  character, except as the output of printf. What has nothing to escape is recognised by one pattern.
- **One line is one write** of up to 4 KiB in bash and busybox and of any length in dash, so background jobs do not mix
  theirs; dash would write the newline of ``printf '%s\n'`` by itself behind a long text.
- **Escaping** goes through blocks of 256 characters, since each step of it copies what is still to come. Ordinary text
  of some KiB takes milliseconds, 64 KiB a fraction of a second; what repeats itself is quadratic (measured: 5 s in
  dash for 64 KiB of quotes), because only comparing tells a POSIX shell where a block ends.
- **Locales**: ``[[:cntrl:]]`` of a UTF-8 locale also finds U+0080 to U+009F; whatever has no code in the table is kept.
- **SIGPIPE** is ignored while writing and set to its default afterwards. Ignoring it for good would be inherited by all
  that the script starts (``yes | head`` would complain); a shell cannot tell, without a subshell, what the trap was.
"""

from __future__ import annotations

import click

from pexen.cli.options import CONTEXT
from pexen.cli.screen import write_out
from pexen.usecase.codes import GOOD

_OFTEN = (0x22, 0x5C, 0x0A, 0x09, 0x0D, 0x1B)
"""First in the table because they are looked up most."""
_ESCAPED = (*_OFTEN, *(code for code in (*range(1, 0x20), 0x7F) if code not in _OFTEN))
_CODES = "".join(f"\\{code:03o}{code:02x}" for code in _ESCAPED)

HELPER = r"""# What a shell script may tell its pexen run. Source this, or: eval "$(pexen shell-helper)"
# Each function returns 0; 1 when the run cannot be reached; 2 when called wrongly. Without a run, reports go to stderr.
# No trap for PIPE of your own survives a call: it is ignored while writing, and set to its default afterwards.

# report STATUS NAME [MESSAGE]: one of many results; STATUS is pass, info, warn, fail, error or skip
report() { _pexen_report "$@" && _pexen_say "{$_pexen_said}"; }
# report_wait STATUS NAME [MESSAGE]: the same, and wait until it is on disk; one at a time
report_wait() { _pexen_report "$@" && _pexen_ask "$_pexen_said"; }
# attach FILE [NAME]: keep a copy of a file
attach() {
  case $#:${1-} in
  [12]:/*) _pexen_text "$1" ;;
  [12]:?*) _pexen_text "$PWD/$1" ;;
  *) _pexen_wrong 'attach FILE [NAME]' || return ;;
  esac
  _pexen_said="\"file\": \"$_pexen_text\""
  case ${2-} in ?*) _pexen_text "$2" && _pexen_said="$_pexen_said, \"name\": \"$_pexen_text\"" ;; esac
  _pexen_say "{\"attach\": {$_pexen_said}}"
}
# timeout_set SPAN: it may take that long from now on: 90, 5m, 1h30m
timeout_set() { _pexen_limit set "$@"; }
# timeout_add SECONDS: it may take that much longer; less when negative
timeout_add() { _pexen_limit add "$@"; }
# timeout_pause: what happens until timeout_resume does not count
timeout_pause() { _pexen_say '{"timeout": "pause"}'; }
# timeout_resume: time counts again
timeout_resume() { _pexen_say '{"timeout": "resume"}'; }
# heartbeat: it is alive, although it prints nothing
heartbeat() { _pexen_say '{"heartbeat": true}'; }
# pexen_return JSON: the value of this task, for those that require it
pexen_return() {
  case $#:${1-} in 1:?*) ;; *) _pexen_wrong 'pexen_return JSON' || return ;; esac
  _pexen_walk "$1" '[[:cntrl:]]' ' '
  _pexen_say "{\"return\": $_pexen_text}"
}
# share KEY VALUE: a text in the shared dict, for those that require this task
share() {
  case $# in 2) ;; *) _pexen_wrong 'share KEY VALUE' || return ;; esac
  _pexen_text "$1" && _pexen_said=$_pexen_text && _pexen_text "$2"
  _pexen_say "{\"shared\": {\"$_pexen_said\": \"$_pexen_text\"}}"
}
# ready [JSON]: this service is up, perhaps with a value for those that require it
ready() {
  case $#:${1-} in
  0:) _pexen_say '{"ready": true}' ;;
  1:?*) _pexen_walk "$1" '[[:cntrl:]]' ' ' && _pexen_say "{\"ready\": {\"value\": $_pexen_text}}" ;;
  *) _pexen_wrong 'ready [JSON]' ;;
  esac
}
# add_task PATH COMMAND: have the run do that as well, by /bin/sh in this folder; waits until it is part of the run
add_task() {
  case $#:${1-}:${2-} in 2:?*:?*) ;; *) _pexen_wrong 'add_task PATH COMMAND' || return ;; esac
  _pexen_text "$PWD" && _pexen_folder=$_pexen_text && _pexen_text "$1" && _pexen_said=$_pexen_text && _pexen_text "$2"
  _pexen_ask "\"add\": {\"tasks\": {\"$_pexen_said\": {\"run\": \"$_pexen_text\", \"cwd\": \"$_pexen_folder\"}}}"
}
# add_tasks JSON: the same, with all that a task file may say: '{"check": {"run": "make check", "timeout": "5m"}}'
add_tasks() {
  case $#:${1-} in 1:?*) ;; *) _pexen_wrong 'add_tasks JSON' || return ;; esac
  _pexen_walk "$1" '[[:cntrl:]]' ' '
  _pexen_ask "\"add\": {\"tasks\": $_pexen_text}"
}

# The rest is not for scripts. It starts no process, and touches no variables but its own.
_pexen_wrong() { printf 'usage: %s\n' "$1" >&2 || :; return 2; }
_pexen_report() {
  case $#:${1-}:${2-} in
  [23]:pass:?* | [23]:info:?* | [23]:warn:?* | [23]:fail:?* | [23]:error:?* | [23]:skip:?*) ;;
  *) _pexen_wrong "report pass|info|warn|fail|error|skip NAME [MESSAGE], not: ${1-} ${2-}" || return ;;
  esac
  case ${PEXEN_CONTROL-} in '') printf '%s: %s%s\n' "$1" "$2" "${3:+ $3}" >&2 || : ;; esac
  _pexen_text "$2" && _pexen_said="\"report\": {\"status\": \"$1\", \"name\": \"$_pexen_text\""
  case ${3-} in ?*) _pexen_text "$3" && _pexen_said="$_pexen_said, \"message\": \"$_pexen_text\"" ;; esac
  _pexen_said="$_pexen_said}"
}
_pexen_limit() {
  case $#:${2-} in 2:?*) ;; *) _pexen_wrong "timeout_$1 SPAN" || return ;; esac
  case ${2#-} in
  *[!0-9.]* | *.*.* | *. | .* | 0[0-9]* | '') _pexen_text "$2" && _pexen_text="\"$_pexen_text\"" ;;
  *) _pexen_text=$2 ;;
  esac
  _pexen_say "{\"timeout\": {\"$1\": $_pexen_text}}"
}
_pexen_say() {
  case ${PEXEN_CONTROL-} in '') return 0 ;; [3-9]) ;; *) return 1 ;; esac
  trap '' PIPE
  printf %s "$1
" 2>&- >&"$PEXEN_CONTROL" || { trap - PIPE; return 1; }
  trap - PIPE
}
_pexen_ask() {
  case ${PEXEN_CONTROL-} in '') return 0 ;; esac
  _pexen_asked=$((${_pexen_asked-0} + 1))
  _pexen_say "{\"id\": \"sh-$$-$_pexen_asked\", $1}" || return
  while IFS= read -r _pexen_text 2>&- <&"$PEXEN_CONTROL"; do
    case $_pexen_text in
    *"\"sh-$$-$_pexen_asked\""*'"ok"'*) return 0 ;;
    *"\"sh-$$-$_pexen_asked\""*) printf 'pexen: %s\n' "$_pexen_text" >&2 || :; return 1 ;;
    esac
  done
  return 1
}
_pexen_text() {
  case $1 in *[[:cntrl:]\"\\]*) _pexen_walk "$1" '[[:cntrl:]"\\]' '' ;; *) _pexen_text=$1 ;; esac
}
_pexen_walk() {
  _pexen_text= _pexen_rest=$1
  while [ "$_pexen_rest" ]; do
    _pexen_block=$_pexen_rest _pexen_rest=${_pexen_rest#$_pexen_256} _pexen_done=
    case $_pexen_block in "$_pexen_rest") _pexen_rest= ;; *) _pexen_block=${_pexen_block%%"$_pexen_rest"} ;; esac
    while case $_pexen_block in *$2*) ;; *) false ;; esac; do
      _pexen_plain=${_pexen_block%%$2*} _pexen_block=${_pexen_block#"${_pexen_block%%$2*}"}
      _pexen_char=${_pexen_block%%"${_pexen_block#?}"} _pexen_block=${_pexen_block#?}
      case $_pexen_codes in
      *"$_pexen_char"*)
        _pexen_char=${_pexen_codes#*"$_pexen_char"}
        _pexen_char=${3:-"\\u00${_pexen_char%%"${_pexen_char#??}"}"}
        ;;
      esac
      _pexen_done=$_pexen_done$_pexen_plain$_pexen_char
    done
    _pexen_text=$_pexen_text$_pexen_done$_pexen_block
  done
}
_pexen_256='????????????????????????????????????????????????????????????????'
_pexen_256=$_pexen_256$_pexen_256$_pexen_256$_pexen_256
_pexen_codes=$(printf '@CODES@')
""".replace("@CODES@", _CODES)
"""What is printed. The table has two hexadecimal digits behind each character that JSON, or a reader, wants escaped."""


@click.command("shell-helper", context_settings=CONTEXT)
def command() -> int:
    """Print functions for shell scripts: report, attach, timeout_set and more.

    To be used in a script as eval "$(pexen shell-helper)", or from a file that keeps what this prints. They work in any
    POSIX shell and start no processes.
    """
    write_out(HELPER)
    return GOOD
