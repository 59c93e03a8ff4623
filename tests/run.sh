#!/usr/bin/env bash
# Makes the test environment and runs every test; with --ci also lint and types, beside them.
#
#   bash tests/run.sh [--ci]
#
# AEGIS_TEST_VENV  where the environment is made (default: .venv-test in the clone)
#
# Every part runs whatever came of those before it; the exit status is 0 only if all passed.
# The last thing printed is pytest's own summary.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 2

is_ci=
case "${1-}" in
    "") ;;
    --ci) is_ci=1 ;;
    *)
        echo "usage: tests/run.sh [--ci]" >&2
        exit 2
        ;;
esac

venv=${AEGIS_TEST_VENV:-$PWD/.venv-test}
failed=

part() {
    local name=$1
    shift
    echo "== $name"
    if ! "$@"; then
        failed="$failed $name"
        echo "FAILED: $name"
    fi
}

# Command, Debian package, what is missing without it. Several tools live in /usr/sbin.
tools=(
    "promtool prometheus the checks of /metrics"
    "prometheus prometheus the alert for the ceiling in a real Prometheus"
    "nginx nginx-light the proxy benchmark"
    "wrk wrk the proxy benchmark"
    "strace strace the durability tests"
    "taskset util-linux the benchmarks"
    "shellcheck shellcheck the lint of shell scripts"
    "systemd-analyze systemd the lint of the systemd unit"
    "bwrap bubblewrap the test of the service under the unit's restrictions"
)

missing_tools() {
    local line command package purpose
    for line in "${tools[@]}"; do
        read -r command package purpose <<<"$line"
        if ! PATH="$PATH:/usr/sbin:/sbin" command -v "$command" >/dev/null 2>&1; then
            echo "$command $package $purpose"
        fi
    done
}

# A package that brings a service must not start it: its ports may be in use, and stay free.
install_tools() {
    local policy=/usr/sbin/policy-rc.d ours='' status=0
    if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' >"$policy" && chmod 755 "$policy" && ours=1
    fi
    {
        apt-get update -qq &&
            DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@"
    } >/dev/null 2>&1 || status=1
    if [ -n "$ours" ]; then
        rm -f "$policy"
    fi
    return "$status"
}

provide_tools() {
    local missing command package purpose
    local packages=()
    missing=$(missing_tools)
    if [ -n "$missing" ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
        while read -r command package purpose; do
            packages+=("$package")
        done <<<"$missing"
        echo "installing ${packages[*]}"
        install_tools "${packages[@]}" || echo "apt-get could not install all of them"
        missing=$(missing_tools)
    fi
    if [ -n "$missing" ]; then
        while read -r command package purpose; do
            echo "missing: $command (Debian package $package): $purpose will fail"
        done <<<"$missing"
    fi
}

lint_shell() {
    local scripts=()
    while IFS= read -r script; do
        scripts+=("$script")
    done < <(find . -name '*.sh' -not -path './.venv*' -not -path './.git/*')
    shellcheck .ci/run "${scripts[@]}"
}

if ! bash deploy/environment.sh "$venv" deploy/requirements-test.lock; then
    echo "there is no environment to test in" >&2
    exit 1
fi
python=$venv/bin/python
export PATH="$venv/bin:$PATH:/usr/sbin:/sbin"
# Hundreds of tests start a process of their own; without bytecode each compiles every module anew.
unset PYTHONDONTWRITEBYTECODE
provide_tools

checks() {
    part lint ruff check .
    part format ruff format --check .
    part types mypy
    part shellcheck lint_shell
    [ -z "$failed" ]
}

# These mostly wait, for installers and restarts, or are work that somebody else does (promtool, the
# twin, the replay of power cuts), or work alone; they mind no time.
waiting=(
    tests/e2e/test_e2e_quickstart.py tests/soc tests/unit/deploy/test_deploy_environment.py
    tests/unit/telemetry/test_telemetry_alert_rules.py tests/differential
    tests/faults/test_faults_power_cut.py tests/fuzz tests/approvals
    tests/unit/cli/test_cli_demo.py tests/unit/ledger tests/unit/test_served_memory.py
    tests/unit/proxy/test_proxy_detectors_pieces.py
)
# Beside the other tests, for they keep one core each at most and the tests often wait. Never beside
# the serial ones, and behind the tests wherever both want a core.
beside() {
    renice -n 10 -p "$BASHPID" >/dev/null 2>&1
    part waiting "$python" -m pytest -m "not serial" --durations=5 "${waiting[@]}"
    [ -z "$failed" ]
}
beside_checks() {
    renice -n 15 -p "$BASHPID" >/dev/null 2>&1
    [ -z "$is_ci" ] || checks
}
said=$(mktemp -d)
trap 'rm -rf "$said"' EXIT
beside_checks >"$said/checks" 2>&1 &
checks_pid=$!
beside >"$said/beside" 2>&1 &
beside_pid=$!
# The folders whose files take long come first, so that no worker is left alone with one at the end.
# Three of them on two cores: half of their time is spent waiting for what is to happen.
folders=(tests/faults tests/e2e tests/wire)
for folder in tests/*/; do
    folder=${folder%/}
    if [[ " ${folders[*]} ${waiting[*]} " != *" $folder "* ]] &&
        [ -n "$(find "$folder" -name 'test_*.py' -print -quit)" ]; then
        folders+=("$folder")
    fi
done
part tests "$python" -m pytest -n 3 --dist loadfile --no-loadscope-reorder -m "not serial" \
    --durations=15 "${waiting[@]/#/--ignore=}" "${folders[@]}"
wait "$checks_pid" || failed="$failed checks"
wait "$beside_pid" || failed="$failed beside"
cat "$said/checks" "$said/beside"
if [ -n "$failed" ]; then
    echo "FAILED so far:$failed"
fi
echo "== serial tests"
# Only the files that have some: to collect all the others takes longer than some of these tests.
serial_files=()
while IFS= read -r file; do
    serial_files+=("$file")
done < <(grep -rl --include='test_*.py' 'mark\.serial' tests | sort)
"$python" -m pytest -m serial --durations=15 "${serial_files[@]}" || failed="$failed serial"
[ -z "$failed" ]
