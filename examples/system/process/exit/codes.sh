#!/bin/sh
# Exit codes: eight bits arrive, 127 is "not found", 126 "not executable", a subshell's code is its last command's.
set -eu
. ../../lib/check.sh

code_of() {
    code=0
    "$@" >/dev/null 2>&1 || code=$?
    echo $code
}

for code in 0 1 2 77 126 255; do
    same "exit $code" $code "$(code_of sh -c "exit $code")"
done
same 'exit 256 from Python' 0 "$(code_of python3 -c 'import os; os._exit(256)')"
same 'exit -1 from Python' 255 "$(code_of python3 -c 'import os; os._exit(-1)')"
same 'a command that does not exist' 127 "$(code_of ./no-such-command)"
: >plain
same 'a file that is not executable' 126 "$(code_of ./plain)"
same 'a pipeline' 3 "$(code_of sh -c 'exit 5 | exit 3')"
same 'a subshell' 4 "$(code_of sh -c '(false; exit 4)')"
same 'a negated failure' 0 "$(code_of sh -c '! false')"
