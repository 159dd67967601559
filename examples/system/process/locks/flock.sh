#!/bin/sh
# flock(1): one exclusive holder or many shared ones, and the lock ends with its holder, even with kill -9.
#
# /// pexen
# host = ["cmd:flock"]
# tags = ["locks"]
# ///
set -eu
. ../../lib/check.sh

: >lock
exec 8<lock 9<lock # two open files, as two processes would have

flock -n -s 8 || fail 'a shared lock on a free file was refused'
flock -n -s 9 || fail 'a second shared lock was refused'
flock -u 9
flock -n -x 9 && fail 'an exclusive lock was granted beside a shared one'
flock -u 8
flock -n -x 9 || fail 'an exclusive lock on a free file was refused'
flock -n -s 8 && fail 'a shared lock was granted beside an exclusive one'
flock -u 9

mkfifo held
flock -x lock sh -c 'echo $$ >held; exec 8<&- 9<&-; exec sleep 60' &
holder=$!
read -r pid <held
flock -n -x 9 && fail 'the lock of a running process was granted again'
# flock(1) and its command both hold the open file.
kill -9 "$pid" "$holder"
wait "$holder" 2>/dev/null || :
flock -w 5 -x 9 || fail 'the lock of a killed process is still held'
