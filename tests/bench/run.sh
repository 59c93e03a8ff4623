#!/usr/bin/env bash
# The benchmark as a table; --json gives one object. See full.py for the options.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$here/../..
venv=${AEGIS_TEST_VENV:-$root/.venv-test}
bash "$root/deploy/environment.sh" "$venv" "$root/deploy/requirements-test.lock" >&2
exec "$venv/bin/python" "$here/full.py" "$@"
