# Sourced after check.sh: git without the configuration, identity and environment of whoever runs the suite
# (a git hook, for example, exports GIT_DIR, and every command here would work on *that* repository).

# shellcheck disable=SC2046  # a list of names, to be split
unset $(git rev-parse --local-env-vars)
export HOME="$scratch" GIT_CONFIG_NOSYSTEM=1 GIT_CONFIG_GLOBAL=/dev/null GIT_TERMINAL_PROMPT=0
export GIT_AUTHOR_NAME=pexen GIT_AUTHOR_EMAIL=pexen@example.invalid GIT_AUTHOR_DATE='1000000000 +0000'
export GIT_COMMITTER_NAME=pexen GIT_COMMITTER_EMAIL=pexen@example.invalid GIT_COMMITTER_DATE='1000000000 +0000'
