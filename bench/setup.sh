#!/bin/sh
# Installs what `make performance` measures beside the daemon, pinned, into git-ignored folders: the bridges that npm has into
# bench/peers/node_modules, the proxy on fasthttp (bench/fasthttp) into .cache/bin. Quiet, and quick when there is nothing to do.
set -eu
cd "$(dirname "$0")"

# The stamp is the lock file as it was installed; npm does not touch it.
stamp=peers/node_modules/.installed-lock.json
if command -v npm >/dev/null && ! cmp -s peers/package-lock.json "$stamp"; then
  (cd peers && NODE_DISABLE_COMPILE_CACHE=1 npm ci --loglevel=error >/dev/null)
  echo 'module node_modules // keeps the go command out of here' >peers/node_modules/go.mod
  cp peers/package-lock.json "$stamp"
fi

mkdir -p ../.cache/bin
bin=$(cd ../.cache/bin && pwd)
cd fasthttp
CGO_ENABLED=0 go build -o "$bin/fasthttp-proxy" .
