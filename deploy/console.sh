#!/bin/bash
# Builds the console into console/dist, unless what is there was made of the same sources.
#
#   deploy/console.sh           build what is stale
#   deploy/console.sh check     lint and types
#   deploy/console.sh test      unit tests
#   deploy/console.sh format
#   deploy/console.sh prepare   only packages and generated types
#
# Node and npm are those of .venv. Two things are derived and kept in console/.generated: the OpenAPI document of this
# very checkout, and from it the types of the client. Neither is in Git, so neither can be stale there.
set -euo pipefail
umask 022
cd "$(dirname "${BASH_SOURCE[0]}")/.."
ROOT=$PWD
PATH=$ROOT/.venv/bin:$PATH
cd console

say() { printf '  %-11s %s\n' "console" "$*"; }
fail() { printf 'console failed: %s\n' "$*" >&2; exit 1; }
quiet() {
  local log=$ROOT/console/.generated/last.log
  "$@" >"$log" 2>&1 || { tail -n 30 "$log" >&2; fail "$* (its whole output: $log)"; }
}

digest_of() { find "$@" -type f -print0 | sort -z | xargs -0 sha256sum | sha256sum | cut -d' ' -f1; }

# The stamps are written last, so an interrupted run is repeated.
prepare() {
  local wanted
  mkdir -p .generated
  wanted=$(digest_of package.json package-lock.json)
  if [ "$(cat node_modules/.vcstack-stamp 2>/dev/null)" != "$wanted" ]; then
    say "installing the locked npm packages"
    quiet npm ci --ignore-scripts --no-audit --no-fund
    echo "$wanted" >node_modules/.vcstack-stamp
  fi
  wanted=$(find ../vcstack -name '*.py' -print0 | sort -z | xargs -0 cat package-lock.json | sha256sum | cut -d' ' -f1)
  if [ "$(cat .generated/stamp 2>/dev/null)" != "$wanted" ]; then
    python -c 'import sys; from vcstack.generate import write_openapi; write_openapi(sys.argv[1])' "$PWD/.generated/new.json"
    if ! cmp -s .generated/new.json .generated/openapi.json || [ ! -e .generated/schema.d.ts ]; then
      mv .generated/new.json .generated/openapi.json
      quiet npm run --silent generate
    fi
    rm -f .generated/new.json
    echo "$wanted" >.generated/stamp
  fi
}

build() {
  local wanted
  wanted=$(digest_of src public index.html vite.config.ts tsconfig.json package-lock.json .generated/schema.d.ts)
  if [ "$(cat dist/.stamp 2>/dev/null)" = "$wanted" ]; then return; fi
  say "building the console"
  # Built beside and put in its place as a whole: somebody may be looking at the one before.
  rm -rf .generated/dist .generated/dist.old
  quiet npm run --silent build -- --outDir .generated/dist
  echo "$wanted" >.generated/dist/.stamp
  if [ -e dist ]; then mv dist .generated/dist.old; fi
  mv .generated/dist dist
  rm -rf .generated/dist.old
}

run() {
  prepare
  case "${1:-build}" in
    build) build ;;
    prepare) ;;
    check | test | format) npm run --silent "$1" ;;
    *) fail "$1 is unknown; read the beginning of $0" ;;
  esac
}

(
  flock -w 900 9 || fail "another build has held console/.lock for 15 minutes."
  run "$@"
) 9>.lock
