#!/bin/sh
# What goes through tar comes back with content, mode, time, symbolic links and hard links.
#
# /// pexen
# tags = ["smoke"]
# host = ["cmd:tar"]
# ///
set -eu
. ../../lib/check.sh

mkdir -p in/deep/deeper out
printf 'one\n' >in/plain
printf 'two\n' >'in/deep/with space'
: >in/deep/deeper/empty
chmod 640 in/plain
chmod 700 in/deep
ln -s ../plain in/deep/symbolic
ln in/plain in/hard
find in ! -type l -exec touch -d '@1000000000' {} +

tar -cf archive.tar -C in .
tar -xpf archive.tar -C out

diff -r in out || fail 'the contents differ'
list() { (cd "$1" && find . -printf '%P %y %m %n %l ' -exec stat -c %Y {} \; | sed 's/^\(.* l .*\) [0-9]*$/\1/' | sort); }
same 'mode, links, size or time changed' "$(list in)" "$(list out)"
same 'the hard link became a copy' "$(stat -c %i out/plain)" "$(stat -c %i out/hard)"
