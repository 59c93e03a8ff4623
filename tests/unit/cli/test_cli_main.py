"""The command line as a whole: finds commands, explains itself, keeps to its exit codes."""

from __future__ import annotations

import importlib
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import sidecar
from sidecar.cli.main import COMMANDS, main


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "sidecar.cli.main", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_the_same_shape(name: str) -> None:
    module = importlib.import_module(f"sidecar.cli.{name}")
    assert name == module.NAME
    assert module.HELP and len(module.HELP) < 80
    assert callable(module.add_arguments) and callable(module.run)


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit:
        main(["--help"])
    assert exit.value.code == 0
    words = capsys.readouterr().out.split()
    assert set(COMMANDS) <= set(words)


@pytest.mark.parametrize("name", ["status", "reload", "health", "store", "serve"])
def test_help_of_one_command(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit:
        main([name, "--help"])
    assert exit.value.code == 0
    assert f"aegis-sidecar {name}" in capsys.readouterr().out


def test_the_version_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit:
        main(["--version"])
    assert exit.value.code == 0
    assert capsys.readouterr().out == f"aegis-sidecar {sidecar.__version__}\n"


def test_an_unknown_command_is_wrong_usage_with_the_nearest(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["statsu"]) == 2
    assert "did you mean status?" in capsys.readouterr().err
    assert main(["../serve"]) == 2


def test_wrong_usage_is_two() -> None:
    for arguments in ((), ("store",), ("status", "--nonsense"), ("health", "--timeout", "x")):
        done = run(*arguments)
        assert (done.returncode, done.stdout) == (2, ""), arguments
        assert "usage:" in done.stderr


@pytest.mark.parametrize(("arguments", "said"), [
    (("receipts", "verify", "x", "--facts"),
     "usage: aegis-sidecar receipts verify|there is no --facts here"),
    (("serve", "--confg", "x"), "usage: aegis-sidecar serve|--confg here; did you mean --config?"),
    (("serve", "now"), "usage: aegis-sidecar serve|nothing more is wanted: now"),
    (("--versio", "status"), "there is no --versio here; did you mean --version?"),
    (("policy", "chek"), "usage: aegis-sidecar policy|'chek' is not one of check, test, |"
     "; did you mean check?"),
    (("keys", "create", "ana", "--role", "approvr"), "argument --role: 'approvr' is not one of |"
     "; did you mean approver?"),
    (("policy",), "usage: aegis-sidecar policy|print every problem with its place"),
    ((), "usage: aegis-sidecar|run the sidecar"),
])  # fmt: skip
def test_wrong_usage_is_told_by_the_command_it_was_given_to(
    arguments: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit:
        main(arguments)
    assert exit.value.code == 2
    output, errors = capsys.readouterr()
    assert output == ""
    assert [part for part in said.split("|") if part not in errors] == [], errors


def test_the_help_of_an_action_says_what_it_does(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit:
        main(["store", "restore", "--help"])
    assert exit.value.code == 0
    said = capsys.readouterr().out
    assert "Put a backup in the store's place; the sidecar must be" in said
    assert "--config FILE" in said and "--data-dir FOLDER" in said


@pytest.mark.parametrize("line", [
    "store erase --user", "store erase --agent", "store erase --call",
    "store erase --agent a --tenant", "store prune call_facts --older-than 90d --tenant",
    "contain block-tool shop/x --for", "contain block-tool shop/x --agent",
    "tools accept files read --seen", "approvals link id --for ana --group",
])  # fmt: skip
def test_a_variable_that_is_not_set_does_not_mean_all(
    line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """`store prune … --tenant "$TENANT"` would let go of everyone's."""
    with pytest.raises(SystemExit) as exit:
        main([*line.split(), ""])
    assert exit.value.code == 2
    assert "it is empty; a variable that is not set?" in capsys.readouterr().err


def test_a_missing_configuration_is_two_and_says_what_to_do(tmp_path: Path) -> None:
    for command in (["status"], ["reload"], ["store", "status"], ["health"]):
        done = run(*command, "--config", str(tmp_path / "none.yaml"))
        assert done.returncode == 2, done.stderr
        assert "none.yaml" in done.stderr
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", [
    "status", "health", "store status", "store info", "store unfence", "tools diff", "runs show a",
    "receipts export", "policy check", "soc backtest",
])  # fmt: skip
def test_what_is_named_in_place_of_a_configuration_can_be_given(
    command: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(command.split()) == 2
    other = re.search(r"\(or name .*?(--[a-z-]+|PATH|files)", capsys.readouterr().err)
    assert other is not None
    with pytest.raises(SystemExit):
        main([*command.split(), "--help"])
    named = "PATH" if other[1] == "files" else other[1]
    assert named in capsys.readouterr().out


@pytest.mark.parametrize(("command", "wanted"), [
    ("tools forget", "UPSTREAM"), ("policy promote", "POLICY[/RULE]"),
])  # fmt: skip
def test_what_can_be_left_out_is_not_said_to_be_required(
    command: str, wanted: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(command.split())
    assert capsys.readouterr().err.rstrip().endswith(f"are required: {wanted}")


def test_health_of_a_sidecar_that_speaks_tls_and_is_not_there_names_what_it_takes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    certificate, key = tmp_path / "c.pem", tmp_path / "k.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out",
         certificate, "-subj", "/CN=localhost"],
        check=True, capture_output=True, timeout=60,
    )  # fmt: skip
    key.chmod(0o600)
    (tmp_path / "sidecar.yaml").write_text(
        "policies: pack:read-only\nupstreams: {demo: {url: 'http://127.0.0.1:9'}}\n"
        "listen:\n"
        "  control: {address: '127.0.0.1:1', tls: {cert: {file: c.pem}, key: {file: k.pem}}}\n"
    )
    assert main(["health", "--config", str(tmp_path / "sidecar.yaml")]) == 1
    said = capsys.readouterr().err
    assert "control.sock: start it, or ask another with --url" in said and "--data-dir" not in said


def test_the_data_folder_is_found_by_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text("policy: p\nrules: [{id: r, effect: deny, tools: '*'}]\n")
    (tmp_path / "sidecar.yaml").write_text(
        "policies: ./p.yaml\nupstreams: {demo: {url: 'http://127.0.0.1:9'}}\n"
        "store: sqlite:///data/aegis.db\n"
    )
    done = run("status", "--config", str(tmp_path / "sidecar.yaml"))
    assert done.returncode == 1
    assert f"no sidecar runs here: {tmp_path}/data/control.sock" in done.stderr


def test_a_command_that_does_not_serve_imports_no_server() -> None:
    script = (
        "import sys; from sidecar.cli.main import main; main(['status', '--data-dir', '/none']);"
        "print(sorted({'aiohttp', 'pydantic', 'prometheus_client', 'yaml'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout == "[]\n", done.stderr


def test_a_reader_that_leaves_early_is_no_fault() -> None:
    done = subprocess.run(
        f"{sys.executable} -m sidecar.cli.main --help | head -n 1; exit ${{PIPESTATUS[0]}}",
        shell=True,
        executable="/bin/bash",
        capture_output=True,
        text=True,
    )
    assert done.stdout.startswith("usage: aegis-sidecar")
    assert "Traceback" not in done.stderr


def test_a_reader_that_leaves_early_hears_no_verdict(tmp_path: Path) -> None:
    """`receipts verify FILE | head -1` under pipefail: 1 would say that it was tampered with."""
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "sidecar.cli.main", "policy", "packs", "list"]
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, timeout=60, check=False)
    os.close(writing)
    assert (done.returncode, done.stderr) == (128 + signal.SIGPIPE, b"")


ASCII_ONLY = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


def run_in_shell(line: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    program = f"{shlex.quote(sys.executable)} -m sidecar.cli.main"
    return subprocess.run(
        ["sh", "-c", line.replace("aegis-sidecar", program)],
        capture_output=True,
        timeout=60,
        env={**os.environ, **environment},
    )


def test_a_file_or_a_pipe_gets_utf_8_whatever_the_locale_is(tmp_path: Path) -> None:
    """What is printed there (a catalogue, a pack, a schema) is read as UTF-8."""
    written = run_in_shell(f"aegis-sidecar policy schema >{tmp_path}/schema", **ASCII_ONLY)
    assert (written.returncode, written.stderr) == (0, b"")
    assert "\u2026" in (tmp_path / "schema").read_bytes().decode()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is full")
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_no_room_for_what_is_said_is_told_and_no_verdict(unbuffered: str) -> None:
    done = run_in_shell("aegis-sidecar policy packs list >/dev/full", PYTHONUNBUFFERED=unbuffered)
    assert done.returncode == 2
    assert done.stderr.decode().splitlines() == [
        "aegis-sidecar: its output cannot be written: No space left on device"
    ]


@pytest.mark.parametrize(
    ("closed", "status", "said"), [(">&-", 0, b""), ("2>&-", 0, b"cautious"), (">&- 2>&-", 0, b"")]
)
def test_output_that_was_closed_keeps_nothing_from_working(
    closed: str, status: int, said: bytes
) -> None:
    done = run_in_shell(f"aegis-sidecar policy packs list {closed}")
    assert (done.returncode, done.stderr) == (status, b"")
    assert said in done.stdout


def test_without_standard_error_nothing_is_said_where_the_answer_stands() -> None:
    done = run_in_shell("aegis-sidecar policy check /nowhere 2>&-")
    assert (done.returncode, done.stdout) == (1, b"")
