#!/bin/sh
# Two archives of equal files are equal byte for byte when tar is told to forget order, owner and time.
#
# /// pexen
# host = ["cmd:tar", "cmd:sha256sum"]
# ///
set -eu
. ../../lib/check.sh

mkdir first second
for name in b a c; do echo "$name" >"first/$name"; done
for name in c b a; do echo "$name" >"second/$name"; done
touch -d '@1234567890' second/b

pack() {
    tar --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner --mode=go-w -cf - -C "$1" . | sha256sum
}
same 'the archives differ' "$(pack first)" "$(pack second)"

echo changed >second/a
[ "$(pack first)" != "$(pack second)" ] || fail 'different files gave the same archive'
