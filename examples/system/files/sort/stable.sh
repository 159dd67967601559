#!/bin/sh
# sort -s keeps the order of lines with equal keys; without -s the whole line breaks the tie.
#
# /// pexen
# host = "cmd:sort"
# ///
set -eu
. ../../lib/check.sh

printf 'b 2\na 9\nb 1\na 3\n' >lines
same 'sort -s -k1,1' 'a 9
a 3
b 2
b 1' "$(sort -s -k1,1 lines)"
same 'sort -k1,1' 'a 3
a 9
b 1
b 2' "$(sort -k1,1 lines)"
same 'sort -k2,2nr' 'a 9
a 3
b 2
b 1' "$(sort -k2,2nr lines)"
