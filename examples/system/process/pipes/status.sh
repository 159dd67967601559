#!/bin/bash
# bash knows what each part of a pipeline said (PIPESTATUS), and pipefail keeps the last bad news.
#
# /// pexen
# host = "cmd:bash"
# ///
set -u
. ../../lib/check.sh

(exit 1) | (exit 2) | (exit 0) | cat
same 'PIPESTATUS' '1 2 0 0' "${PIPESTATUS[*]}"

(exit 3) | true
same 'without pipefail' 0 $?
set -o pipefail
(exit 3) | (exit 4) | true
same 'with pipefail' 4 $?
set +o pipefail

# A fresh SIGPIPE, whatever this process inherited: the writer dies of it as soon as nobody reads.
restored='import os, signal; signal.signal(signal.SIGPIPE, signal.SIG_DFL); os.execvp("yes", ["yes"])'
python3 -c "$restored" | head -n 1 >first
same 'yes | head' "$((128 + 13)) 0" "${PIPESTATUS[*]}"
same 'what head saw' y "$(cat first)"
