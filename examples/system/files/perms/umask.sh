#!/bin/sh
# The umask takes bits from new files and folders, is inherited by children, and never touches what exists.
set -eu
. ../../lib/check.sh

while read -r mask file folder; do
    umask "$mask"
    : >"file.$mask"
    mkdir "folder.$mask"
    sh -c ': >"child.$1"' sh "$mask"
    same "file under umask $mask" "$file" "$(stat -c %a "file.$mask")"
    same "folder under umask $mask" "$folder" "$(stat -c %a "folder.$mask")"
    same "file of a child under umask $mask" "$file" "$(stat -c %a "child.$mask")"
done <<MASKS
000 666 777
022 644 755
027 640 750
077 600 700
MASKS

umask 077
echo more >>file.000
same 'a file that existed before' 666 "$(stat -c %a file.000)"
