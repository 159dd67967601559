#!/bin/sh
# Two changes of one line: the merge must fail, mark both sides in the file, and be undone without a trace.
set -eu
. ../../lib/check.sh
# shellcheck source=../../lib/git.sh
. "$OLDPWD/../../lib/git.sh"

git init -q repository
cd repository
echo base >file
git add file
git commit -q -m base
git checkout -q -b theirs
echo theirs >file
git commit -q -a -m theirs
git checkout -q -b ours HEAD~1
echo ours >file
git commit -q -a -m ours

git merge -q theirs >../said 2>&1 && fail 'a conflict was merged'
same 'the file with the conflict' '<<<<<<< HEAD
ours
=======
theirs
>>>>>>> theirs' "$(cat file)"
same 'status' 'UU file' "$(git status --porcelain)"

git merge --abort
same 'the file after the merge was given up' ours "$(cat file)"
same 'status after the merge was given up' '' "$(git status --porcelain)"
