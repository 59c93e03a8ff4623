#!/usr/bin/env bash
# Runs one harness at full size; its figures are kept in tests/results/NAME.json.
#
#   bash tests/full.sh              the names there are
#   bash tests/full.sh NAME [SIZE]  SIZE as the harness takes it (cycles, seconds, a word)
#
# AEGIS_TEST_VENV  where the environment is made (default: .venv-test in the clone)
set -euo pipefail
cd "$(dirname "$0")/.."

names=()
for harness in tests/*/full.py; do
    [ -f "$harness" ] && names+=("$(basename "$(dirname "$harness")")")
done

if [ $# -eq 0 ]; then
    printf '%s\n' "${names[@]}"
    exit 0
fi
name=$1
harness=tests/$name/full.py
if [[ ! $name =~ ^[a-z_]+$ || ! -f $harness ]]; then
    echo "no harness $name; there are: ${names[*]}" >&2
    exit 2
fi

venv=${AEGIS_TEST_VENV:-$PWD/.venv-test}
bash deploy/environment.sh "$venv" deploy/requirements-test.lock
export PATH="$venv/bin:$PATH:/usr/sbin:/sbin"
mkdir -p tests/results
size=()
if [ $# -gt 1 ]; then
    size=(--size "$2")
fi
exec "$venv/bin/python" "$harness" ${size[@]+"${size[@]}"} --results "tests/results/$name.json"
