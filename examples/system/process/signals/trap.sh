#!/bin/sh
# A shell's trap runs on the signal and decides the exit code; without one the shell reports 128 + number.
#
# /// pexen
# tags = ["signals"]
# ///
set -eu
. ../../lib/check.sh

for name in TERM USR1 USR2; do # not HUP and INT: who starts the suite may have them ignored, and then no trap works
    code=0
    # shellcheck disable=SC2016  # $1 and $$ belong to the inner shell
    said=$(sh -c 'trap "echo caught $1; exit 7" "$1"; kill -s "$1" $$; echo not reached' sh $name) || code=$?
    same "what the trap for $name said" "caught $name" "$said"
    same "exit code after the trap for $name" 7 $code
done

code=0
# shellcheck disable=SC2016
sh -c 'kill -s TERM $$; echo not reached' >out 2>/dev/null || code=$?
same 'exit code of a shell that TERM ended' 143 $code
same 'output of a shell that TERM ended' '' "$(cat out)"

# shellcheck disable=SC2016
same 'an ignored signal' survived "$(sh -c 'trap "" TERM; kill -s TERM $$; echo survived')"
