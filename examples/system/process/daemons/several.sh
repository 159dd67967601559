#!/bin/sh
# One script, several results: what becomes of a background process, reported line by line without starting Python.
set -eu

# `pexen shell-helper` prints functions that do this and more; two lines of our own need nothing in PATH.
report() { printf '{"report": {"status": "%s", "name": "%s", "message": "%s"}}\n' "$1" "$2" "$3" >&"$PEXEN_CONTROL"; }

sleep 1000 &
child=$!
report pass "started" "process $child"
kill -0 "$child" && report pass "takes signals" ""
kill "$child"
wait "$child" && code=0 || code=$?
[ "$code" -eq 143 ] && report pass "ended by TERM" "exit code $code" || report fail "ended by TERM" "exit code $code"
report info "kernel" "$(uname -r)"
