"""What a command says when it cannot go on: the system's words, and a next step that leads on."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from store_care_setup import call, filled, url_of

from sidecar.cli.main import main
from sidecar.cli.os_error_text import os_error_text
from sidecar.cli.tools_import import ImportFailed, run_list_tools

WHOLE = Path(__file__).parents[2] / "cases" / "receipts" / "must_accept" / "whole.jsonl"
CONFIG = "policies: pack:read-only\nupstreams: {shop: {url: 'http://127.0.0.1:9'}}\n"


@pytest.mark.parametrize(("error", "said"), [
    (FileNotFoundError(2, "No such file or directory", "x.pem"),
     "x.pem: No such file or directory"),
    (OSError(111, "Connect call failed ('127.0.0.1', 5)"), "Connection refused"),
    (OSError("Multiple exceptions: [Errno 111] a, [Errno 101] b"), "Multiple exceptions: a, b"),
    (OSError(28, "No space left on device"), "No space left on device"),
    (ValueError("a key of 5 bytes"), "a key of 5 bytes"),
])  # fmt: skip
def test_what_the_system_says_is_said_in_its_words(error: Exception, said: str) -> None:
    assert os_error_text(error) == said


@pytest.mark.parametrize("arguments", [
    ("receipts", "verify", "gone"),
    ("receipts", "verify", str(WHOLE), "--key", "gone"),
    ("receipts", "verify-proof", "gone", "--key", "gone"),
    ("soc", "verify", "gone.json"),
])  # fmt: skip
def test_a_file_that_is_not_there_is_named_without_numbers(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    said = capsys.readouterr().err
    assert re.search(r"gone(\.json)?: No such file or directory", said) and "Errno" not in said


def test_a_store_that_is_not_there_was_not_tampered_with(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """1 would say so to whoever mistyped a path. An incident may have been taken away."""
    path = filled(tmp_path / "aegis.db", call(1))
    asked = ["soc", "verify", "lost", "--tenant", "acme", "--store"]
    assert main([*asked, url_of(path)]) == 1
    assert "there is no incident 'lost' [unknown_incident]" in capsys.readouterr().err
    assert main([*asked, f"{url_of(path)}.gone"]) == 2
    assert "[store_unavailable]" in capsys.readouterr().err


def test_a_server_that_is_not_there_is_said_once() -> None:
    with pytest.raises(ImportFailed) as failed:
        run_list_tools("http://127.0.0.1:1/mcp", {})
    assert str(failed.value) == "http://127.0.0.1:1/mcp cannot be read: Connection refused"


def test_a_private_key_is_called_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    key = tmp_path / "signing.pem"
    subprocess.run(
        ["openssl", "genpkey", "-algorithm", "ed25519", "-out", str(key)], check=True, timeout=30
    )
    assert main(["receipts", "verify", str(WHOLE), "--key", str(key)]) == 2
    assert "it is a private key" in (said := capsys.readouterr().err)
    assert "`receipts keys --pem` gives the public one" in said


@pytest.mark.parametrize(("first", "hinted"), [(3, True), (1, False)])
def test_a_later_part_of_a_chain_is_told_how_to_verify_it(
    tmp_path: Path, first: int, hinted: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    part = tmp_path / "part.jsonl"
    lines = WHOLE.read_text().splitlines(keepends=True)
    part.write_text("".join(lines[first - 1 :] if first > 1 else [lines[0], *lines[2:]]))
    assert main(["receipts", "verify", str(part)]) == 1
    said = capsys.readouterr().out
    assert said.startswith("TAMPERED: line ")
    assert (f"verify it with --first-seq {first}" in said) is hinted
    if hinted:
        assert main(["receipts", "verify", str(part), "--first-seq", str(first)]) == 0


@pytest.mark.parametrize(("store", "step"), [
    ("aegis.db", "Correct the path: that of `store` is relative to the folder of sidecar.yaml."),
    ("nowhere/aegis.db", "Correct the path:"),
])  # fmt: skip
def test_where_no_store_is_the_path_is_asked_for_and_no_log(
    tmp_path: Path, store: str, step: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["store", "info", "--store", f"sqlite:///{tmp_path}/{store}"]) == 1
    said = capsys.readouterr().err
    assert "there is no store at" in said and "[store_unavailable]" in said
    assert step in said and "Read the log" not in said


def test_a_start_in_a_folder_that_is_not_there_says_to_create_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "sidecar.yaml").write_text(CONFIG + "store: sqlite:///nowhere/aegis.db\n")
    assert main(["serve", "--config", str(tmp_path / "sidecar.yaml")]) == 1
    said = capsys.readouterr().err
    assert "nowhere does not exist [store_unavailable]" in said
    assert "Create the folder, for the sidecar's user, or correct the path." in said
