#!/usr/bin/env bash
# Makes the test environment and runs every test. With --ci also lint, format, types and shell.
#
#   bash tests/run.sh [--ci] [PYTEST ARGUMENTS]
#
# AEGIS_TEST_VENV   where the environment is made (default: .venv-test in the clone)
set -uo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(dirname "$here")
cd "$root" || exit 2
venv=${AEGIS_TEST_VENV:-$root/.venv-test}
with_lint=
if [ "${1:-}" = --ci ]; then
  with_lint=1
  shift
fi

# What the tests need besides Python: promtool, nginx and wrk (benchmarks), taskset, shellcheck.
missing=
for tool in promtool nginx wrk taskset shellcheck; do
  command -v "$tool" >/dev/null || [ -x "/usr/sbin/$tool" ] || missing="$missing $tool"
done
if [ -n "$missing" ]; then
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "installing Debian packages for:$missing"
    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq \
      --no-install-recommends prometheus nginx-light wrk util-linux shellcheck; } >/dev/null 2>&1 ||
      echo "they could not be installed: the tests that need them will fail" >&2
  else
    echo "tests that need these will fail, install them:$missing" >&2
  fi
fi

bash deploy/environment.sh "$venv" deploy/requirements-test.lock || exit 2
python=$venv/bin/python
failed=0
if [ -n "$with_lint" ]; then
  "$venv/bin/ruff" check . || failed=1
  "$venv/bin/ruff" format --check . || failed=1
  "$venv/bin/mypy" || failed=1
  git ls-files -z '*.sh' .ci/run | xargs -0 shellcheck || failed=1
fi

if [ $# -gt 0 ]; then
  "$python" -m pytest "$@" || failed=1
  exit $failed
fi
# Those that need the machine to themselves first, one at a time; then the others on every core.
"$python" -m pytest -q -m serial --durations=5 || failed=1
"$python" -m pytest -q -m "not serial" -n 2 --dist loadfile --durations=15 || failed=1
exit $failed
