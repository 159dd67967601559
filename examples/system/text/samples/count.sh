#!/bin/sh
# count.sh FILE: wc, grep, tr and tac agree with Python about the bytes and lines of a sample.
#
# pexenfile.py makes a task of this for each sample, therefore it is none by itself.
set -eu
sample=$PWD/$1
. ../../lib/check.sh

python() { python3 -c "import sys; file = open(sys.argv[1], 'rb'); print($1)" "$sample"; }
same 'bytes (wc -c)' "$(python 'len(file.read())')" "$(wc -c <"$sample")"
same 'newlines (wc -l)' "$(python 'file.read().count(b"\n")')" "$(wc -l <"$sample")"
same 'lines (grep -c)' "$(python 'len(file.readlines())')" "$(grep -c '' "$sample")"
same 'letters e (tr)' "$(python 'file.read().count(b"e")')" "$(tr -cd e <"$sample" | wc -c)"
same 'lines backwards (tac)' "$(python 'b"".join(file.readlines()[::-1]).hex()')" "$(tac "$sample" | od -An -v -tx1 | tr -d ' \n')"
