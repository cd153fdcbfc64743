#!/bin/sh
# own-temp.sh COMMAND...: runs a command with a directory for temporary files of its own, and fails where something is
# left in it. It is like the system's: other users get at what is theirs in it, which Postgres needs. Its path is short,
# since a Unix socket's may have 107 bytes, and the same in every run, since Go takes a test's result from its cache only
# where $TMPDIR is what it was.
set -eu

dir=${TMPDIR:-/tmp}/fp$(pwd | cksum | cut -d' ' -f1)
mkdir "$dir" || {
  echo "own-temp.sh: $dir is there: another run in this folder goes on, or was killed; remove it then" >&2
  exit 1
}
trap 'rm -rf "$dir"' EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM
chmod 1777 "$dir"

status=0
TMPDIR=$dir "$@" || status=$?

left=$(find "$dir" -mindepth 1 -maxdepth 2)
if [ -n "$left" ]; then
  printf 'left in the temporary directory:\n%s\n' "$left" >&2
  exit 1
fi
exit "$status"
