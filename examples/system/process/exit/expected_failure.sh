#!/bin/sh
# An expected failure: `set -e` does not notice a failing command on the left of a pipe. This test shows the trap by
# failing inside; the task passes because it fails, and would fail if shells ever changed their mind.
set -eu
. ../../lib/check.sh

cat >fragile.sh <<'SCRIPT'
set -e
false | cat
echo 'still here'
[ ! -e fragile.sh ] || exit 3
SCRIPT

code=0
said=$(sh fragile.sh 2>&1) || code=$?
same 'what a script says that should have ended' 'still here' "$said"
[ $code -ne 0 ] || fail 'the script that must fail has passed'
same 'exit code of the script that must fail' 3 $code
