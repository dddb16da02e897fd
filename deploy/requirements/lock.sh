#!/usr/bin/env bash
# Rewrite the locked requirements from pyproject.toml. `lock.sh --check` only says whether they are fresh.
set -euo pipefail
cd "$(dirname "$0")/../.."
options=(--python-version 3.12 --universal --generate-hashes --no-emit-index-url --no-annotate --no-header -q)
compile() { # compile NAME EXTRA...: the current lock is the preference, so a check changes nothing by itself
  local name=$1 out; shift
  out=$(mktemp); trap 'rm -f "$out"' RETURN
  if [ -f "deploy/requirements/$name.txt" ]; then cp "deploy/requirements/$name.txt" "$out"; fi
  uv pip compile pyproject.toml "${options[@]}" "${@/#/--extra=}" -o "$out"
  if [ "${check:-}" ]; then
    cmp -s "$out" "deploy/requirements/$name.txt" || { echo "deploy/requirements/$name.txt is stale: run make lock" >&2; exit 1; }
  else cp "$out" "deploy/requirements/$name.txt"; fi
}
[ "${1:-}" = --check ] && check=1
compile stack dashboard local questdb build
compile dev dashboard local questdb build research dev
