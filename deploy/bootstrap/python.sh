#!/usr/bin/env bash
# Print the path of a Python >= 3.12, or say plainly what is missing. `PYTHON=/path` chooses one.
set -euo pipefail
cd "$(dirname "$0")/../.."

works() { # works COMMAND: prints its real path if it runs and is new enough (a pyenv shim may exist and refuse to run)
  "$1" -c 'import sys; sys.version_info >= (3, 12) or sys.exit(1); print(sys.executable)' 2>/dev/null
}

if [ -n "${PYTHON:-}" ]; then
  works "$PYTHON" && exit 0
  echo "PYTHON=$PYTHON is not a working Python >= 3.12. Point PYTHON at one, or unset it." >&2
  exit 1
fi

for name in python3.12 python3.13 python3.14 python3 python; do
  while IFS= read -r candidate; do
    works "$candidate" && exit 0
  done < <(type -aP "$name" || true)
done

for root in "${PYENV_ROOT:-}" "$HOME/.pyenv"; do
  [ -n "$root" ] || continue
  for candidate in "$root"/versions/3.1[2-9]*/bin/python; do
    [ -x "$candidate" ] && works "$candidate" && exit 0
  done
done

if uv --version >/dev/null 2>&1; then
  candidate=$(uv python find --no-project '>=3.12' 2>/dev/null || true)
  [ -n "$candidate" ] && works "$candidate" && exit 0
fi

found=$(python3 --version 2>/dev/null || echo "no Python 3")
cat >&2 <<TEXT
Cascade needs Python 3.12 or newer; this machine has $found.
Looked for: python3.12, python3.13, python3.14 and python3 on PATH, pyenv's versions, uv's Pythons.
Get it with one of these, then run the same command again:
  Debian 13, Ubuntu 24.04   sudo apt-get install python3 python3-venv
  macOS                     brew install python@3.12
  anywhere, with uv         uv python install 3.12
  anywhere, with pyenv      pyenv install 3.12
Or name one yourself: make run PYTHON=/path/to/python3.12
TEXT
exit 1
