#!/usr/bin/env bash
# Make .venv with the locked packages of `stack` (what running needs) or `dev` (tests and checks as well).
# The second time it only compares a stamp. Everything that it says goes to standard error.
set -euo pipefail
cd "$(dirname "$0")/../.."
exec >&2

kind=${1:-stack}
venv=${VENV:-.venv}
stamp=$venv/.cascade-lock

stamp_of() { # stamp_of KIND: what the stamp says when that lock and these entry points are installed, from this place
  { cat "deploy/requirements/$1.txt" pyproject.toml; pwd; } | cksum | sed "s/^/$1 /"
}

# A developer's environment can also run the stack.
if [ -f "$stamp" ] && { [ "$(cat "$stamp")" = "$(stamp_of "$kind")" ] || [ "$(cat "$stamp")" = "$(stamp_of dev)" ]; }; then
  "$venv/bin/python" -c '' 2>/dev/null && exit 0
fi

if [ -e "$venv" ] && ! "$venv/bin/python" -c 'import sys; sys.exit(sys.version_info < (3, 12))' 2>/dev/null; then
  echo "$venv holds no working Python >= 3.12: making it anew"
  rm -rf "$venv"
fi
python=$(deploy/bootstrap/python.sh)

uv=
for candidate in uv "$(dirname "$python")/uv" "$HOME/.local/bin/uv"; do
  if "$candidate" --version >/dev/null 2>&1; then uv=$candidate; break; fi
done

if [ ! -e "$venv" ]; then
  echo "Making $venv with $("$python" --version)"
  if [ -n "$uv" ]; then
    "$uv" venv --quiet --no-project --python "$python" "$venv"
  elif ! "$python" -m venv "$venv"; then
    rm -rf "$venv"
    echo "This Python cannot make virtual environments. On Debian and Ubuntu: sudo apt-get install python3-venv"
    exit 1
  fi
fi
rm -f "$stamp"

count=$(grep -c '==' "deploy/requirements/$kind.txt")
echo "Installing $count locked packages (only when they changed)"
if [ -n "$uv" ]; then
  "$uv" pip install --quiet --python "$venv/bin/python" --require-hashes -r "deploy/requirements/$kind.txt"
  "$uv" pip install --quiet --python "$venv/bin/python" --no-deps --no-build-isolation -e .
else
  if ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then "$venv/bin/python" -m ensurepip --upgrade >/dev/null; fi
  export PIP_DISABLE_PIP_VERSION_CHECK=1
  "$venv/bin/python" -m pip install --quiet --require-hashes -r "deploy/requirements/$kind.txt"
  "$venv/bin/python" -m pip install --quiet --no-deps --no-build-isolation -e .
fi
stamp_of "$kind" >"$stamp"
