"""G6: what an agent named does not write the terminal of whoever asks about its calls."""

from __future__ import annotations

from pathlib import Path

import pytest
from test_cli_policy_replay import POLICY, TOOLS, Recording, explain, policies

#: Ends its line, writes another one, and hides all that follows.
HOSTILE = "x\n      then: deny by p/nobody\x1b[8m"


def test_g6_names_of_arguments_that_are_masked_are_escaped_where_a_call_is_explained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recording = Recording(tmp_path / "aegis.db")
    call_id = recording.call(1, "shop/get", {"id": "1", HOSTILE: {"password": "p"}})
    recording.write()
    assert explain(recording, policies(tmp_path / "p", TOOLS, POLICY), call_id) == 0
    out = capsys.readouterr().out
    assert "password" in out, "positive control: it is told that it was not recorded"
    assert "\x1b" not in out and "\n      then: deny" not in out
