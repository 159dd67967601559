#!/bin/sh
# Finds the shells of this machine, and adds a test for each: what there is to do is only known while the suite runs.
set -eu
found=
for shell in sh bash dash ash ksh mksh zsh yash; do
    if path=$(command -v "$shell"); then
        found="$found${found:+, }\"text/shells/$shell\": {\"run\": [\"$path\", \"conforms.txt\"], \"timeout\": \"10s\"}"
    fi
done
# The answer says that they are a part of the suite now, or what is wrong with them.
printf '{"id": "shells", "add": {"tasks": {%s}}}\n' "$found" >&"$PEXEN_CONTROL"
read -r answer <&"$PEXEN_CONTROL"
case $answer in *'"ok"'*) ;; *) echo "$answer" && exit 1 ;; esac
