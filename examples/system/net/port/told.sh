#!/bin/sh
# The port that a Python task has chosen reaches an executable, in the file of its values.
#
# /// pexen
# requires = "/net/port/choose"
# ///
set -eu
port=$(python3 -c 'import json, os; print(json.load(open(os.environ["PEXEN_VALUES"]))["values"]["choose"])')
[ "$port" -gt 0 ] && [ "$port" -lt 65536 ]
printf '{"return": %d}\n' "$port" >&"$PEXEN_CONTROL"
