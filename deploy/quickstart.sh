#!/usr/bin/env bash
# From a fresh clone to a first protected call: a private environment, the sidecar on SQLite in
# front of a demo tool server, the demo played and told. Without --once it keeps running.
#
#   bash deploy/quickstart.sh [--once] [--folder DIR]
#
# AEGIS_VENV   where the environment is made (default: .venv in the clone)
[ -n "${BASH_VERSION:-}" ] || exec bash "$0" "$@" # started with sh
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
venv=${AEGIS_VENV:-$here/../.venv}
bash "$here/environment.sh" "$venv" "$here/requirements.lock"
exec "$venv/bin/aegis-sidecar" demo "$@"
