#!/bin/bash
# Resolves pyproject.toml anew and writes requirements.lock: exact versions with hashes, and no registry's name.
#
#   deploy/lock.sh            keep what the lock has, add what is missing
#   deploy/lock.sh --upgrade  take the newest of everything
#
# uv is fetched into a throw-away environment; nothing else needs it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
W=$(mktemp -d)
trap 'rm -rf "$W"' EXIT
python3 -m venv "$W/venv"
"$W/venv/bin/python" -m pip --disable-pip-version-check install --quiet uv
"$W/venv/bin/uv" pip compile pyproject.toml --extra dev --python-version 3.11 --universal --generate-hashes \
  --no-header --quiet --output-file requirements.lock "$@"
