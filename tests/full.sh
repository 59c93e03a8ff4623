#!/usr/bin/env bash
# Runs one harness at full size; its figures are kept in tests/results/NAME.json.
#
#   bash tests/full.sh              the names there are
#   bash tests/full.sh NAME [SIZE]  SIZE as the harness takes it (cycles, seconds, a word)
#
# AEGIS_TEST_VENV  where the environment is made (default: .venv-test in the clone)
set -euo pipefail
cd "$(dirname "$0")/.."

# NAME and harness of each. A folder's own harness is full.py, under the folder's name; others are
# NAME_full.py, under NAME without its underscores (tests/faults/power_cut_full.py is powercut).
harnesses() {
    local harness name
    for harness in tests/*/full.py tests/*/*_full.py; do
        [ -f "$harness" ] || continue
        name=$(basename "$harness" .py)
        if [ "$name" = full ]; then
            name=$(basename "$(dirname "$harness")")
        else
            name=${name%_full}
            name=${name//_/}
        fi
        printf '%s %s\n' "$name" "$harness"
    done | sort
}

if [ $# -eq 0 ]; then
    harnesses | cut -d ' ' -f 1
    exit 0
fi
name=$1
harness=$(harnesses | while read -r known path; do
    if [ "$known" = "$name" ]; then echo "$path"; fi
done)
if [ -z "$harness" ]; then
    echo "no harness $name; there are: $(harnesses | cut -d ' ' -f 1 | tr '\n' ' ')" >&2
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
