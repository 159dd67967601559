#!/bin/sh
# One script, several results: what becomes of a background process, each step reported as soon as it is known.
set -eu

# In a virtualenv that is not activated there is no `pexen` in PATH. What its helper does is writing lines of JSON; a
# function of our own does as well, for texts without quotes and backslashes.
if helper=$(pexen shell-helper 2>/dev/null); then
    eval "$helper"
else
    report() {
        printf '{"report": {"status": "%s", "name": "%s", "message": "%s"}}\n' "$1" "$2" "${3-}" >&"$PEXEN_CONTROL"
    }
fi

sleep 1000 &
child=$!
report pass 'started' "process $child"
if kill -0 "$child"; then report pass 'takes signals'; else report fail 'takes signals'; fi
kill "$child" || :
code=0
wait "$child" || code=$?
if [ "$code" -eq 143 ]; then status=pass; else status=fail; fi
report "$status" 'ended by TERM' "exit code $code"
if kill -0 "$child" 2>/dev/null; then report fail 'is gone'; else report pass 'is gone'; fi
report info 'kernel' "$(uname -r)"
