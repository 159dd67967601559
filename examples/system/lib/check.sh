# Sourced by the shell tests, in their own folder: `. ../../lib/check.sh`.
# Afterwards the test stands in a scratch folder of its own, which goes away with it.

LC_ALL=C
export LC_ALL
umask 022
scratch=$(mktemp -d "${TMPDIR:-/tmp}/pexen-system-XXXXXX") || exit 1
trap 'cd / && rm -rf "$scratch"' EXIT
# dash does not run the EXIT trap when a signal ends it, so that signals have to become exits.
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM
cd "$scratch" || exit 1

fail() {
    printf 'FAIL: %s\n' "$*" >&2
    exit 1
}

# same WHAT EXPECTED ACTUAL
same() {
    [ "$2" = "$3" ] && return
    printf 'FAIL: %s\n--- expected\n%s\n--- got\n%s\n' "$1" "$2" "$3" >&2
    exit 1
}
