"""`aegis-sidecar wrap` that cannot begin, what it says and leaves behind; and its first files."""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from sidecar.cli.main import main
from sidecar.errors import StartRefused
from sidecar.wrap import files
from sidecar.wrap.files import make_folder, write_first_files

NOBODY = 65534
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="who is not root cannot become nobody")


@contextlib.contextmanager
def nobody() -> Iterator[None]:
    """Whoever meets what root has made."""
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["--name", "v1", "--", "true"], 2, "'v1' is no name: the sidecar's own paths begin with"),
        (["--name", "a b", "--", "true"], 2, "'a b' is no name: a name has lower-case letters"),
        (["--name", "x", "--import-tools", "--", "npx -y a"], 127, "its arguments stand apart"),
        (["--name", "x", "--import-tools", "--", "no-such-one"], 127, "'no-such-one' in PATH, "),
    ],
)
def test_what_is_wrong_with_the_command_line(
    arguments: list[str], status: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["wrap", *arguments]) == status
    assert said in capsys.readouterr().err


def test_whose_options_are_taken_for_ours_is_shown_where_they_stand(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        main(["wrap", "--name", "x", "npx", "-y", "server"])
    said = capsys.readouterr().err
    assert "-- COMMAND [ARGUMENT ...]" in said and "there is no -y here" in said


def test_a_folder_that_cannot_be_asked_for_is_refused_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", f"{tmp_path}/{'a' * 300}")
    assert main(["wrap", "--name", "x", "--", "true"]) == 1
    said = capsys.readouterr().err
    assert said.endswith(
        "cannot be made: File name too long; name another folder with --data-dir\n"
    )


@as_root
def test_a_folder_of_somebody_else_is_refused_in_words() -> None:
    """As after one `sudo`: what root has made is shut."""
    with tempfile.TemporaryDirectory(prefix="aegis-wrap-") as folder:
        Path(folder).chmod(0o755)
        home = Path(folder) / "files"
        make_folder(home)
        with nobody(), pytest.raises(StartRefused, match="Permission denied; name another folder"):
            write_first_files(home, "files")
        with nobody(), pytest.raises(StartRefused, match="Permission denied; name another folder"):
            make_folder(home / "further" / "down")
        assert write_first_files(home, "files").exists(), "positive control"


def test_a_full_disk_leaves_no_draft_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(files.os, "fsync", full)
        with pytest.raises(StartRefused, match="No space left"):
            write_first_files(tmp_path, "files")
    assert [one for one in tmp_path.rglob("*") if one.is_file()] == []
    assert write_first_files(tmp_path, "files").exists()


def test_commands_in_the_first_files_can_be_typed_as_they_stand(tmp_path: Path) -> None:
    folder = tmp_path / "two words"
    make_folder(folder)
    text = write_first_files(folder, "files").read_text()
    assert f"receipts export --config '{folder}/sidecar.yaml'" in text
    assert f"approvals watch --config '{folder}/sidecar.yaml'" in text


def test_nothing_is_to_be_said_of_the_first_rules(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """They name the command that checks them, and whoever types it has changed nothing yet."""
    config = write_first_files(tmp_path, "files")
    check = ["policy", "check", "--strict", "--config", str(config)]
    assert main(check) == 0
    assert capsys.readouterr().err == ""
    rules = tmp_path / "policies" / "start.yaml"
    rules.write_text(rules.read_text().replace('"files/unknown", ', ""))
    assert main(check) == 1
    assert '"files/*" names no tool' in capsys.readouterr().err, "positive control"


def test_a_rule_of_a_tool_that_nobody_declared_is_told_what_it_needs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The example in the first rules, with its # taken away: by itself it refuses nothing."""
    config = write_first_files(tmp_path, "files")
    rules, tools = (tmp_path / "policies" / name for name in ("start.yaml", "tools.yaml"))
    lines = rules.read_text().split("\n")
    at = lines.index("#  - id: no-deleting")
    rules.write_text("\n".join([*lines[:at], *(one.removeprefix("#") for one in lines[at:])]))
    check = ["policy", "check", "--config", str(config)]
    assert main(check) == 0
    said = capsys.readouterr().err
    assert "no tool can meet this rule" in said and "a catalogue declares" in said
    tools.write_text(tools.read_text().replace("#  delete_file", "  delete_file"))
    assert main(check) == 0
    assert capsys.readouterr().err == "", "positive control"
