#!/usr/bin/env bash
# Runs one harness at full size and keeps its result in tests/results/NAME.json.
#
#   bash tests/full.sh NAME [SIZE] [MORE OPTIONS]        without NAME: lists them
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
if [ $# -eq 0 ] || [ ! -f "$here/$1/full.py" ]; then
  echo "usage: bash tests/full.sh NAME [SIZE]; there is:"
  for harness in "$here"/*/full.py; do
    echo "  $(basename "$(dirname "$harness")")"
  done
  exit 2
fi
name=$1
shift
size=()
if [ $# -gt 0 ]; then
  size=(--size "$1")
  shift
fi
venv=${AEGIS_TEST_VENV:-$here/../.venv-test}
bash "$here/../deploy/environment.sh" "$venv" "$here/../deploy/requirements-test.lock"
mkdir -p "$here/results"
cd "$here/.."
exec "$venv/bin/python" "$here/$name/full.py" ${size[@]+"${size[@]}"} --results "$here/results/$name.json" "$@"
