#!/usr/bin/env bash
# Makes a private Python environment from a hash-locked requirements file.
#
#   deploy/environment.sh VENV_DIR LOCKFILE
#
# uv if it works, else python3 -m venv, else virtualenv, else the one line that installs what is
# missing. Installs only what the lock names, with hashes checked, and nothing at all if that very
# lock is installed already. The project itself is not built: a .pth file makes it importable and
# VENV_DIR/bin/aegis-sidecar starts it. Needs no root. Can be run again at any time, also after the
# clone was moved. Prints one line.

# A subshell, so that sourcing this file leaves the caller's options and variables alone.
aegis_environment() (
    set -eu

    fail() {
        echo "environment: $*" >&2
        exit 1
    }

    # Whether $1 runs and is Python 3.11 to 3.14: for later ones not all that is installed has been
    # released yet. A pyenv shim may exist and not run.
    is_python() {
        "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 15))' >/dev/null 2>&1
    }

    is_too_new() {
        "$1" -c 'import sys; sys.exit(sys.version_info < (3, 15))' >/dev/null 2>&1
    }

    version_of() {
        "$1" -c 'import platform; print(platform.python_version())'
    }

    # Debian ships Python without the part that `-m venv` needs.
    can_make_venv() {
        "$1" -c 'import ensurepip, venv' >/dev/null 2>&1
    }

    find_python() {
        for name in python3.14 python3.13 python3.12 python3.11 python3; do
            if command -v "$name" >/dev/null 2>&1 && is_python "$name"; then
                echo "$name"
                return
            fi
        done
    }

    find_python_with_venv() {
        for name in python3.14 python3.13 python3.12 python3.11 python3; do
            if command -v "$name" >/dev/null 2>&1 && is_python "$name" && can_make_venv "$name"; then
                echo "$name"
                return
            fi
        done
    }

    has_uv() {
        uv --version >/dev/null 2>&1
    }

    say_what_is_missing() {
        if command -v brew >/dev/null 2>&1; then
            cure="brew install python@3.14"
        elif command -v apt-get >/dev/null 2>&1; then
            cure="sudo apt install python3-venv"
            if [ -z "$python" ] && is_too_new python3; then
                cure="sudo apt install python3.14-venv"
            elif [ -z "$python" ] && command -v python3 >/dev/null 2>&1; then
                cure="sudo apt install python3.11-venv"
            elif [ -n "$python" ] && [ "$python" != python3 ]; then
                cure="sudo apt install $python-venv"
            fi
        else
            cure="curl -LsSf https://astral.sh/uv/install.sh | sh"
        fi
        fail "Python 3.11 to 3.14 with venv is missing. Install it with: $cure"
    }

    # Only what is an environment already, or nothing yet, may be overwritten.
    refuse_foreign_folder() {
        if [ -e "$venv" ] && [ ! -f "$venv/pyvenv.cfg" ] && [ -n "$(ls -A "$venv")" ]; then
            fail "$venv exists and is no Python environment: name another folder"
        fi
    }

    # Else the tools would fail, which say no more than that one is missing.
    require_room() {
        if ! { mkdir -p "$venv" && [ -w "$venv" ]; } 2>/dev/null; then
            fail "$venv cannot be written: name another folder (AEGIS_VENV of quickstart.sh)"
        fi
    }

    make_with_uv() {
        has_uv || return 1
        if [ -n "$python" ]; then
            UV_VENV_CLEAR=1 uv venv -q --no-project --no-python-downloads \
                --python "$(command -v "$python")" "$venv" 2>/dev/null
        else
            UV_VENV_CLEAR=1 uv venv -q --no-project --python '>=3.11,<3.15' "$venv" 2>/dev/null
        fi
    }

    make_with_venv() {
        [ -n "$python_with_venv" ] || return 1
        "$python_with_venv" -m venv --clear "$venv" >/dev/null 2>&1
    }

    make_with_virtualenv() {
        [ -n "$python" ] || return 1
        if virtualenv --version >/dev/null 2>&1; then
            virtualenv -q --clear -p "$python" "$venv" >/dev/null 2>&1
        elif "$python" -m virtualenv --version >/dev/null 2>&1; then
            "$python" -m virtualenv -q --clear "$venv" >/dev/null 2>&1
        else
            return 1
        fi
    }

    is_usable() {
        [ -f "$venv/pyvenv.cfg" ] && is_python "$venv/bin/python" || return 1
        has_uv || "$venv/bin/python" -m pip --version >/dev/null 2>&1
    }

    make() {
        refuse_foreign_folder
        require_room
        python=$(find_python)
        python_with_venv=$(find_python_with_venv)
        if make_with_uv; then
            tool=uv
        elif make_with_venv; then
            tool=venv
        elif make_with_virtualenv; then
            tool=virtualenv
        else
            say_what_is_missing
        fi
    }

    uv_install() {
        uv pip install -q --require-hashes --python "$venv/bin/python" -r "$lock" 2>&1
    }

    pip_install() {
        "$venv/bin/python" -m pip install -q --require-hashes --no-input --no-user \
            --disable-pip-version-check --no-warn-script-location -r "$lock" 2>&1
    }

    # Says what went wrong in full if it does, else nothing. uv brings its own list of
    # authorities; where a company's proxy has another, the system's list knows it.
    install() {
        if ! has_uv; then
            output=$(pip_install) && return
        else
            output=$(uv_install) && return
            case $output in
                *certificate*)
                    export UV_SYSTEM_CERTS=true UV_NATIVE_TLS=true
                    output=$(uv_install) && return
                    ;;
            esac
        fi
        fail "installing from $lock failed:
$output"
    }

    checksum() {
        "$venv/bin/python" - "$lock" <<'PYTHON'
import hashlib, pathlib, sys
print(hashlib.sha256(pathlib.Path(sys.argv[1]).read_bytes()).hexdigest(), sys.version.split()[0])
PYTHON
    }

    # Written whole and renamed: a command that starts meanwhile finds the old one or the new one.
    link_project() {
        folder=$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
        printf '%s\n' "$root" >"$folder/aegis-sidecar.pth.$$"
        mv -f "$folder/aegis-sidecar.pth.$$" "$folder/aegis-sidecar.pth"
        quoted=$(printf '%s' "$venv/bin/python" | sed "s/'/'\\\\''/g")
        {
            echo '#!/bin/sh'
            echo "exec '$quoted' -P -c 'import sys; from sidecar.cli.main import main; sys.exit(main())' \"\$@\""
        } >"$venv/bin/aegis-sidecar.$$"
        chmod 755 "$venv/bin/aegis-sidecar.$$"
        mv -f "$venv/bin/aegis-sidecar.$$" "$venv/bin/aegis-sidecar"
    }

    [ $# -eq 2 ] || fail "usage: deploy/environment.sh VENV_DIR LOCKFILE"
    [ -f "$2" ] || fail "$2 is no file"
    unset PYTHONHOME PYTHONPATH VIRTUAL_ENV PIP_USER PIP_TARGET PIP_PREFIX
    export UV_LINK_MODE="${UV_LINK_MODE:-copy}"
    if [ ! -w "${UV_CACHE_DIR:-${XDG_CACHE_HOME:-${HOME:-/nonexistent}}}" ]; then
        export UV_NO_CACHE=1
    fi
    root=$(cd "$(dirname "${BASH_SOURCE[0]:-$0}")/.." && pwd)
    lock=$(cd "$(dirname "$2")" && pwd)/$(basename "$2")
    mkdir -p "$(dirname "$1")"
    venv=$(cd "$(dirname "$1")" && pwd)/$(basename "$1")
    stamp=$venv/aegis-sidecar.lock.sha256

    tool=
    is_usable || make
    wanted=$(checksum)
    if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ]; then
        echo "environment: $venv is up to date"
    else
        count=$(grep -c '^[A-Za-z0-9]' "$lock" || true)
        echo "environment: $venv, Python $(version_of "$venv/bin/python")${tool:+ by $tool}," \
            "$count packages from $(basename "$lock")"
        rm -f "$stamp"
        install
        printf '%s\n' "$wanted" >"$stamp"
    fi
    link_project
)

aegis_environment "$@"
