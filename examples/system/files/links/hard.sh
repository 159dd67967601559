#!/bin/sh
# Two names of one file share content and mode; the file lives until the last name is gone.
set -eu
. ../../lib/check.sh

echo first >one
ln one two || exit 77 # some file systems have no hard links
same 'inode' "$(stat -c %i one)" "$(stat -c %i two)"
same 'link count' 2 "$(stat -c %h one)"

echo second >>two
same 'content through the other name' 'first
second' "$(cat one)"
chmod 600 two
same 'mode through the other name' 600 "$(stat -c %a one)"

rm one
same 'content after one name is gone' 'first
second' "$(cat two)"
same 'link count after one name is gone' 1 "$(stat -c %h two)"
ln . folder 2>/dev/null && fail 'a hard link to a folder was allowed'
exit 0
