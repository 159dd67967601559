#!/bin/sh
# Leaves a daemon behind on purpose: pexen ends it and says so, and the task is warned instead of passed.
set -eu
setsid sh -c 'exec sleep 1000' >/dev/null 2>&1 </dev/null &
until [ "$(cat "/proc/$!/comm")" = sleep ]; do :; done
