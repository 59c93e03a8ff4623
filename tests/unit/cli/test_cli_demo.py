"""The demo exits with 0 only if everything happened as told, and it can be played again."""

from __future__ import annotations

import shlex
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from sidecar.cli import demo
from sidecar.cli.main import main
from sidecar.demo import files, scenario
from sidecar.demo.operator import Operator


@pytest.fixture(autouse=True)
def free_ports(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other tests run beside this one: any free port will do."""
    for name in ("DATA_PORT", "CONTROL_PORT", "TOOL_PORT"):
        monkeypatch.setattr(demo, name, 0)


def play(folder: Path) -> int:
    return main(["demo", "--once", "--folder", str(folder)])


def test_the_demo_can_be_played_again_and_keeps_what_its_user_wrote(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert play(tmp_path) == 0
    first = capsys.readouterr().out
    table = [line for line in first.splitlines() if line.startswith("   #")]
    assert len(table) > 20 and {len(line) for line in table} == {102}, "the columns stand"
    assert "keys create NAME --role admin --config" in first
    assert "was ended" not in first and "are kept" not in first
    assert "refused (403 policy_deny): this run has read untrusted_external content" in first
    mine = tmp_path / "policies/demo.yaml"
    mine.write_text(mine.read_text() + "# mine\n")
    (tmp_path / "policies/more.yaml").write_text(
        "policy: more\nrules: [{id: none, effect: deny, tools: shop/events}]\n"
    )
    assert play(tmp_path) == 0
    again = capsys.readouterr().out
    assert "what was left of then was ended" in again and f"kept in {mine}.1" in again
    assert Path(f"{mine}.1").read_text().endswith("# mine\n")
    assert (tmp_path / "policies/more.yaml").exists()
    assert again.count("demo/no-large-refunds   ") == 1, "the receipts of this playing only"


def test_an_agent_that_its_user_stopped_plays_again_unless_that_was_for_good(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert play(tmp_path) == 0
    clear_up = Operator.clear_up

    def stopped_by(move: str) -> None:
        async def stopped(operator: Operator) -> bool:
            await operator._ask("/agents/move", {"agent": "agent", "move": move})
            return await clear_up(operator)

        monkeypatch.setattr(Operator, "clear_up", stopped)

    for move in ("freeze", "quarantine"):
        stopped_by(move)
        assert play(tmp_path) == 0, move
    stopped_by("revoke")
    capsys.readouterr()
    assert play(tmp_path) == 1
    said = capsys.readouterr()
    assert "the demo cannot run: its agent is revoked in this folder" in said.err
    assert "--folder" in said.err and "not as expected" not in said.out


#: What is made false: a text of the demo, what is replaced in it; and what the demo says then.
FALSE_STORIES = [
    ("NOTES_CATALOGUE", "untrusted_external", "trusted_internal_signed", "the page wanted is ref"),
    ("CONFIGURATION", "default: deny", "default: observe", "the large refund is refused"),
    ("SHOP_CATALOGUE", '"*": {returns: trusted_internal_unsigned}', "", "small refund is allowed"),
    ("POLICY", "mutates: false", "mutates: false\n    except: notes/read_web_page", "can be read"),
    ("POLICY", "small-refunds", "some-refunds", "told allow by demo/small-refunds, not ('allow', "),
    ("POLICY", "effect: require_approval", "effect: allow", "larger refund waits for a person"),
    ("POLICY", 'tools: "*"\n    mutates: false', 'tools: ["*"]', "the deletion is refused"),
    ("DETECTION", "at_least: 5", "at_least: 1000", "the refusals become an incident"),
    ("CONFIGURATION", "level: respond", "level: notify ", "the refusals become an incident"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "old", "new", "said"), FALSE_STORIES)
def test_a_false_story_fails(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    text: str,
    old: str,
    new: str,
    said: str,
) -> None:
    told = getattr(files, text)
    assert told.count(old) >= 1
    monkeypatch.setattr(files, text, told.replace(old, new))
    monkeypatch.setattr(scenario, "TRIES_MAX", 20)
    assert play(tmp_path) == 1
    shown = capsys.readouterr()
    assert said in shown.err, shown.err
    assert f"!! not as expected: {shown.err.splitlines()[1].strip()}" in shown.out


def test_a_story_that_is_broken_off_has_shown_nothing(tmp_path: Path) -> None:
    script = (
        "import sys; from sidecar.cli import demo; from sidecar.cli.main import main;"
        "demo.DATA_PORT = demo.CONTROL_PORT = demo.TOOL_PORT = 0; sys.exit(main())"
    )
    with subprocess.Popen(
        [sys.executable, "-uc", script, "demo", "--once", "--folder", str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as playing:
        assert playing.stdout is not None
        for line in playing.stdout:
            if line.startswith("2. "):
                playing.send_signal(signal.SIGINT)
        assert playing.wait(30) == 130
        assert playing.stderr is not None and "Traceback" not in playing.stderr.read()


def test_what_is_told_to_be_typed_can_be_typed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    beside = tmp_path / "my tools" / "aegis-sidecar"
    beside.parent.mkdir()
    beside.touch()
    monkeypatch.setattr(demo.sys, "executable", str(beside.with_name("python")))
    folder = tmp_path / "it's mine"
    urls = SimpleNamespace(data_url="http://127.0.0.1:1", control_url="http://127.0.0.1:2")
    demo._say_where_to_go(folder, urls, once=True)  # type: ignore[arg-type]
    told = [line for line in capsys.readouterr().out.splitlines() if "my tools" in line]
    assert len(told) == 7
    for line in told:
        typed = shlex.split(line[line.index("'") :].removesuffix(")"))
        assert typed[0] == str(beside)
        assert Path(typed[-1]).parent == folder
