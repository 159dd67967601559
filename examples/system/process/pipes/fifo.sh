#!/bin/sh
# A named pipe joins processes that know only its name: writers wait for a reader, the end comes with the last writer.
#
# /// pexen
# timeout = "15s"
# ///
set -eu
. ../../lib/check.sh

mkfifo pipe
[ -p pipe ] || fail 'mkfifo made no fifo'

(
    for number in 1 2 3; do echo "line $number"; done >pipe
    echo "writer done" >done
) &
[ ! -e done ] || fail 'the writer did not wait for a reader'
same 'what came through' 'line 1
line 2
line 3' "$(cat pipe)"
wait $!
same 'the writer' 'writer done' "$(cat done)"
same 'size of the fifo' 0 "$(stat -c %s pipe)"
